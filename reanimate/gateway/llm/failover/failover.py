"""Finding somebody who answers a call."""

from collections.abc import Callable

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.catalogue import Target
from reanimate.gateway.llm.failover.candidates import Candidates, Order
from reanimate.gateway.llm.failover.course import Build, Course
from reanimate.gateway.llm.failover.health import SILENCE, Health
from reanimate.gateway.llm.failover.opened import Opened
from reanimate.gateway.llm.failover.pools import Pools
from reanimate.gateway.llm.failover.shared import Shared, Translate
from reanimate.gateway.llm.wire.outgoing import outgoing

__all__ = ["Failover"]


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
        self._shared = Shared(health, pools, translate)
        self._order = order
        self._bars = bars

    async def open(
        self, call: Call, build: Build = outgoing, *, exclude: frozenset[str] = frozenset(), purpose: str = "first"
    ) -> Opened:
        """Return the first good answer: whole, or a stream up to its first token.

        `exclude` are names of targets that are not to be asked. A stream's end is to be told by `Opened.finished`.

        Raises:
            AllFailed: there is none.
        """
        self._shared.hedges(call.route).asked()
        candidates = Candidates(call, self._shared.health, self._order, self._bars, exclude)
        for attempt in call.attempts:  # of a stream that is to be continued
            if attempt.failure is not None and attempt.failure.kind in SILENCE:
                candidates.is_silent(attempt.target)
        course = Course(self._shared, call, build, candidates, purpose)
        try:
            return await course.run()
        finally:
            course.close()
