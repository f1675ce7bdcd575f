"""Slots over the changes of the clocks, and what is caught up after an outage."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reanimate.errors import ConfigInvalid
from reanimate.protection.schedules import PATIENCE, Schedule, every_minutes, is_steady, missed

ZONES = ["Europe/Berlin", "America/New_York", "UTC", "Australia/Lord_Howe"]
DAILY, WEEKLY, PARTIAL = "0 2 * * *", "0 3 * * 0", "*/15 * * * *"


def slots(cron: str, zone: str, begin: str, end: str) -> list[datetime]:
    """Every slot between two local times."""
    schedule = Schedule("test", cron, zone)
    moment = datetime.fromisoformat(begin).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    until = datetime.fromisoformat(end).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    found = []
    while (moment := schedule.slot_after(moment)) < until:
        found.append(moment)
    return found


def utc(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-{text}").replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "zone", "begin", "expected"),
    [
        # 02:00 does not exist on 29 March: 03:00 is the first moment that does.
        (DAILY, "Europe/Berlin", "03-28", ["03-28 01:00", "03-29 01:00", "03-30 00:00"]),
        # 02:00 occurs twice on 25 October: the first time counts.
        (DAILY, "Europe/Berlin", "10-24", ["10-24 00:00", "10-25 00:00", "10-26 01:00"]),
        ("30 2 * * *", "Europe/Berlin", "03-28", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        ("30 2 * * *", "Europe/Berlin", "10-24", ["10-24 00:30", "10-25 00:30", "10-26 01:30"]),
        (DAILY, "America/New_York", "03-07", ["03-07 07:00", "03-08 07:00", "03-09 06:00"]),
        (DAILY, "America/New_York", "10-31", ["10-31 06:00", "11-01 07:00", "11-02 07:00"]),
        ("0 1 * * *", "America/New_York", "10-31", ["10-31 05:00", "11-01 05:00", "11-02 06:00"]),
        # Half an hour only: 02:00 is put on to 02:30 in October, and back to 01:30 in April.
        (DAILY, "Australia/Lord_Howe", "10-03", ["10-02 15:30", "10-03 15:30", "10-04 15:00"]),
        (DAILY, "Australia/Lord_Howe", "04-04", ["04-03 15:00", "04-04 15:30", "04-05 15:30"]),
        ("45 1 * * *", "Australia/Lord_Howe", "04-04", ["04-03 14:45", "04-04 14:45", "04-05 15:15"]),
        (DAILY, "UTC", "03-28", ["03-28 02:00", "03-29 02:00", "03-30 02:00"]),
        # Both changes fall on Sundays, at the hour of the weekly one or just before it.
        (WEEKLY, "Europe/Berlin", "03-28", ["03-29 01:00"]),
        (WEEKLY, "Europe/Berlin", "10-24", ["10-25 02:00"]),
        (WEEKLY, "America/New_York", "03-07", ["03-08 07:00"]),
    ],
)
def test_slots__over_the_changes_of_the_clocks(cron: str, zone: str, begin: str, expected: list[str]) -> None:
    """Three days around each change, worked out by hand."""
    first = datetime.fromisoformat(f"2026-{begin}")
    found = slots(cron, zone, str(first - timedelta(minutes=1)), str(first + timedelta(days=3)))
    assert found == [utc(text) for text in expected]


@pytest.mark.parametrize("zone", ZONES)
def test_slots__one_each_local_day_of_the_year(zone: str) -> None:
    """No day without a backup, none with two."""
    found = slots(DAILY, zone, "2025-12-31T23:00", "2027-01-01T00:00")
    assert len({slot.astimezone(ZoneInfo(zone)).date() for slot in found}) == len(found) == 365
    assert len(slots(WEEKLY, zone, "2025-12-31T23:00", "2027-01-01T00:00")) == 52


@pytest.mark.parametrize("zone", ZONES)
def test_slots__every_quarter_of_an_hour_means_just_that(zone: str) -> None:
    """No gap and no double in the nights when the clocks change: the recovery point objective does not sleep."""
    for begin in ("2026-03-07", "2026-03-28", "2026-04-04", "2026-10-03", "2026-10-24", "2026-10-31"):
        end = f"{datetime.fromisoformat(begin) + timedelta(days=2):%Y-%m-%d}"
        found = slots(PARTIAL, zone, begin, end)
        assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=15)}


@settings(deadline=None)
@given(
    st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.sampled_from(ZONES),
    st.sampled_from([DAILY, WEEKLY, PARTIAL, "30 2 * * *", "45 1 * * *"]),
)
def test_slots__the_newest_one_and_the_next_one_have_nothing_between(moment: datetime, zone: str, cron: str) -> None:
    """Looking back and looking ahead agree, at whatever moment one looks."""
    schedule = Schedule("test", cron, zone)
    newest, coming = schedule.slot_at(moment), schedule.slot_after(moment)
    assert newest <= moment < coming
    assert schedule.slot_after(newest) == coming
    assert schedule.slot_at(newest) == newest
    assert schedule.slot_at(coming - timedelta(seconds=1)) == newest


def test_missed__once_however_long_it_was() -> None:
    """Down for a week: the newest slot is caught up, and those before it are not."""
    schedule = Schedule("nightly", DAILY, "UTC")
    assert missed(schedule, utc("11-18 02:00"), utc("11-25 09:00")) == utc("11-25 02:00")
    assert missed(schedule, utc("11-25 02:00"), utc("11-25 09:00")) is None


def test_missed__the_night_when_prefect_comes_an_hour_early() -> None:
    """At 01:00 of 29 March its run finds last night's slot, which is done; tonight's is at 03:00, and is caught up."""
    schedule, early = Schedule("nightly", DAILY, "Europe/Berlin"), utc("03-29 00:00")
    yesterday = utc("03-28 01:00")
    assert schedule.slot_at(early) == yesterday
    assert missed(schedule, yesterday, early + PATIENCE) is None
    assert missed(schedule, yesterday, utc("03-29 01:00") + PATIENCE) == utc("03-29 01:00")


def test_missed__not_before_prefect_had_its_chance() -> None:
    """At the very minute, Prefect's own run is about to begin."""
    schedule, yesterday = Schedule("nightly", DAILY, "UTC"), utc("11-24 02:00")
    assert missed(schedule, yesterday, utc("11-25 02:01")) is None
    assert missed(schedule, yesterday, utc("11-25 02:00") + PATIENCE) == utc("11-25 02:00")


def test_missed__nothing_on_a_new_installation() -> None:
    """Started at nine, it did not miss two in the morning."""
    assert missed(Schedule("nightly", DAILY, "UTC"), None, utc("11-25 09:00")) is None


def test_every_minutes__only_what_cuts_an_hour_or_a_day() -> None:
    """Every 25 minutes would begin anew at each hour."""
    assert [every_minutes(minutes) for minutes in (5, 15, 60, 120)] == [
        "*/5 * * * *",
        "*/15 * * * *",
        "0 */1 * * *",
        "0 */2 * * *",
    ]
    for minutes in (25, 7, 61, 300):
        with pytest.raises(ConfigInvalid):
            every_minutes(minutes)
    assert is_steady(every_minutes(15))
    assert not is_steady(DAILY)


def test_schedule__a_line_that_is_none() -> None:
    """It says which schedule, and what is written there."""
    with pytest.raises(ConfigInvalid, match=r"nightly.*at two"):
        Schedule("nightly", "at two", "UTC").slot_at(utc("11-25 09:00"))
