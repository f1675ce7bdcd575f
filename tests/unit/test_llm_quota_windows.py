"""Windows of quotas: no gap, no overlap, and clocks that are put forward and back."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reanimate.quota.windows import Window, WindowKind, window_at

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe",
    "America/Sao_Paulo", "America/Havana", "Africa/Cairo", "America/St_Johns", "Pacific/Apia",
)  # fmt: skip


def at(zone: str, *when: int, fold: int = 0) -> int:
    return int(datetime(*when, tzinfo=ZoneInfo(zone), fold=fold).timestamp())  # type: ignore[misc,arg-type]


@given(
    kind=st.sampled_from(("minute", "hour", "day", "month")),
    zone=st.sampled_from(ZONES),
    now=st.floats(946_684_800, 2_200_000_000),
)
def test_windows__cut_time_without_gap_or_overlap(kind: WindowKind, zone: str, now: float) -> None:
    """A moment is in its window, both ends agree about it, and the next one begins where it ends."""
    window = window_at(kind, zone, now)
    assert window.starts <= now < window.ends
    assert window_at(kind, zone, window.starts) == window
    assert window_at(kind, zone, window.ends - 1) == window
    assert window_at(kind, zone, window.ends).starts == window.ends


@pytest.mark.parametrize(
    ("day", "hours"),
    [((2026, 3, 28), 24), ((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 10, 26), 24)],
)
def test_day__has_as_many_hours_as_its_zone_gives_it(day: tuple[int, int, int], hours: int) -> None:
    """The day on which clocks are put forward has 23, the one on which they are put back 25."""
    window = window_at("day", "Europe/Berlin", at("Europe/Berlin", *day, 12))
    assert window.starts == at("Europe/Berlin", *day)
    assert window.ends - window.starts == hours * 3600


def test_hour_that_comes_twice__is_two_windows() -> None:
    """02:30 summer time and 02:30 winter time do not share a limit."""
    first = window_at("hour", "Europe/Berlin", at("Europe/Berlin", 2026, 10, 25, 2, 30))
    second = window_at("hour", "Europe/Berlin", at("Europe/Berlin", 2026, 10, 25, 2, 30, fold=1))
    assert (first.ends, first.ends - first.starts, second.ends - second.starts) == (second.starts, 3600, 3600)


def test_day_without_a_midnight__begins_when_clocks_are_put_forward() -> None:
    """In São Paulo 2018-11-04 began at 01:00."""
    window = window_at("day", "America/Sao_Paulo", at("America/Sao_Paulo", 2018, 11, 4, 12))
    assert window == Window(at("America/Sao_Paulo", 2018, 11, 4, 1), at("America/Sao_Paulo", 2018, 11, 5))
    assert window.ends - window.starts == 23 * 3600


def test_day_that_does_not_exist__is_no_window() -> None:
    """Samoa went from 29 to 31 December 2011."""
    window = window_at("day", "Pacific/Apia", at("Pacific/Apia", 2011, 12, 29, 23, 59))
    assert window.ends == at("Pacific/Apia", 2011, 12, 31)


def test_month__begins_on_the_first_of_its_zone() -> None:
    """On 1 March at 00:30 in Tokyo, it is still February in London."""
    now = at("Asia/Tokyo", 2028, 3, 1, 0, 30)
    assert window_at("month", "Asia/Tokyo", now).starts == at("Asia/Tokyo", 2028, 3, 1)
    february = window_at("month", "Europe/London", now)
    assert timedelta(seconds=february.ends - february.starts) == timedelta(days=29)


def test_hour_of_a_zone_between_hours__follows_its_own_clock() -> None:
    """In Kathmandu an hour begins at a quarter past of UTC."""
    window = window_at("hour", "Asia/Kathmandu", at("UTC", 2026, 1, 1, 12, 20))
    assert window.starts == at("UTC", 2026, 1, 1, 12, 15)
