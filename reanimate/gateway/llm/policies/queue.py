"""A queue in which tenants take turns by their weight, however many calls each of them sends."""

import asyncio
import heapq
from collections import deque

from reanimate.gateway.llm.failures import Rejected

__all__ = ["Lane"]


class _Waiting:
    """One call in the queue. `due` is its place in virtual time, in which a tenant of weight 2 goes half as far."""

    __slots__ = ("due", "gone", "tenant", "turn")

    def __init__(self, tenant: str, due: float, turn: asyncio.Future[None]) -> None:
        self.tenant = tenant
        self.due = due
        self.turn = turn
        self.gone = False


class Lane:
    """The calls of one scope that are underway, and those that wait for one to end."""

    __slots__ = ("_ends", "_heap", "_limit", "_now", "_queued", "_seq", "active", "scope", "size")

    def __init__(self, scope: str, limit: int | None, size: int) -> None:
        """`limit` bounds the calls underway, `size` those that wait."""
        self.scope = scope
        self.active = 0
        self._limit = limit
        self.size = size
        self._heap: list[tuple[float, int, _Waiting]] = []
        self._queued: dict[str, deque[_Waiting]] = {}
        self._ends: dict[str, float] = {}
        """Tenant → the place of its last call in virtual time."""
        self._now = 0.0
        self._seq = 0

    @property
    def is_free(self) -> bool:
        """Whether a call can come in at once."""
        return self._limit is None or (self.active < self._limit and not self._queued)

    @property
    def waiting(self) -> int:
        return sum(len(queue) for queue in self._queued.values())

    def bound(self, limit: int | None) -> None:
        """Change the limit: who waits comes in as far as it allows; who is in stays in."""
        self._limit = limit
        self._admit()

    async def enter(self, tenant: str, weight: int, until: float) -> None:
        """Come in, or wait for it until the loop's clock says `until`.

        Raises:
            Rejected: 429 queue_full, queue_timeout.
        """
        if self.is_free:
            self.active += 1
            return
        loop = asyncio.get_running_loop()
        if self.waiting >= self.size:
            self._make_room(tenant)
        due = max(self._now, self._ends.get(tenant, 0.0)) + 1 / weight
        self._ends[tenant] = due
        waiting = _Waiting(tenant, due, loop.create_future())
        self._seq += 1
        heapq.heappush(self._heap, (due, self._seq, waiting))
        self._queued.setdefault(tenant, deque()).append(waiting)
        timer = loop.call_at(until, self._give_up, waiting)
        try:
            await waiting.turn
        except BaseException:
            if waiting.turn.done() and not waiting.turn.cancelled() and waiting.turn.exception() is None:
                self.leave()  # its turn had come in the moment in which it was cancelled
            else:
                self._drop(waiting)
            raise
        finally:
            timer.cancel()

    def leave(self) -> None:
        """Let the next one in."""
        self.active -= 1
        self._admit()

    def _admit(self) -> None:
        while self._queued and (self._limit is None or self.active < self._limit):
            due, _, waiting = heapq.heappop(self._heap)
            if waiting.turn.done():  # given up, or cancelled and not yet aware of it
                self._drop(waiting)
                continue
            self._now = due
            self._forget(waiting)
            self.active += 1
            waiting.turn.set_result(None)
        if not self._queued:
            self._heap.clear()
            self._ends.clear()

    def _make_room(self, tenant: str) -> None:
        """Let a tenant with fewer calls in the full queue in, for the newest of the tenant that has most.

        Raises:
            Rejected: 429 queue_full: nobody has more than this tenant would.
        """
        longest = max(self._queued.values(), key=len)
        if len(longest) <= len(self._queued.get(tenant, ())) + 1:
            raise self._full()
        newest = longest[-1]
        self._drop(newest)
        newest.turn.set_exception(self._full())

    def _full(self) -> Rejected:
        return Rejected(
            429,
            "queue_full",
            f"{self.size} calls wait already for one of {self._limit} places ({_told(self.scope)})",
            retry_after_s=1.0,
        )

    def _give_up(self, waiting: _Waiting) -> None:
        if not waiting.turn.done():
            self._drop(waiting)
            said = f"no place among {self._limit} calls became free in time ({_told(self.scope)})"
            waiting.turn.set_exception(Rejected(429, "queue_timeout", said, retry_after_s=1.0))

    def _drop(self, waiting: _Waiting) -> None:
        """Take a call out that was never let in; its tenant's next one does not wait longer for it."""
        if waiting.gone:
            return
        self._forget(waiting)
        queue = self._queued.get(waiting.tenant)
        self._ends[waiting.tenant] = queue[-1].due if queue else min(self._now, self._ends[waiting.tenant])
        if len(self._heap) > 2 * self.size + 64:
            self._heap = [item for item in self._heap if not item[2].turn.done()]
            heapq.heapify(self._heap)

    def _forget(self, waiting: _Waiting) -> None:
        waiting.gone = True
        queue = self._queued[waiting.tenant]
        queue.remove(waiting)
        if not queue:
            del self._queued[waiting.tenant]


def _told(scope: str) -> str:
    return "the switch llm_concurrency of all routes" if scope == "*" else f"the switch llm_concurrency of {scope}"
