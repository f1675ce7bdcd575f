"""Who may come in: kills and rate cuts by tenant, route and tool, and the queue when fewer calls may be underway."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.failures import Rejected
from reanimate.gateway.llm.policies.places import Places
from reanimate.gateway.llm.policies.queue import Lane
from reanimate.gateway.llm.policies.subjects import Subjects
from reanimate.gateway.llm.underway import Underway
from reanimate.switches.document import Claim

__all__ = ["Gate", "Rate"]


class Rate:
    """So many calls a minute, evenly spread; a burst of a twentieth of them at once."""

    __slots__ = ("_at", "_burst_s", "_every_s", "per_minute")

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._every_s = 60 / per_minute if per_minute else math.inf
        self._burst_s = 60 / per_minute * max(0, per_minute // 20 - 1) if per_minute else 0.0
        self._at = -math.inf
        """When the next call would come in if they came evenly."""

    def wait_s(self, now: float) -> float:
        """Let a call in and return 0, or return how long until one may; nothing is counted then."""
        if not self.per_minute:
            return math.inf
        due = self._at if self._at > now else now
        if due - now > self._burst_s:
            return due - now - self._burst_s
        self._at = due + self._every_s
        return 0.0


class Gate:
    """Obeys the switches `llm_kill`, `llm_rate` and `llm_concurrency`.

    With several processes on one port, each lets in its part of a rate, rounded up. A bound on the calls at a time is
    kept over all of them.
    """

    def __init__(
        self,
        underway: Underway,
        *,
        wait_s: float,
        waiting: int,
        processes: int = 1,
        places: Places | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wait_s` is how long a call may wait for its turn, `waiting` how many may wait in one queue.

        `places`: of several processes, what they share.
        """
        self._underway = underway
        self._wait_s = wait_s
        self._waiting = waiting
        self._processes = processes
        self._places = places
        self._clock = clock
        self._kills: Subjects[str] | None = None
        self._rates: Subjects[Rate] | None = None
        self._limits: dict[str, int] = {}
        self._lanes: dict[str, Lane] = {}
        self._all = self._lane("*")

    # -- what the switches say ---------------------------------------------------------------------------------------

    def obey(self, claims: Iterable[Claim]) -> None:
        """Take over what holds from now on; calls underway that are killed by it end at once."""
        kills: dict[str, str] = {}
        rates: dict[str, Rate] = {}
        limits: dict[str, int] = {}
        for claim in claims:
            if claim.switch == "llm_kill":
                kills[claim.scope] = claim.scope
            elif claim.switch == "llm_rate":
                rates[claim.scope] = self._rate(claim.scope, claim.value)
            elif claim.switch == "llm_concurrency":
                limits[claim.scope] = claim.value
        before = self._kills
        self._kills = Subjects(kills) if kills else None
        self._rates = Subjects(rates) if rates else None
        self._limits = limits
        for lane in list(self._lanes.values()):
            lane.bound(limits.get(lane.scope))
        if self._kills is not None and (before is None or set(kills) - set(before.by_scope)):
            self._end_killed(self._kills)

    def _rate(self, scope: str, per_minute: int) -> Rate:
        """Return the rate of a scope; one that has not changed keeps its count."""
        part = math.ceil(per_minute / self._processes)
        known = self._rates.by_scope.get(scope) if self._rates is not None else None
        return known if known is not None and known.per_minute == part else Rate(part)

    def _end_killed(self, kills: "Subjects[str]") -> None:
        told: dict[str, Rejected] = {}
        for call in self._underway:
            if (scope := kills.first(call)) is not None:
                call.end(told.get(scope) or told.setdefault(scope, _killed(scope)))

    # -- what calls meet ---------------------------------------------------------------------------------------------

    def admit(self, call: Call) -> None:
        """Let a call pass that is neither killed nor over its rate.

        Raises:
            Rejected: 403 killed, 429 rate_cut.
        """
        if self._kills is not None and (scope := self._kills.first(call)) is not None:
            raise _killed(scope)
        if self._rates is not None:
            now = self._clock()
            for scope, rate in self._rates.all(call):
                wait_s = rate.wait_s(now)
                if wait_s > 0:
                    raise _cut(scope, rate.per_minute, wait_s)

    async def enter(self, call: Call) -> None:
        """Wait for the call's turn; without a bound there is nothing to wait for, and nothing is suspended.

        Raises:
            Rejected: 429 queue_full, queue_timeout. The call is not in then, and need not leave.
        """
        lane = self._lanes.get(call.route.name) or self._lane(call.route.name)
        if lane.is_free and self._all.is_free:
            lane.active += 1
            self._all.active += 1
            return
        loop = asyncio.get_running_loop()
        until = min(loop.time() + self._wait_s, call.deadline)
        await lane.enter(call.tenant.name, call.tenant.weight, until)
        try:
            await self._all.enter(call.tenant.name, call.tenant.weight, until)
        except BaseException:
            lane.leave()
            raise

    def leave(self, call: Call) -> None:
        """Give the call's place to the next one. Once for each call that came in."""
        self._lanes[call.route.name].leave()
        self._all.leave()

    def _lane(self, scope: str) -> Lane:
        lane = self._lanes[scope] = Lane(scope, self._limits.get(scope), self._waiting, self._places)
        return lane

    def take(self, wait_s: float, waiting: int) -> None:
        """Go on with changed bounds of the queues."""
        self._wait_s = wait_s
        self._waiting = waiting
        for lane in self._lanes.values():
            lane.size = waiting

    def queues(self) -> dict[str, int]:
        """Return how many calls wait for their turn, by route; `*` are those that wait for a place among all."""
        return {scope: lane.waiting for scope, lane in self._lanes.items()}


def _killed(scope: str) -> Rejected:
    what = "all calls" if scope == "*" else f"calls of {scope.replace(':', ' ', 1)}"
    return Rejected(403, "killed", f"{what} are stopped by the switch llm_kill; a person lifts it")


def _cut(scope: str, per_minute: int, wait_s: float) -> Rejected:
    what = "all calls" if scope == "*" else f"calls of {scope.replace(':', ' ', 1)}"
    return Rejected(
        429,
        "rate_cut",
        f"{what} are cut to {per_minute} a minute by the switch llm_rate",
        retry_after_s=None if math.isinf(wait_s) else math.ceil(wait_s * 1000) / 1000,
    )
