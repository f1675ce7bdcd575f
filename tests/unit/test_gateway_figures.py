"""Counts over a window that moves, and totals that are kept."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reanimate.gateway.vector.figures import Figures, Outcome
from reanimate.gateway.vector.metrics import render
from reanimate.gateway.vector.totals import Totals

START = 1_800_000_000.0


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def _at(second: float) -> datetime:
    return datetime.fromtimestamp(START + second, UTC)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def figures(clock: Clock) -> Figures:
    return Figures(clock)


def test_figures__a_window_counts_from_its_second_on(figures: Figures, clock: Clock) -> None:
    """What happened before `since` is not in."""
    for second in range(10):
        clock.now = START + second
        figures.read(Outcome.ANSWERED, 1.0 + second)
    assert figures.since(_at(7))["reads"]["asked"] == 3
    assert figures.since(_at(7))["since"] == _at(7).isoformat()
    assert figures.since(None)["reads"] == {
        "asked": 10, "answered": 10, "degraded": 0, "failed": 0, "abandoned": 0, "slowest_ms": 10.0,
    }  # fmt: skip


def test_figures__asked_is_the_sum_of_how_reads_ended(figures: Figures) -> None:
    """Degraded answers are answers; one that was cut or abandoned is not."""
    for outcome in (Outcome.ANSWERED, Outcome.DEGRADED, Outcome.FAILED, Outcome.ABANDONED):
        figures.read(outcome, 1.0)
    reads = figures.since(None)["reads"]
    assert (reads["asked"], reads["answered"], reads["degraded"], reads["failed"]) == (4, 2, 1, 1)


def test_figures__writes_are_told_apart_by_who_said_no(figures: Figures) -> None:
    """Refused by us, rejected by the server, failed with an unknown outcome: three things."""
    for outcome in (Outcome.ACKNOWLEDGED, Outcome.REFUSED, Outcome.REJECTED, Outcome.FAILED):
        figures.write(outcome)
    writes = figures.since(None)["writes"]
    assert writes == {"asked": 4, "acknowledged": 1, "rejected": 1, "refused": 1, "failed": 1, "abandoned": 0}


def test_figures__a_window_never_reaches_before_the_start_or_an_hour_back(figures: Figures, clock: Clock) -> None:
    """The answer says how far it really reaches, so that nobody takes a part for the whole."""
    figures.read(Outcome.ANSWERED, 1.0)
    assert figures.since(_at(-60))["since"] == _at(0).isoformat()
    clock.now = START + 7200
    figures.read(Outcome.ANSWERED, 1.0)
    window = figures.since(_at(0))
    assert window["since"] == (_at(7200) - timedelta(hours=1)).isoformat()
    assert window["reads"]["asked"] == 1
    assert figures.lifetime()["reads"]["asked"] == 2


def test_figures__requests_and_failures_are_counted_for_each_target(figures: Figures) -> None:
    """One read may ask two targets."""
    figures.asked("primary")
    figures.failed("primary")
    figures.asked("replica")
    assert figures.since(None)["targets"] == {
        "primary": {"requests": 1, "failures": 1},
        "replica": {"requests": 1, "failures": 0},
    }


def test_metrics__labels_are_escaped(figures: Figures) -> None:
    """A collection may be called anything."""
    status = {
        **figures.lifetime(),
        "targets": {"primary": {"requests": 1, "failures": 0, "state": "up"}},
        "totals": {"writes_acknowledged": {'a"b\\c': 2}},
    }  # fmt: skip
    text = render(status)
    assert 'reanimate_gateway_writes_acknowledged_total{collection="a\\"b\\\\c"} 2\n' in text
    assert 'reanimate_gateway_target_up{target="primary"} 1\n' in text


def test_totals__are_kept_and_go_on(tmp_path: Path) -> None:
    """A restart does not set the count back."""
    file = tmp_path / "gateway" / "totals.json"
    totals = Totals(file)
    totals.count("kb")
    totals.save()
    totals = Totals(file)
    totals.count("kb")
    totals.save()
    assert Totals(file).acknowledged == {"kb": 2}


def test_totals__an_unreadable_file_is_told_and_does_not_stop_the_gateway(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Traffic matters more than a count."""
    file = tmp_path / "totals.json"
    file.write_text('{"writes_acknowledged": 7}')
    assert Totals(file).acknowledged == {}
    assert "is not readable" in caplog.text
