"""Looking after the requests of one call: who is late, who hangs, when a second provider is asked."""

import asyncio
from collections.abc import Callable

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.failover.asking import AttemptFailed
from reanimate.gateway.llm.failover.breaker import Standing
from reanimate.gateway.llm.failover.health import Line
from reanimate.gateway.llm.failover.shared import Shared
from reanimate.gateway.llm.failover.trial import Trial

__all__ = ["Hedging"]

_LAG_S = 0.02
"""A timer that comes this late was held up by ourselves: what has arrived meanwhile is looked at first."""
_LOOK_AGAIN_S = 0.005


class Hedging:
    """One timer for all that is due."""

    __slots__ = ("_call", "_hedge", "_lagged", "_pending", "_shared", "_timer", "_timer_at")

    def __init__(self, shared: Shared, call: Call, pending: list[Trial], hedge: Callable[[Trial], None]) -> None:
        """`pending` is looked after as it is at each moment; `hedge` asks a second provider because of one of them."""
        self._shared = shared
        self._call = call
        self._pending = pending
        self._hedge = hedge
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._lagged = False

    def arm(self, due: float, now: float) -> None:
        """See to it that the timer comes at `due`, or before."""
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._shared.loop.call_later(due - now, self._tick)

    def close(self) -> None:
        """Look no more."""
        del self._hedge  # it leads back here: without the circle nothing waits for the garbage collector
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def suspected(self, line: Line) -> None:
        """A line that this call waits for is under suspicion now: nobody needs to wait for it alone."""
        now = self._shared.health.time()
        for one in tuple(self._pending):
            if one.line is line and one.lateness.may_be_hedged(now):
                self._hedge(one)

    def _tick(self) -> None:
        self._timer = None
        now = self._shared.health.time()
        if now - self._timer_at > _LAG_S and not self._lagged:
            self._lagged = True
            self.arm(now + _LOOK_AGAIN_S, now)
            return
        self._lagged = False
        for one in tuple(self._pending):
            if one.lateness.due <= now:
                self._look_at(one, now)
        if self._pending:
            self.arm(max(min(one.lateness.due for one in self._pending), now + 0.001), now)

    def _look_at(self, one: Trial, now: float) -> None:
        """Something is due: it is late, another one may be asked, or it is given up."""
        lateness = one.lateness
        if (given_up := lateness.given_up(now, one.response)) is not None:
            one.response.abort(AttemptFailed(given_up))
            return
        if lateness.turns_late(now):
            self._shared.health.was_late(one.line, one.attempt.began, now)
        if lateness.may_be_hedged(now):
            suspect = lateness.hangs(now) or one.line.breaker.standing is not Standing.CLOSED
            if suspect or (lateness.first_look(now) and self._shared.hedges(self._call.route).spend()):
                self._hedge(one)
            elif one.on_end is None:
                self._shared.wait_for(one.line, self.suspected)
                one.on_end = self._waits_no_more
        lateness.next_due(now)

    def _waits_no_more(self, one: Trial) -> None:
        self._shared.waits_no_more(one.line, self.suspected)
