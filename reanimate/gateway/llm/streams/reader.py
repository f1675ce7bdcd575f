"""A provider's stream, read event by event: what is wrong with it is found here, in time."""

import asyncio
from dataclasses import replace

from reanimate.clock import utcnow
from reanimate.gateway.llm.failover.classify import classify_error
from reanimate.gateway.llm.failures import Failure, Help
from reanimate.gateway.llm.secrecy import told_without_keys
from reanimate.gateway.llm.transport.errors import TransportFailed
from reanimate.gateway.llm.transport.response import Response
from reanimate.gateway.llm.wire.events import Event, EventKind, Facts, Scanner

__all__ = ["StreamBroken", "StreamReader"]

_END_MARK_S = 0.25
"""An answer that has ended waits this long for the stream's own end mark."""
_USAGE_S = 1.0
"""The same for an answer whose usage was asked for and has not come."""
_LOOK_AGAIN_S = 0.005
_SIGNS_OF_LIFE = 3
"""Pings alone keep a stream alive for this many times the idle limit."""

_SAYS_SOMETHING = frozenset((EventKind.TOKEN, EventKind.TOOL, EventKind.FINISH))
_SAME_ELSEWHERE = (Help.NONE, Help.LARGER)
"""Not for another provider of the same kind to mend: what the error is counts, not that it came as an event."""


