"""The verdict over samples: minimum samples, hysteresis, silence, flapping, and what is not counted."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reanimate.watch.judge import (
    Rules,
    Standing,
    State,
    forget,
    is_flapping,
    next_probe_at,
    record,
    turn,
    weigh,
)
from reanimate.watch.sample import FailureKind, Sample

RULES = Rules()
START = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
REFUSED, TIMEOUT, HTTP, UNREACHABLE = (
    FailureKind.REFUSED,
    FailureKind.TIMEOUT,
    FailureKind.HTTP,
    FailureKind.UNREACHABLE,
)


def sample(asked: float, kind: FailureKind | None = None, took: float = 0.001) -> Sample:
    took = RULES.timeout_s if kind is TIMEOUT else took
    return Sample(asked, asked + took, START + timedelta(seconds=asked), kind)


def up(at: float = 0.0) -> Standing:
    """A standing that has been up since `at`."""
    return turn(record(Standing(at), sample(at)), State.UP, at, RULES)


def after(standing: Standing, *samples: Sample) -> Standing:
    for one in samples:
        standing = record(standing, one)
    return standing


def down(at: float = 10.0) -> Standing:
    """A standing that was up and went down at `at`."""
    failed = after(up(), *(sample(at - 0.2 + step / 10, REFUSED) for step in range(3)))
    return turn(failed, State.DOWN, at, RULES)


@pytest.mark.parametrize(
    ("kinds", "asked", "now", "expected"),
    [
        pytest.param([REFUSED], [1.0], 1.0, State.UP, id="one refusal is not enough"),
        pytest.param([REFUSED, REFUSED], [1.0, 1.1], 1.1, State.UP, id="nor are two"),
        pytest.param([REFUSED] * 3, [1.0, 1.1, 1.2], 1.2, State.DOWN, id="three refusals are believed at once"),
        pytest.param([REFUSED, REFUSED, FailureKind.RESET], [1.0, 1.1, 1.2], 1.2, State.DOWN, id="a reset counts too"),
        pytest.param([HTTP] * 3, [1.0, 1.1, 1.2], 1.21, State.UP, id="odd answers must last"),
        pytest.param([HTTP] * 4, [1.0, 1.1, 1.2, 1.9], 2.0, State.DOWN, id="odd answers that last"),
        pytest.param([UNREACHABLE] * 3, [1.0, 1.1, 1.2], 1.21, State.UP, id="no route must last"),
        pytest.param([UNREACHABLE] * 4, [1.0, 1.1, 1.2, 2.0], 2.0, State.DOWN, id="no route that lasts"),
        pytest.param(
            [REFUSED, None, REFUSED, REFUSED], [1.0, 1.1, 1.2, 1.3], 1.3, State.UP, id="a good one in between"
        ),
    ],
)
def test_weigh__finished_failures(
    kinds: list[FailureKind | None], asked: list[float], now: float, expected: State
) -> None:
    """Refusals need only the minimum of samples; every other failure must also have lasted for the time limit."""
    standing = after(up(), *(sample(at, kind) for at, kind in zip(asked, kinds, strict=True)))
    assert weigh(standing, [], now, RULES) is expected


@pytest.mark.parametrize(
    ("outstanding", "expected"),
    [
        pytest.param([1.25, 1.5, 1.75], State.DOWN, id="three more that wait"),
        pytest.param([1.25, 1.5], State.DOWN, id="two more make three samples"),
        pytest.param([1.25], State.UP, id="one more is too few"),
        pytest.param([1.85, 1.9, 1.95], State.UP, id="those just asked say nothing yet"),
        pytest.param([0.5, 0.6, 0.7], State.UP, id="those asked before say nothing about now"),
    ],
)
def test_weigh__hang(outstanding: list[float], expected: State) -> None:
    """A hang is judged when its first probe runs out, if others asked meanwhile wait as well."""
    standing = record(up(), sample(1.0, TIMEOUT))
    assert weigh(standing, outstanding, 2.0, RULES) is expected


def test_weigh__one_lost_probe_among_good_ones() -> None:
    """A probe that got lost while later ones were answered is a stray, however often it happens."""
    standing = up()
    for second in range(1, 20):
        standing = after(standing, sample(second + 0.5), sample(float(second), TIMEOUT))
        assert weigh(standing, [second + 0.75] * 3, second + 1.0, RULES) is State.UP


def test_weigh__never_seen_up() -> None:
    """What this process has never seen up gets time to start before it is accused."""
    standing = after(Standing(0.0), *(sample(at / 2, REFUSED) for at in range(19)))
    assert weigh(standing, [], 9.0, RULES) is State.UNKNOWN
    assert weigh(standing, [], 10.0, RULES) is State.DOWN


def test_weigh__patience() -> None:
    """A dependency with patience is accused only after failing for that long."""
    patient = Rules(patience_s=10.0)
    standing = after(up(), *(sample(1 + at / 2, REFUSED) for at in range(20)))
    assert weigh(standing, [], 10.9, patient) is State.UP
    assert weigh(standing, [], 11.0, patient) is State.DOWN


@pytest.mark.parametrize(
    ("good_at", "now", "expected"),
    [
        pytest.param([11.0, 11.2, 11.4], 11.4, State.DOWN, id="enough samples, too soon"),
        pytest.param([11.0, 13.5], 13.5, State.DOWN, id="long enough, too few"),
        pytest.param([11.0, 12.0, 13.01], 13.02, State.UP, id="both"),
    ],
)
def test_weigh__recovery(good_at: list[float], now: float, expected: State) -> None:
    """It is up again after enough good samples over a long enough time, not before."""
    assert weigh(after(down(), *map(sample, good_at)), [], now, RULES) is expected


def test_weigh__recovery_interrupted() -> None:
    """One failure during recovery starts the count anew."""
    standing = after(
        down(), sample(11.0), sample(12.0), sample(12.5, REFUSED), sample(13.0), sample(13.5), sample(14.0)
    )
    assert weigh(standing, [], 14.1, RULES) is State.DOWN
    assert weigh(standing, [], 15.1, RULES) is State.UP


def flapped(times: int) -> Standing:
    """Down and up again, `times` changes in all, six seconds apart; ends down when `times` is odd."""
    standing = up()
    for change in range(times):
        at = 10.0 + 6 * change
        goes_down = change % 2 == 0
        standing = record(standing, sample(at, REFUSED if goes_down else None))
        standing = turn(standing, State.DOWN if goes_down else State.UP, at, RULES)
    return standing


def test_flapping__needs_a_longer_good_spell() -> None:
    """After three changes within a minute it must be good for fifteen seconds; after two, the usual two do."""
    now = 10.0 + 6 * 3
    assert not is_flapping(flapped(2), now, RULES)
    assert is_flapping(flapped(3), now, RULES)
    good = after(flapped(3), *(sample(now + step) for step in range(17)))
    assert weigh(good, [], now + 14.9, RULES) is State.DOWN
    assert weigh(good, [], now + 15.1, RULES) is State.UP


def test_flapping__is_forgotten() -> None:
    """Changes of more than a minute ago count no more."""
    assert not is_flapping(flapped(3), 10.0 + 12 + 61, RULES)


def test_forget__drops_runs_but_not_the_verdict() -> None:
    """What was sampled while the process did not run is dropped; what was judged before stays judged."""
    failing = after(up(), sample(1.0, REFUSED), sample(1.1, REFUSED))
    assert weigh(record(forget(failing), sample(1.2, REFUSED)), [], 1.2, RULES) is State.UP
    recovering = after(down(), sample(11.0), sample(12.0))
    assert forget(recovering).state is State.DOWN
    assert weigh(record(forget(recovering), sample(13.1)), [], 13.2, RULES) is State.DOWN


@pytest.mark.parametrize(
    ("standing", "outstanding", "expected"),
    [
        pytest.param(up(), [], 1.0, id="healthy: the interval"),
        pytest.param(up(), [0.0], 0.25, id="an answer is out: overlap"),
        pytest.param(record(up(), sample(1.0, REFUSED)), [], 0.1, id="a failure: confirm"),
        pytest.param(after(up(), *(sample(1.0, HTTP) for _ in range(3))), [], 0.25, id="confirmed, must last"),
    ],
)
def test_next_probe_at__asks_sooner_when_in_doubt(
    standing: Standing, outstanding: list[float], expected: float
) -> None:
    """The wait is the interval for a healthy dependency, and shorter while something wants to be confirmed."""
    assert next_probe_at(standing, outstanding, 0.0, RULES) == pytest.approx(expected)


@given(
    st.lists(st.tuples(st.floats(0.01, 2.0), st.sampled_from([None, REFUSED, TIMEOUT, HTTP, UNREACHABLE])), max_size=60)
)
def test_weigh__never_accuses_without_the_minimum(steps: list[tuple[float, FailureKind | None]]) -> None:
    """Whatever the samples: down needs the minimum of failures in a row, up again the minimum of good ones."""
    standing, now, run = up(), 0.0, 0
    for gap, kind in steps:
        now += gap
        one = Sample(now, now, START + timedelta(seconds=now), kind)
        standing = record(standing, one)
        run = 0 if kind is None else run + 1
        state = weigh(standing, [], now, RULES)
        if state is State.DOWN and standing.state is State.UP:
            assert run >= RULES.samples
        if state is State.UP and standing.state is State.DOWN:
            assert standing.good >= RULES.recovered_after
            assert run == 0
        if state is not standing.state:
            standing = turn(standing, state, now, RULES)
        assert len(standing.failures) <= 12
