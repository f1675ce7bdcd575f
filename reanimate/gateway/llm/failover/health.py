"""How every target is, by key: what the calls and the probes have seen of it, and who wants to know."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from reanimate.gateway.llm.catalogue import Catalogue, Key, Target
from reanimate.gateway.llm.failover.breaker import Breaker, Standing
from reanimate.gateway.llm.failover.budget import RetryBudget
from reanimate.gateway.llm.failover.latency import Latency
from reanimate.gateway.llm.failover.limits import Limits
from reanimate.gateway.llm.failures import Failure, Help

__all__ = ["NOBODY_THERE", "SILENCE", "Change", "Health", "Line", "TargetHealth"]

NOBODY_THERE = frozenset(("refused", "connect_timeout", "tls"))
"""What holds for a whole provider, whatever the model."""
SILENCE = frozenset(("timeout", "connect_timeout", "stall"))
"""Who does this is not asked again for the same call."""
_PAUSES_S = {"rate_limited": 1.0, "quota": 30.0, "unauthorized": 30.0, "forbidden": 30.0, "not_found": 30.0}
"""How long who says this is left alone when it does not say how long."""
_LONGEST_KEPT_S = 3600.0
_LONGEST_OUT_S = 30.0
"""The same for who says that it is out: whether it still is, its next probe tells at less cost than its callers pay."""


def _nothing() -> None:
    """Nobody probes this line."""


class Line:
    """One target with one of its keys: what a call goes through."""

    __slots__ = ("breaker", "key", "kick", "state", "target", "verdict_at", "why")

    def __init__(self, state: "TargetHealth", target: Target, key: Key | None) -> None:
        self.state = state
        self.target = target
        self.key = key
        self.breaker = Breaker()
        self.why: Failure | None = None
        """What went wrong last."""
        self.verdict_at = float("-inf")
        """When a probe last said how it is."""
        self.kick: Callable[[], None] = _nothing
        """Wants a probe at once."""

    @property
    def is_probed_here(self) -> bool:
        """Whether this process makes the probes; of several on one port only the first one does."""
        return self.kick is not _nothing

    @property
    def name(self) -> str:
        """The target's name; with the key's number where there are several."""
        if self.key is None or len(self.target.provider.keys) < 2:
            return self.target.name
        return f"{self.target.name} {self.key.name}"


class TargetHealth:
    """One target: its lines, its usual times, its limits."""

    __slots__ = ("limits", "lines", "retries", "target", "to_answer", "to_token")

    def __init__(self, target: Target, retries: RetryBudget) -> None:
        self.target = target
        self.retries = retries
        self.to_answer = Latency()
        """Until the whole answer is there, of those that are not streamed."""
        self.to_token = Latency()
        """Until the first token of a stream."""
        self.limits = Limits.of(target.can)
        self.lines = tuple(Line(self, target, key) for key in target.provider.keys or (None,))

    def latency(self, stream: bool) -> Latency:
        return self.to_token if stream else self.to_answer

    def renew(self, target: Target) -> None:
        """Take over new settings; a key that stays keeps what is known of it."""
        known = {(line.key.value if line.key else None): line for line in self.lines}
        lines = []
        for key in target.provider.keys or (None,):
            line = known.get(key.value if key else None) or Line(self, target, key)
            line.target, line.key = target, key
            lines.append(line)
        self.lines = tuple(lines)
        if target.can != self.target.can:
            self.limits = Limits.of(target.can)
        self.target = target


@dataclass(frozen=True, slots=True)
class Change:
    """A line's standing changed."""

    line: Line
    was: Standing
    now: Standing
    why: Failure | None
    at: float


