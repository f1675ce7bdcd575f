"""What a call waits for when nothing is underway for it: a pause, a probe, or the news that something has happened."""

import asyncio
from collections.abc import Callable

from reanimate.gateway.llm.failover.candidates import Candidates
from reanimate.gateway.llm.failover.shared import Shared

__all__ = ["Waiting"]

_HOPE_S = 0.5


class Waiting:
    """Of one call; never beyond its deadline."""

    __slots__ = ("_deadline", "_hoped", "_loop", "_time", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop, time: Callable[[], float], deadline: float) -> None:
        self._loop = loop
        self._time = time
        self._deadline = deadline
        self._hoped = False
        self._waiter: asyncio.Future[None] | None = None

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until something has happened."""
        handle = self._loop.call_later(min(seconds, max(self._deadline - self._time(), 0.0)), self.wake)
        try:
            await self.wait()
        finally:
            handle.cancel()

    async def wait(self) -> None:
        """Wait until something has happened."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        """Something has happened."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def hope(self, shared: Shared, candidates: Candidates) -> bool:
        """Everybody is out, as far as is known: have them probed, and wait briefly for what the probes say, once.

        Return whether somebody may be asked now.
        """
        now = self._time()
        lines = [] if self._hoped else candidates.hopeful(now)
        if not lines:
            return False
        self._hoped = True
        shared.watch(self.wake)
        try:
            for line in lines:
                line.kick()
            until = min(now + _HOPE_S, self._deadline)
            while (left := until - self._time()) > 0:
                await self.pause(left)
                if candidates.next(self._time()) is not None:
                    return True
                if not candidates.hopeful(self._time()):
                    break
        finally:
            shared.watch_no_more(self.wake)
        return False
