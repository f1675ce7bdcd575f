"""Finding somebody who answers: the providers' health, the connections, and what all calls share."""

import asyncio
from collections.abc import Callable

from reanimate.gateway.llm.breaker import Standing
from reanimate.gateway.llm.budget import HedgeBudget
from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.candidates import Candidates, Order
from reanimate.gateway.llm.catalogue import Route, Target
from reanimate.gateway.llm.course import Build, Course
from reanimate.gateway.llm.health import SILENCE, Change, Health, Line
from reanimate.gateway.llm.hedging import Hedging
from reanimate.gateway.llm.opened import Opened
from reanimate.gateway.llm.pools import Pools
from reanimate.gateway.llm.waiting import Waiting
from reanimate.gateway.llm.wire.answers import Answer
from reanimate.gateway.llm.wire.outgoing import outgoing

__all__ = ["Failover"]

Translate = Callable[[Call, Target, Answer], bytes]


class Failover:
    """Opens calls."""

    def __init__(
        self,
        health: Health,
        pools: Pools,
        *,
        order: Order | None = None,
        bars: Callable[[Call, Target], str | None] | None = None,
        translate: Translate | None = None,
    ) -> None:
        """`order`: what switches say (modes.py); `bars`: which quota keeps a call from a target, if one does."""
        self.loop = asyncio.get_running_loop()
        self.health = health
        self.pools = pools
        self.translate = translate
        self._order = order
        self._bars = bars
        self._hedges: dict[str, tuple[float, HedgeBudget]] = {}
        self._waiting: dict[Line, set[Hedging]] = {}
        """Calls that are late and may not be asked twice, as long as the provider is not suspected."""
        self._watching: set[Waiting] = set()
        """Calls for which everybody is out, until a probe says otherwise."""
        health.on_change.append(self._changed)
        health.on_verdict.append(self._verdict)

    async def open(
        self, call: Call, build: Build = outgoing, *, exclude: frozenset[str] = frozenset(), purpose: str = "first"
    ) -> Opened:
        """Return the first good answer: whole, or a stream up to its first token.

        `exclude` are names of targets that are not to be asked. A stream's end is to be told by `Opened.finished`.

        Raises:
            AllFailed: there is none.
        """
        self.hedges(call.route).asked()
        candidates = Candidates(call, self.health, self._order, self._bars, exclude)
        for attempt in call.attempts:  # of a stream that is to be continued
            if attempt.failure is not None and attempt.failure.kind in SILENCE:
                candidates.is_silent(attempt.target)
        return await Course(self, call, build, candidates, purpose).run()

    # What follows is for the courses of the calls.

    def hedges(self, route: Route) -> HedgeBudget:
        """Return the budget of a route for asking twice."""
        share = route.settings.hedge_share
        found = self._hedges.get(route.name)
        if found is None or found[0] != share:
            found = self._hedges[route.name] = (share, HedgeBudget(share))
        return found[1]

    def wait_for(self, line: Line, call: Hedging) -> None:
        """Tell `call` when the line it waits for is under suspicion."""
        self._waiting.setdefault(line, set()).add(call)

    def waits_no_more(self, line: Line, call: Hedging) -> None:
        """Forget what `wait_for` was told."""
        if (waiting := self._waiting.get(line)) is not None:
            waiting.discard(call)
            if not waiting:
                del self._waiting[line]

    def watch(self, call: Waiting) -> None:
        """Wake `call` whenever a probe has told something."""
        self._watching.add(call)

    def watch_no_more(self, call: Waiting) -> None:
        """Forget what `watch` was told."""
        self._watching.discard(call)

    def _verdict(self) -> None:
        for call in tuple(self._watching):
            call.wake()

    def _changed(self, change: Change) -> None:
        if change.now is not Standing.CLOSED and (waiting := self._waiting.pop(change.line, None)):
            for call in waiting:
                call.suspected(change.line)