class Health:
    """Every target's health. `on_change` and `on_failure` are lists of who is told."""

    def __init__(self, time: Callable[[], float] = time.monotonic) -> None:
        """Take the time from `time`, in seconds of the loop's steady clock, but finer."""
        self.time = time
        self._targets: dict[str, TargetHealth] = {}
        self._retries: dict[str, RetryBudget] = {}
        self.on_change: list[Callable[[Change], None]] = []
        self.on_failure: list[Callable[[Line, Failure], None]] = []
        self.on_verdict: list[Callable[[], None]] = []
        """Told after each probe, and after each change."""

    def of(self, target: Target) -> TargetHealth:
        """Return what is known of a target."""
        state = self._targets.get(target.name)
        if state is None:
            retries = self._retries.setdefault(target.provider.name, RetryBudget())
            state = self._targets[target.name] = TargetHealth(target, retries)
        return state

    def use(self, catalogue: Catalogue) -> None:
        """Take over new settings. What is no longer there is forgotten; calls underway keep what they hold."""
        for name in self._targets.keys() - catalogue.targets.keys():
            for line in self._targets.pop(name).lines:
                line.breaker.standing = Standing.CLOSED  # nobody is to probe it any more
        for name, target in catalogue.targets.items():
            if name in self._targets:
                self._targets[name].renew(target)
            else:
                self.of(target)
        for line in self.lines():
            line.breaker.return_max_s = catalogue.settings.return_max_s

    def lines(self) -> list[Line]:
        """Return every line, in the order of the settings."""
        return [line for state in self._targets.values() for line in state.lines]

    # What is seen

    def succeeded(self, line: Line, now: float) -> None:
        """A whole good answer was had."""
        if line.breaker.troubled:
            was = line.breaker.standing
            if line.breaker.succeeded(now):
                self._tell(line, was, now)

    def heard(self, line: Line, now: float) -> None:
        """It lives: the first token of a stream."""
        if line.breaker.troubled:
            was = line.breaker.standing
            if line.breaker.heard():
                self._tell(line, was, now)

    def was_late(self, line: Line, asked_at: float, now: float) -> None:
        """It is later than it should be, and says nothing."""
        was = line.breaker.standing
        if line.breaker.was_late(now, asked_at):
            line.why = Failure("timeout", Help.NEXT, f"nothing for {now - asked_at:.2f} s")
            self._tell(line, was, now)

    def failed(self, line: Line, failure: Failure, asked_at: float, now: float) -> None:
        """It failed a call or a probe that it was asked at `asked_at`."""
        if failure.help in (Help.NONE, Help.LARGER):
            self.succeeded(line, now)  # the caller's own fault, properly told
            return
        line.why = failure
        for listener in self.on_failure:
            listener(line, failure)
        was = line.breaker.standing
        pause = failure.retry_after_s if failure.retry_after_s is not None else _PAUSES_S.get(failure.kind)
        if pause is not None and (failure.retry_after_s is not None or failure.help is Help.KEY or not failure.counts):
            longest = _LONGEST_OUT_S if failure.counts and failure.help is not Help.KEY else _LONGEST_KEPT_S
            changed = line.breaker.hold(now, now + min(pause, longest))
        elif failure.counts:
            changed = line.breaker.failed(now, asked_at, certain=failure.kind in NOBODY_THERE)
        else:
            self.heard(line, now)
            return
        if changed:
            self._tell(line, was, now)
            self._spread(line, failure, now)

    def probed_well(self, line: Line, now: float) -> None:
        """A probe was good."""
        was = line.breaker.standing
        line.verdict_at = now
        if line.breaker.probed_well(now):
            self._tell(line, was, now)
        self._verdict()

    def probed_badly(self, line: Line, failure: Failure, asked_at: float, now: float) -> None:
        """A probe failed."""
        line.verdict_at = now
        self.failed(line, failure, asked_at, now)
        self._verdict()

    def follow(self, line: Line, standing: Standing, step: int, why: Failure | None, now: float, until: float) -> None:
        """Take over what another process of this gateway has found out; `until`: how long to leave it alone."""
        was = line.breaker.standing
        line.why = why
        if line.breaker.follow(standing, step, now, until):
            self._tell(line, was, now)

    def _spread(self, line: Line, failure: Failure, now: float) -> None:
        """What is not the key's fault holds for the target's other keys, and some of it for the whole provider."""
        if line.breaker.standing is not Standing.OPEN or failure.help is Help.KEY:
            return
        provider = line.target.provider.name
        for state in self._targets.values():
            if state is not line.state and (failure.kind not in NOBODY_THERE or state.target.provider.name != provider):
                continue
            for other in state.lines:
                was = other.breaker.standing
                if other is not line and was is not Standing.OPEN:
                    other.why = failure
                    other.breaker.hold(now, line.breaker.probe_at)
                    self._tell(other, was, now)

    def _tell(self, line: Line, was: Standing, now: float) -> None:
        standing = line.breaker.standing
        if standing is Standing.CLOSED:
            why, line.why = line.why, None
        else:
            why = line.why
        if self.on_change:
            change = Change(line, was, standing, why, now)
            for listener in self.on_change:
                listener(change)
        self._verdict()

    def _verdict(self) -> None:
        for listener in self.on_verdict:
            listener()
