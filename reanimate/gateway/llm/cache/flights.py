"""Equal calls at the same time: one asks, the others wait for its answer."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from reanimate.gateway.llm.cache.entry import Entry

__all__ = ["Flights", "Part"]


class Part(Enum):
    """What a call is to do that has no answer of another."""

    LEAD = "lead"
    """Ask; others wait, or may come to."""
    ALONE = "alone"
    """Ask for itself."""


@dataclass(slots=True)
class _Flight:
    waiting: deque[asyncio.Future[Entry | Part]] = field(default_factory=deque)


class Flights:
    """By the key of the question."""

    def __init__(self) -> None:
        self._flights: dict[bytes, _Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def join(self, key: bytes, patience_s: float) -> Entry | Part:
        """Return the answer of an equal call that is underway, or what to do. One who has to LEAD ends the flight."""
        flight = self._flights.get(key)
        if flight is None:
            self._flights[key] = _Flight()
            return Part.LEAD
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Entry | Part] = loop.create_future()
        flight.waiting.append(future)
        timer = loop.call_later(patience_s, _give_up, future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.result() is Part.LEAD:
                self.hand_over(key)  # it was to lead just when it left
            raise
        finally:
            timer.cancel()

    def land(self, key: bytes, entry: Entry) -> None:
        """End the flight with an answer for all."""
        self._end(key, entry)

    def fail(self, key: bytes) -> None:
        """End the flight without one: its failure is the leader's alone, the others ask for themselves."""
        self._end(key, Part.ALONE)

    def hand_over(self, key: bytes) -> None:
        """The leader has left: the next in line leads."""
        flight = self._flights.get(key)
        while flight is not None and flight.waiting:
            future = flight.waiting.popleft()
            if not future.done():
                future.set_result(Part.LEAD)
                return
        self._flights.pop(key, None)

    def _end(self, key: bytes, result: Entry | Part) -> None:
        flight = self._flights.pop(key, None)
        for future in flight.waiting if flight is not None else ():
            if not future.done():
                future.set_result(result)


def _give_up(future: asyncio.Future[Entry | Part]) -> None:
    if not future.done():
        future.set_result(Part.ALONE)
