"""What is to be done at given moments for many calls: one timer of the loop for all, as nearly nothing comes due."""

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

__all__ = ["Agenda", "Item"]

Item = list[Any]
"""When, a number that no other has, and what is to be called. It is crossed out by setting that to None."""
_SHORTEST_S = 0.001
"""What the loop's clock can tell apart."""


class Agenda:
    """What is crossed out stays in it until its moment, but holds nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, time: Callable[[], float]) -> None:
        self._loop = loop
        self._time = time
        self._items: list[Item] = []
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def put(self, due: float, now: float, what: Callable[[], None]) -> Item:
        """Have `what` called at `due`, both times by `time`; never before."""
        self._count += 1
        item: Item = [due, self._count, what]
        heappush(self._items, item)
        if self._timer is None or due < self._timer_at:
            self._set(due, now)
        return item

    def _set(self, due: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_later(max(due - now, _SHORTEST_S), self._tick)

    def _tick(self) -> None:
        self._timer = None
        items, now = self._items, self._time()
        try:
            while items and (items[0][2] is None or items[0][0] <= now):
                what = heappop(items)[2]
                if what is not None:
                    what()
        finally:
            if items and (self._timer is None or items[0][0] < self._timer_at):
                self._set(items[0][0], now)
