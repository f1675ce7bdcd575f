"""Hears of every call's end: counts it, keeps its record, writes about it, and has it traced."""

import time
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

from reanimate.gateway.llm.account import is_unanswered
from reanimate.gateway.llm.call import Call, Ending
from reanimate.gateway.llm.figures import Figures
from reanimate.gateway.llm.genai import GenAi
from reanimate.gateway.llm.journal import Journal
from reanimate.gateway.llm.lookups import Lookups
from reanimate.gateway.llm.record import brief_of, record_of
from reanimate.gateway.llm.tracing import Tracing, open_tracing
from reanimate.llm_settings import LlmSettings

__all__ = ["Observer"]


class Observer:
    """In the way of every call, so it takes microseconds: what takes longer is done aside."""

    def __init__(self, settings: LlmSettings, clock: Callable[[], float] = time.time) -> None:
        """Take the time from `clock`, in seconds of the epoch."""
        self._clock = clock
        self.figures = Figures(clock)
        self.genai = GenAi()
        self.lookups = Lookups()
        self._journal = Journal(clock, settings.log_bodies)
        self._tracing: Tracing | None = open_tracing()

    def take(self, settings: LlmSettings) -> None:
        """Take over other settings."""
        self._journal.bodies = settings.log_bodies

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """Return what runs beside the calls until it is cancelled."""
        return [self._tracing.export()] if self._tracing is not None else []

    def ended(self, call: Call) -> None:
        """Take account of a call that has ended."""
        now = time.monotonic()  # of the same base as the loop's clock, which uvloop rounds to milliseconds
        self.figures.ended(call, now)
        self.genai.ended(call, now)
        wall, is_told = self._clock(), self._journal.wants(call)
        if not is_told and self._tracing is None and (brief := brief_of(call, now, wall)) is not None:
            self.lookups.add_brief(brief)
            return
        record = record_of(call, now, wall)
        self.lookups.add(record, failed=is_unanswered(call) or call.ending is Ending.REJECTED)
        if is_told:
            self._journal.write(call, record)
        if self._tracing is not None:
            self._tracing.add(call, record)

    def status(self, since: datetime | None) -> dict[str, Any]:
        """Return the figures from a moment on."""
        return self.figures.since(since)
