"""Who may be asked for one call, and in which order. Pure but for the dice of weighted routes."""

import random
from collections.abc import Callable, Sequence
from typing import Protocol

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.catalogue import Choice, Target
from reanimate.gateway.llm.endpoints import Shape
from reanimate.gateway.llm.failover.breaker import Standing
from reanimate.gateway.llm.failover.health import Health, Line

__all__ = ["Candidates", "Order", "by_weight"]

_USUAL_OUTPUT = 1_024
"""What a prompt without a bound is taken for (prompt.py); no reason to pass over a model that writes less."""
_BRIEFLY_S = 2.0
_SAME_PAUSE_S = 0.25
_FRESH_S = 0.25
"""So long nobody is asked again because of what the last probe said."""
_PROBE_S = 0.02
"""How often to look whether the probe at the end of a pause was good."""


class Order(Protocol):
    """What switches say about the order."""

    def order(self, call: Call, choices: Sequence[Choice]) -> list[Choice]: ...


def by_weight(choices: Sequence[Choice], dice: Callable[[], float] = random.random) -> list[Choice]:
    """Return the choices in a random order, in which each comes first as often as its weight says; 0 is at the end."""
    left = [choice for choice in choices if choice.weight > 0]
    last = [choice for choice in choices if choice.weight <= 0]
    found = []
    while len(left) > 1:
        at = dice() * sum(choice.weight for choice in left)
        for choice in left:
            at -= choice.weight
            if at < 0:
                break
        found.append(choice)
        left.remove(choice)
    return found + left + last


