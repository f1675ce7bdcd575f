"""Samples in, verdict out: when a dependency counts as down, as up again, and as flapping. Pure; `now` is passed in.

Times are seconds of a monotonic clock. Whether the watch itself can see is judged in `sight.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from reanimate.watch.sample import Sample

__all__ = ["Rules", "Standing", "State", "forget", "is_flapping", "next_probe_at", "record", "turn", "weigh"]

CONFIRM_S = 0.1
"""How soon a refused, reset or odd answer is asked again."""
FAIR_CHANCE_S = 0.2
"""A probe that has been out for less than this says nothing yet."""
KEPT_FAILURES = 12


class State(StrEnum):
    UNKNOWN = "unknown"
    """Never seen up by this process, and not failing for long enough to be accused."""
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True)
class Rules:
    """The limits a dependency is judged by; all times in seconds."""

    samples: int = 3
    """Failed samples in a row before it counts as down."""
    recovered_after: int = 3
    """Good samples in a row before it counts as up again …"""
    recovered_over_s: float = 2.0
    """… over at least this long."""
    timeout_s: float = 1.0
    """Silence (and any failure that is not a refusal) must last this long."""
    patience_s: float = 0.0
    """Any failure must last this long."""
    first_sight_s: float = 10.0
    """A dependency that this process has never seen up gets this long to start."""
    flap_changes: int = 3
    flap_window_s: float = 60.0
    flap_good_s: float = 15.0
    """A flapping dependency must be good for this long."""
    interval_s: float = 1.0
    """Between two probes of a healthy dependency."""


@dataclass(frozen=True)
class Standing:
    """What is known of one dependency."""

    watched_since: float
    state: State = State.UNKNOWN
    since: float | None = None
    """When it was judged to be in this state."""
    seen_up: bool = False
    failures: tuple[Sample, ...] = ()
    """The failed samples since the last good one: the first, and the latest few."""
    failed: int = 0
    heard_at: float | None = None
    """When the last good answer came in."""
    good: int = 0
    good_since: float | None = None
    changes: tuple[float, ...] = field(default=())
    """When it went down or came up, latest last."""

    @property
    def first_failure(self) -> Sample | None:
        return self.failures[0] if self.failures else None

    @property
    def silent(self) -> bool:
        """Every failure of this run was silence: the watch's own network may be at fault."""
        return bool(self.failures) and all(sample.silent for sample in self.failures)


def record(standing: Standing, sample: Sample) -> Standing:
    """Fold one finished sample in.

    A failed probe that was asked before the last good answer came in is a stray: the server has spoken since.
    """
    if sample.ok:
        return replace(
            standing,
            failures=(),
            failed=0,
            heard_at=sample.answered,
            seen_up=True,
            good=standing.good + 1,
            good_since=sample.answered if standing.good_since is None else standing.good_since,
        )
    if standing.heard_at is not None and sample.asked < standing.heard_at and not sample.quick:
        return standing
    kept = (*standing.failures, sample)
    if len(kept) > KEPT_FAILURES:
        kept = (kept[0], *kept[2:])
    return replace(standing, failures=kept, failed=standing.failed + 1, good=0, good_since=None)


def weigh(standing: Standing, outstanding: Iterable[float], now: float, rules: Rules) -> State:
    """Say what state the dependency is in at `now`; `outstanding` are the times of probes not answered yet."""
    if standing.state is State.DOWN:
        return State.UP if has_recovered(standing, now, rules) else State.DOWN
    first = standing.first_failure
    if first is None:
        return State.UP if standing.good else standing.state
    waiting = sum(first.asked <= asked <= now - FAIR_CHANCE_S for asked in outstanding)
    enough = standing.failed + waiting >= rules.samples
    failing_for = now - max(first.asked, standing.heard_at or first.asked)
    return State.DOWN if enough and failing_for >= must_fail_for(standing, rules) else standing.state


def must_fail_for(standing: Standing, rules: Rules) -> float:
    """Return for how many seconds the failure must have lasted: a refusal is believed at once, silence is not."""
    quick = all(sample.quick for sample in standing.failures)
    needed = max(rules.patience_s, 0.0 if quick else rules.timeout_s)
    return needed if standing.seen_up else max(needed, rules.first_sight_s)


def has_recovered(standing: Standing, now: float, rules: Rules) -> bool:
    if standing.good < rules.recovered_after or standing.good_since is None:
        return False
    needed = rules.flap_good_s if is_flapping(standing, now, rules) else rules.recovered_over_s
    return now - standing.good_since >= needed


def is_flapping(standing: Standing, now: float, rules: Rules) -> bool:
    """Say whether it changed too often lately for one good spell to be believed."""
    return sum(now - moment <= rules.flap_window_s for moment in standing.changes) >= rules.flap_changes


def turn(standing: Standing, state: State, now: float, rules: Rules) -> Standing:
    """Return the standing after a verdict; going down and coming up are remembered, the first sight of it is not."""
    changes = standing.changes
    if State.UNKNOWN not in (standing.state, state):
        changes = (*(moment for moment in changes if now - moment <= rules.flap_window_s), now)
    return replace(standing, state=state, since=now, changes=changes)


def forget(standing: Standing) -> Standing:
    """Drop the runs of failed and good samples: the watch could not see while they were taken."""
    return replace(standing, failures=(), failed=0, good=0, good_since=None)


def next_probe_at(standing: Standing, outstanding: Iterable[float], last_asked: float, rules: Rules) -> float:
    """Say when to ask next: sooner while an answer is overdue or a failure wants to be confirmed."""
    overdue = rules.timeout_s / 4
    wait = rules.interval_s
    if any(True for _ in outstanding):
        wait = min(wait, overdue)
    elif standing.failures and standing.state is not State.DOWN:
        wait = min(wait, CONFIRM_S if standing.failed < rules.samples else overdue)
    elif standing.state is State.DOWN:
        wait = min(wait, max(overdue, rules.recovered_over_s / rules.recovered_after / 2))
    return last_asked + wait
