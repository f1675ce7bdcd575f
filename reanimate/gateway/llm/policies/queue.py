"""A queue in which tenants take turns by their weight, however many calls each of them sends."""

import asyncio
import heapq
from collections import deque

from reanimate.gateway.llm.failures import Rejected
from reanimate.gateway.llm.policies.places import Places

__all__ = ["Lane"]

_LOOK_AGAIN_S = 0.01
"""For a place that other processes have."""
_LEAVE_S = 0.02
"""A place that was given back is left to the other processes for so long: they look for it, and are not called."""


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

    __slots__ = (
        "_again", "_ends", "_heap", "_held", "_limit", "_not_before", "_now", "_places", "_queued", "_room", "_seq",
        "active", "scope", "size",
    )  # fmt: skip

    def __init__(self, scope: str, limit: int | None, size: int, places: Places | None = None) -> None:
        """`limit` bounds the calls underway, of all processes that share `places`; `size` those that wait."""
        self.scope = scope
        self.active = 0
        self._places = places
        self._limit: int | None = None
        self._room = 0
        """How many may be underway here now: this process's own part, and what it holds of the others."""
        self._held: list[int] = []
        self._not_before = 0.0
        self._again: asyncio.TimerHandle | None = None
        self.size = size
        self._heap: list[tuple[float, int, _Waiting]] = []
        self._queued: dict[str, deque[_Waiting]] = {}
        self._ends: dict[str, float] = {}
        """Tenant → the place of its last call in virtual time."""
        self._now = 0.0
        self._seq = 0
        self.bound(limit)

    @property
    def is_free(self) -> bool:
        """Whether a call can come in at once."""
        return self._limit is None or (self.active < self._room and not self._queued)

    @property
    def waiting(self) -> int:
        return sum(len(queue) for queue in self._queued.values())

    def bound(self, limit: int | None) -> None:
        """Change the limit: who waits comes in as far as it allows; who is in stays in."""
        self._limit = limit
        if limit is not None:
            self._room = len(self._held) + (self._places.own(limit) if self._places is not None else limit)
        self._give_back()
        self._admit()

    async def enter(self, tenant: str, weight: int, until: float) -> None:
        """Come in, or wait for it until the loop's clock says `until`.

        Raises:
            Rejected: 429 queue_full, queue_timeout.
        """
        if not self._queued and self._has_place():
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
        self._look_again()
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
        if self._held:
            self._give_back()
        if self._heap:
            self._admit()

    def _has_place(self) -> bool:
        """Whether one more may come in; where it takes a place of those that are taken in turn, that is taken."""
        if self._limit is None or self.active < self._room:
            return True
        if self._places is None or self.active > self._room or asyncio.get_running_loop().time() < self._not_before:
            return False
        number = self._places.take(self.scope, self._limit, self._held)
        if number is None:
            return False
        self._held.append(number)
        self._room += 1
        return True

    def _give_back(self) -> None:
        """Let other processes have the places that are not needed here."""
        while self._places is not None and self._held and (self._limit is None or self.active < self._room):
            self._places.give(self.scope, self._held.pop())
            self._room -= 1
            self._not_before = asyncio.get_running_loop().time() + _LEAVE_S

    def _look_again(self) -> None:
        """Have the places of the others looked at again, as long as somebody waits for one."""
        if self._again is None and self._places is not None and self._queued:
            self._again = asyncio.get_running_loop().call_later(_LOOK_AGAIN_S, self._admit_later)

    def _admit_later(self) -> None:
        self._again = None
        self._admit()

    def _admit(self) -> None:
        while self._queued and self._has_place():
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
            self._give_back()
        self._look_again()

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
