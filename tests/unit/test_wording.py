"""How figures read to people."""

from datetime import UTC, datetime

import pytest

from reanimate.incidents.wording import clock_time, count, duration, moment, readable, share, size, words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "–"),
        (0, "0 s"),
        (0.0312, "31 ms"),
        (0.9996, "1.00 s"),
        (1.134, "1.13 s"),
        (9.999, "10.0 s"),
        (36.82, "36.8 s"),
        (99.97, "1 min 40 s"),
        (119.7, "2 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (4321, "1 h 12 min"),
        (86_400 + 7_300, "1 d 2 h"),
        (-5, "-5.00 s"),
    ],
)
def test_duration__two_greatest_units(seconds: float | None, said: str) -> None:
    """A length of time never reads as 60 of a unit, nor as zero when it is not known."""
    assert duration(seconds) == said


def test_moment__says_its_zone() -> None:
    """A moment is shown in UTC, whatever zone it came in, and says so."""
    assert moment("2026-11-22T04:12:04+01:00") == "2026-11-22 03:12:04 UTC"
    assert clock_time(datetime(2026, 11, 22, 3, 12, 4, 120_999, tzinfo=UTC)) == "03:12:04.120"
    assert moment(None) == "–"


def test_count__with_its_noun() -> None:
    """One is one, many are many, and nothing known is not zero."""
    assert (count(1, "read"), count(2286, "point"), count(None)) == ("1 read", "2,286 points", "–")
    assert count(2, "write was", "writes were") == "2 writes were"


def test_share__small_ones_keep_a_digit() -> None:
    """A small share is not rounded away."""
    assert (share(0.0102), share(0.512), share(1.25), share(None)) == ("1.0 %", "51 %", "125 %", "–")


def test_size__binary_units() -> None:
    """Bytes are said in units that fit."""
    assert (size(512), size(9_441_907), size(None)) == ("512 bytes", "9.0 MiB", "–")


def test_words__keep_abbreviations() -> None:
    """Names of the code become words."""
    assert words("llm_api_unavailable") == "LLM API unavailable"


def test_readable__any_json_on_one_line() -> None:
    """Evidence of any shape reads without brackets and quotes."""
    assert readable({"size": 384, "exact": True, "alias": None}) == "size 384, exact yes, alias –"
    assert readable([{"share": 10, "of": [1, 2]}, {"share": 50}]) == "share 10, of (1, 2); share 50"
    assert readable({"took_s": 15.81}) == "took 15.8 s"
    assert (readable([]), readable({})) == ("none", "nothing")