class Candidates:
    """What is left to be asked for one call. Nobody is asked twice, but by the caller's own decision."""

    __slots__ = (
        "_admitted", "_bars", "_call", "_choices", "_done", "_health", "_larger_than", "_needs_prefill", "_paused_for",
        "_silent", "first", "unfit", "used",
    )  # fmt: skip

    def __init__(
        self,
        call: Call,
        health: Health,
        order: Order | None,
        bars: Callable[[Call, Target], str | None] | None,
        exclude: frozenset[str],
    ) -> None:
        route = call.route
        choices: Sequence[Choice] = route.targets
        if route.settings.order == "weighted":
            choices = by_weight(choices)
        if order is not None:
            choices = order.order(call, choices)
        self._call = call
        self._health = health
        self._bars = bars
        self._choices = choices
        self._done: set[str] = set(exclude)
        self._silent: set[str] = set()
        self._larger_than = 0
        self._admitted: dict[Line, bool] = {}
        self._paused_for: dict[Line, float] = {}
        """Until when a line asked to be left alone when this call began to wait for it."""
        self._needs_prefill = call.prompt.needs.prefill and any(choice.target.can.prefill for choice in choices)
        self.used: set[Line] = set()
        self.first: Target | None = None
        """Who would have been asked first if everybody were well."""
        self.unfit: dict[str, str] = {}
        """Why others are passed over, whatever their health."""

    # What becomes known on the way

    def is_asked(self, line: Line) -> None:
        """Do not ask this line again."""
        self.used.add(line)
        self._paused_for.pop(line, None)

    def is_done(self, target: Target) -> None:
        """Do not ask this target, with whatever key."""
        self._done.add(target.name)

    def is_silent(self, target: Target) -> None:
        """Do not ask this target's provider."""
        self._silent.add(target.provider.name)

    def is_too_small(self, target: Target) -> None:
        """Ask only models with more room."""
        self._larger_than = max(self._larger_than, target.can.context_tokens)

    def cannot(self, target: Target, why: str) -> None:
        """Do not ask this target, because the call cannot be sent there."""
        self.unfit[target.name] = why

    # Who is next

    def next(self, now: float, barred: frozenset[str] | set[str] = frozenset()) -> Line | None:
        """Return whom to ask now; `barred` are providers that are being asked.

        The first that is well is taken; else one that is coming back, though its share is used up; else one under
        suspicion. What is open is not asked.
        """
        second: Line | None = None
        second_rank = float("-inf")
        for choice in self._choices:
            target = choice.target
            if not self._may(target, barred):
                continue
            state = self._health.of(target)
            if state.limits is not None and state.limits.room_in(self._tokens, now) > 0:
                continue
            for line in state.lines:
                if line in self.used:
                    continue
                standing = line.breaker.standing
                if standing is Standing.CLOSED:
                    return line
                if standing is Standing.OPEN:
                    continue
                if standing is Standing.RAMPING and self._is_admitted(line):
                    return line
                # Whoever fell under suspicion last was well for longer.
                rank = line.breaker.suspected_at if standing is Standing.SUSPECT else float("inf")
                if rank > second_rank:
                    second, second_rank = line, rank
        return second

    def room_in(self, now: float) -> float | None:
        """Return in how many seconds somebody may be asked who may not be now; None if nobody will.

        That is who is at a limit of ours, or was, and asked for a pause.
        """
        waits = []
        for choice in self._choices:
            target = choice.target
            if not self._may(target, ()):
                continue
            state = self._health.of(target)
            if state.limits is not None and (room := state.limits.room_in(self._tokens, now)) > 0:
                waits.append(room)
            for line in state.lines:
                if (pause := self._pause_of(line, now)) is not None:
                    waits.append(pause)
        return min(waits, default=None)

    def _pause_of(self, line: Line, now: float) -> float | None:
        """Return how long to wait for a line that asked for a pause; None if that is in vain.

        One pause is waited for, and the probe at its end. A limit is worth waiting for, other trouble only briefly.
        """
        if line.breaker.standing is not Standing.OPEN or line.why is None:
            return None
        until = line.breaker.probe_at
        if line.why.kind != "rate_limited" and (line.why.retry_after_s is None or until - now > _BRIEFLY_S):
            return None
        at_first = self._paused_for.setdefault(line, until)
        asked_again = now >= at_first and until > at_first + _SAME_PAUSE_S
        if asked_again or now > at_first + _BRIEFLY_S:
            return None
        return max(until - now, _PROBE_S)

    def hopeful(self, now: float) -> list[Line]:
        """Return the lines that are open, but of which a probe would tell something new: the last is too old."""
        return [line for line in self.open_lines() if line.breaker.probe_at <= now and _is_in_doubt(line, now)]

    def open_lines(self) -> list[Line]:
        """Return the lines that would do, and are not asked because they are open."""
        return [
            line
            for choice in self._choices
            if self._may(choice.target, ())
            for line in self._health.of(choice.target).lines
            if line.breaker.standing is Standing.OPEN and line not in self.used
        ]

    def again(self) -> None:
        """Forget who was asked: a pause was made, as they had asked."""
        self.used.clear()

    @property
    def _tokens(self) -> int:
        needs = self._call.prompt.needs
        return needs.input_tokens + needs.output_tokens

    def _is_admitted(self, line: Line) -> bool:
        """Say whether this call is one of the share that goes to who is coming back; once for each call."""
        if line not in self._admitted:
            self._admitted[line] = line.breaker.admits()
        return self._admitted[line]

    def _may(self, target: Target, barred: frozenset[str] | set[str] | tuple[()]) -> bool:
        name = target.name
        if name in self.unfit:
            return False
        if (why := self._misfit(target)) is not None:
            self.unfit[name] = why
            return False
        if self.first is None:
            self.first = target
        if name in self._done or target.can.context_tokens <= self._larger_than:
            return False
        provider = target.provider.name
        return provider not in self._silent and provider not in barred

    def _misfit(self, target: Target) -> str | None:
        """Return why a target is no choice for this call, None if it is one."""
        prompt, can = self._call.prompt, target.can
        needs = prompt.needs
        if (prompt.endpoint.shape is Shape.EMBEDDINGS) != (can.kind == "embedding"):
            return f"is no model for {prompt.endpoint.shape}"
        if needs.tools and not can.tools:
            return "cannot use tools"
        if needs.vision and not can.vision:
            return "cannot see images"
        if needs.structured_output and not can.structured_output:
            return "has no structured output"
        if self._needs_prefill and not can.prefill:
            return "cannot go on where the last message stops"
        if needs.input_tokens > can.context_tokens and self._has_larger(can.context_tokens):
            return f"has room for {can.context_tokens:,} tokens, about {needs.input_tokens:,} are needed"
        if can.max_output_tokens is not None and needs.output_tokens > max(can.max_output_tokens, _USUAL_OUTPUT):
            return f"writes at most {can.max_output_tokens:,} tokens"
        if self._bars is not None and (quota := self._bars(self._call, target)) is not None:
            return f"is out of quota {quota}"
        return None

    def _has_larger(self, context_tokens: int) -> bool:
        """Say whether there is a model with more room. How many tokens a prompt has is only estimated here."""
        return any(choice.target.can.context_tokens > context_tokens for choice in self._choices)


def _is_in_doubt(line: Line, now: float) -> bool:
    if not line.is_probed_here:
        return now - line.breaker.opened_at < _FRESH_S  # what the other process finds out is known here soon
    return line.verdict_at < line.breaker.opened_at or now - line.verdict_at > _FRESH_S
