"""The signals that rules may name, read from what the gateway counted. Nothing is guessed: no figure, no signal."""

from collections.abc import Callable, Mapping
from typing import Protocol

from reanimate.gateway.llm.policies.degradation.rules import Reading
from reanimate.llm_policies import RuleSettings, Signal

__all__ = ["Counted", "Counts", "Signals"]


class Counted(Protocol):
    """What was counted of the calls that ended in a window of time."""

    @property
    def samples(self) -> int:
        """Calls that providers were to answer."""

    @property
    def failed(self) -> int:
        """Of them, those that no provider answered."""

    @property
    def in_a_row(self) -> int:
        """Failures since the last success."""

    @property
    def p50_ms(self) -> float | None: ...
    @property
    def p95_ms(self) -> float | None: ...
    @property
    def p99_ms(self) -> float | None: ...
    @property
    def first_token_p99_ms(self) -> float | None: ...


class Counts(Protocol):
    """All calls of a window, and those of each route."""

    @property
    def total(self) -> Counted: ...
    @property
    def routes(self) -> Mapping[str, Counted]: ...


_TIMES: dict[Signal, Callable[[Counted], float | None]] = {
    "p50_s": lambda counted: counted.p50_ms,
    "p95_s": lambda counted: counted.p95_ms,
    "p99_s": lambda counted: counted.p99_ms,
    "first_token_p99_s": lambda counted: counted.first_token_p99_ms,
}


class Signals:
    """One look at the figures: each window is added up once, however many rules ask for it."""

    def __init__(
        self,
        window: Callable[[float], Counts],
        quota_used: Mapping[str, float] | None,
        waiting: Mapping[str, int],
    ) -> None:
        """`quota_used`: scope → share used of its tightest quota; None when that is not known."""
        self._window = window
        self._quota_used = quota_used
        self._waiting = waiting
        self._windows: dict[int, Counts] = {}

    def scopes(self, rule: RuleSettings) -> list[str]:
        """Return what a rule is judged for now."""
        if rule.signal == "quota_used":
            return list(self._quota_used or ())
        if rule.per == "all":
            return ["*"]
        if rule.signal == "waiting":
            return [scope for scope in self._waiting if scope != "*"]
        return list(self._counted(rule.window_s).routes)

    def read(self, rule: RuleSettings, scope: str, window_s: float) -> Reading | None:
        """Return a rule's signal in a scope; None when the figure is missing."""
        if rule.signal == "quota_used":
            if self._quota_used is None:
                return None
            used = self._quota_used.get(scope)
            return Reading(0.0, 0) if used is None else Reading(used, rule.min_samples)
        if rule.signal == "waiting":
            return Reading(float(self._waiting.get(scope, 0)), rule.min_samples)
        counted = self._counted(window_s)
        found = counted.total if scope == "*" else counted.routes.get(scope)
        if found is None or not found.samples:
            return Reading(0.0, 0)
        if rule.signal == "error_rate":
            return Reading(found.failed / found.samples, found.samples)
        if rule.signal == "failures_in_a_row":
            return Reading(float(found.in_a_row), found.samples)
        took_ms = _TIMES[rule.signal](found)
        return None if took_ms is None else Reading(took_ms / 1000, found.samples)

    def _counted(self, window_s: float) -> Counts:
        seconds = max(1, round(window_s))
        if seconds not in self._windows:
            self._windows[seconds] = self._window(float(seconds))
        return self._windows[seconds]
