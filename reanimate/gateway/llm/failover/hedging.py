"""Looking after the requests of one call: who is late, who hangs, when a second provider is asked."""

from collections.abc import Callable

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.failover.agenda import Item
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
    """One moment is on the agenda: that of what is due first."""

    __slots__ = ("_call", "_hedge", "_item", "_lagged", "_pending", "_shared")

    def __init__(self, shared: Shared, call: Call, pending: list[Trial], hedge: Callable[[Trial], None]) -> None:
        """`pending` is looked after as it is at each moment; `hedge` asks a second provider because of one of them."""
        self._shared = shared
        self._call = call
        self._pending = pending
        self._hedge = hedge
        self._item: Item | None = None
        self._lagged = False

    def arm(self, due: float, now: float) -> None:
        """See to it that it is looked after at `due`, or before."""
        if self._item is not None:
            if self._item[0] <= due:
                return
            self._item[2] = None
        self._item = self._shared.agenda.put(due, now, self._tick)

    def close(self) -> None:
        """Look no more."""
        del self._hedge  # it leads back here: without the circle nothing waits for the garbage collector
        if self._item is not None:
            self._item[2] = None
            self._item = None

    def suspected(self, line: Line) -> None:
        """A line that this call waits for is under suspicion now: nobody needs to wait for it alone."""
        now = self._shared.health.time()
        for one in tuple(self._pending):
            if one.line is line and one.lateness.may_be_hedged(now):
                self._hedge(one)

    def _tick(self) -> None:
        item, self._item = self._item, None
        now = self._shared.health.time()
        if item is not None and now - item[0] > _LAG_S and not self._lagged:
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
