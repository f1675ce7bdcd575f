"""Hears of every call's end: counts it, keeps its record, writes about it, and has it traced."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

from reanimate.gateway.llm.accounts.account import is_unanswered
from reanimate.gateway.llm.accounts.figures import Figures
from reanimate.gateway.llm.accounts.genai import GenAi
from reanimate.gateway.llm.accounts.journal import Journal
from reanimate.gateway.llm.accounts.lookups import Lookups
from reanimate.gateway.llm.accounts.record import brief_of, record_of
from reanimate.gateway.llm.accounts.tracing import Tracing, open_tracing
from reanimate.gateway.llm.call import Call, Ending
from reanimate.llm_settings import LlmSettings

__all__ = ["Observer"]


_AT_ONCE = 32
_AT_LATEST_S = 0.02
"""Calls are counted several at once, which costs each of them less, and in a later turn of the loop than they end in: a
line in the log takes longer than all the rest of a call, and neither its own caller nor others are to wait for it.
Whoever looks sees them all."""


class Observer:
    """In the way of every call, so it takes microseconds: what takes longer is done aside."""

    def __init__(self, settings: LlmSettings, clock: Callable[[], float] = time.time) -> None:
        """Take the time from `clock`, in seconds of the epoch."""
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._figures = Figures(clock)
        self._genai = GenAi()
        self._lookups = Lookups()
        self._ended: list[tuple[Call, float, float]] = []
        self._timer: asyncio.Handle | None = None
        self._journal = Journal(clock, settings.log_bodies)
        self._tracing: Tracing | None = open_tracing()

    def take(self, settings: LlmSettings) -> None:
        """Take over other settings."""
        self._journal.bodies = settings.log_bodies

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """Return what runs beside the calls until it is cancelled."""
        return [self._tracing.export() if self._tracing is not None else self._to_the_end()]

    async def _to_the_end(self) -> None:
        """Wait until cancelled; then nothing stays uncounted."""
        try:
            await asyncio.Event().wait()
        finally:
            self._count_all()

    @property
    def figures(self) -> Figures:
        """The counts, up to now."""
        self._count_all()
        return self._figures

    @property
    def genai(self) -> GenAi:
        """The histograms, up to now."""
        self._count_all()
        return self._genai

    @property
    def lookups(self) -> Lookups:
        """The records, up to now."""
        self._count_all()
        return self._lookups

    def ended(self, call: Call) -> None:
        """Take account of a call that has ended."""
        now = time.monotonic()  # of the same base as the loop's clock, which uvloop rounds to milliseconds
        self._ended.append((call, now, self._clock()))
        if self._tracing is not None:
            self._count_all()
        elif self._timer is None:
            self._timer = self._loop.call_later(_AT_LATEST_S, self._count_all)
        elif len(self._ended) == _AT_ONCE:
            self._timer.cancel()
            self._timer = self._loop.call_soon(self._count_all)

    def _count_all(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ended, self._ended = self._ended, []
        for call, now, wall in ended:
            self._count(call, now, wall)

    def _count(self, call: Call, now: float, wall: float) -> None:
        self._figures.ended(call, now)
        self._genai.ended(call, now)
        is_told = self._journal.wants(call)
        if not is_told and self._tracing is None and (brief := brief_of(call, now, wall)) is not None:
            self._lookups.add_brief(brief)
            return
        record = record_of(call, now, wall)
        self._lookups.add(record, failed=is_unanswered(call) or call.ending is Ending.REJECTED)
        if is_told:
            self._journal.write(call, record)
        if self._tracing is not None:
            self._tracing.add(call, record)

    def status(self, since: datetime | None) -> dict[str, Any]:
        """Return the figures from a moment on."""
        return self.figures.since(since)