class StreamBroken(Exception):
    """The stream will not be completed by its provider."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


class _Enough(Exception):
    """The answer is complete, and nothing that was waited for has come."""


class StreamReader:
    """Reads one response. After StreamBroken, and after the end, nothing more comes.

    The first call is `first()`; who calls it keeps the time to the first token. From then on the idle limit is kept
    here, while something is waited for: a caller that takes its time is not held against the provider.
    """

    __slots__ = (
        "_awaits_usage", "_content_at", "_ended", "_failure", "_hurried", "_idle_s", "_loop", "_response", "_scanner",
        "_timer", "_waiting_since", "facts",
    )  # fmt: skip

    def __init__(self, response: Response, scanner: Scanner, *, idle_s: float, awaits_usage: bool = False) -> None:
        """`awaits_usage`: an event with the usage was asked for, behind the answer's end."""
        self._loop = asyncio.get_running_loop()
        self._response = response
        self._scanner = scanner
        self._idle_s = idle_s
        self._awaits_usage = awaits_usage
        self._failure: Failure | None = None
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None
        self._waiting_since: float | None = None
        self._content_at = 0.0
        self._hurried = False
        self.facts: Facts = scanner.facts

    async def first(self) -> list[Event]:
        """Return everything up to the first event that says something, and what came with it.

        Raises:
            StreamBroken: there is none.
            BaseException: what the response was aborted with.
        """
        found: list[Event] = []
        while True:
            events = await self._read()
            if not events:
                raise StreamBroken(_NOTHING)
            found += events
            if any(event.kind in _SAYS_SOMETHING for event in events):
                if self._ended:
                    self._settle()
                return found

    async def next(self) -> list[Event]:
        """Return the events that came since; [] at the proper end, when the answer has its finish reason.

        Raises:
            StreamBroken: cut, silent for too long, malformed, an error, or an end without a finish reason.
            BaseException: what the response was aborted with.
        """
        if not self._ended and self._failure is None:
            self._watch()
        events = await self._read()
        if self._ended:
            self._settle()
        return events

    @property
    def is_over(self) -> bool:
        """Whether the answer has ended properly, and all of it was returned."""
        return self._ended and self._failure is None

    def abort(self) -> None:
        """Leave the provider, now."""
        self._stop_watching()
        self._ended = True
        self._response.abort()

    async def _read(self) -> list[Event]:
        try:
            while not self._ended:
                if self._failure is not None:
                    raise StreamBroken(self._failure)
                self._waiting_since = self._loop.time()
                try:
                    data = await self._response.chunk()
                except TransportFailed as error:
                    self._break(Failure(error.kind.value, Help.RETRY, f"the stream broke: {error.detail}"))
                    continue
                except _Enough:
                    self._ended = True
                    break
                finally:
                    self._waiting_since = None
                if events := self._events(data):
                    return events
        except BaseException:
            self.abort()
            raise
        finally:
            if self._ended:
                self._stop_watching()
        return []

    def _events(self, data: bytes) -> list[Event]:
        """Return what is in these bytes, as far as it is sound; b"" is the end of the body."""
        events = self._sound(self._scanner.feed(data) if data else self._scanner.close())
        if not data:
            self._break(_NO_FINISH)
        elif self.facts.complete:
            if self.facts.finish is None:
                self._break(_NO_FINISH)
            else:
                self._ended = True
        if events and events[-1].kind is not EventKind.PING:
            self._content_at = self._loop.time()
        return events

    def _sound(self, events: list[Event]) -> list[Event]:
        """Return the events before the first that is an error, or that ends an answer which has no finish reason."""
        for number, event in enumerate(events):
            kind = event.kind
            if kind is EventKind.ERROR:
                self._break(_error(event))
                return events[:number]
            if kind is EventKind.MALFORMED:
                self._break(Failure("malformed_event", Help.NEXT, event.text))
                return events[:number]
            if kind is EventKind.DONE and self.facts.finish is None:
                return events[:number]
        return events

    def _break(self, failure: Failure) -> None:
        """The stream goes no further. An answer that has its finish reason lacks nothing that matters.

        Where reasons come with each piece, only an end that the provider makes itself is one.
        """
        if self._failure is not None or self._ended:
            return
        if self.facts.finish is not None and (not self.facts.went_on or failure is _NO_FINISH):
            self._ended = True
        else:
            self._failure = told_without_keys(failure, self._response.sent)

    def _settle(self) -> None:
        """At the end, let the rest of the body come, so that the connection can be used again; not for long."""
        self._stop_watching()
        if not self._response.closed:
            self._loop.call_later(_END_MARK_S, self._response.abort)

    def _watch(self) -> None:
        """Have one timer for the whole stream, which looks when it is due how long there was silence."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._limit(), self._check)
        elif self.facts.finish is not None and not self.facts.may_go_on and not self._hurried:
            self._hurried = True
            self._stop_watching()
            self._timer = self._loop.call_later(self._limit(), self._check)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _limit(self) -> float:
        if self.facts.finish is None or self.facts.may_go_on:
            return self._idle_s
        return _USAGE_S if self._awaits_usage and self.facts.usage is None else _END_MARK_S

    def _check(self) -> None:
        left = self._left()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check)
        else:
            # This process may have been held up itself: what has arrived meanwhile is read first.
            self._timer = self._loop.call_later(_LOOK_AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        if self._left() > 0:
            self._check()
        else:
            self._give_up(self._limit())

    def _left(self) -> float:
        """Return for how long silence may still last."""
        limit = self._limit()
        if self._waiting_since is None:
            return limit
        silent_since = max(self._response.last_byte_at, self._waiting_since)
        return min(silent_since + limit, self._content_at + _SIGNS_OF_LIFE * limit) - self._loop.time()

    def _give_up(self, limit: float) -> None:
        self._timer = None
        if self.facts.finish is not None and not self.facts.went_on:
            self._response.abort(_Enough())
        else:
            self._response.abort(StreamBroken(Failure("stall", Help.NEXT, f"nothing came for {limit:g} s")))


_NOTHING = Failure("garbage", Help.NEXT, "the stream ended without an answer")
_NO_FINISH = Failure("no_finish", Help.NEXT, "the stream ended without a finish reason")


def _error(event: Event) -> Failure:
    said = f"it reports an error: {event.text}"
    data = event.data or {}
    error = data.get("error") or (data.get("response") or {}).get("error") or data
    if isinstance(error, dict) and (known := classify_error(error, utcnow())).help in _SAME_ELSEWHERE:
        return replace(known, detail=said, counts=False)
    return Failure("error_event", Help.NEXT, said)
