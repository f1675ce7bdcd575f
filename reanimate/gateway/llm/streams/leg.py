"""A part of a streamed answer: what one provider gives, on the caller's wire."""

from collections.abc import Awaitable, Callable

from reanimate.gateway.llm.call import Call, Usage
from reanimate.gateway.llm.counting import estimated_usage
from reanimate.gateway.llm.endpoints import Shape
from reanimate.gateway.llm.failover.opened import Opened
from reanimate.gateway.llm.failures import Failure, Help
from reanimate.gateway.llm.streams.reader import StreamBroken
from reanimate.gateway.llm.wire.carrying import CannotCarry
from reanimate.gateway.llm.wire.crossing import translator_for
from reanimate.gateway.llm.wire.events import Event, Facts
from reanimate.gateway.llm.wire.scanners import scanner_for

__all__ = ["Leg"]

_END_MARKS = {
    Shape.CHAT: b"data: [DONE]\n\n",
    Shape.MESSAGES: b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
}


class Leg:
    """Reads what a provider was opened for. Where it speaks the other wire, its events are said in the caller's."""

    __slots__ = ("_call", "_end", "_is_over", "_reader", "_scanner", "_translator", "facts", "opened")

    def __init__(self, call: Call, opened: Opened) -> None:
        assert opened.reader is not None
        self.opened = opened
        self._call = call
        self._reader = opened.reader
        self._is_over = False
        self._translator = translator_for(call, opened.target)
        self._scanner = None
        self.facts: Facts = self._reader.facts
        """What the caller can know of this part."""
        if self._translator is not None:
            self._scanner = scanner_for(call.prompt.endpoint.shape, call.prompt.fields)
            self.facts = self._scanner.facts

    @property
    def is_over(self) -> bool:
        """Whether it has ended properly, and everything was returned."""
        return self._is_over or (self._translator is None and self._reader.is_over)

    def first(self) -> list[Event]:
        """Return what it was opened with.

        Raises:
            StreamBroken: that has no words on the caller's wire.
        """
        return self._said(self.opened.first)

    def next(self) -> Awaitable[list[Event]]:
        """Return what came since; [] at the proper end.

        Raises:
            StreamBroken: it will not be completed.
        """
        return self._reader.next() if self._translator is None else self._next_said()

    async def _next_said(self) -> list[Event]:
        while not self._is_over:
            events = await self._reader.next()
            if not events:
                self._is_over = True
                if self._translator is None or self._scanner is None:
                    return []
                return self._carried(self._translator.end)
            if events := self._said(events):
                return events
        return []

    def end_mark(self) -> bytes:
        """Return the end mark of the caller's wire if the provider left it out."""
        return b"" if self.facts.complete else _END_MARKS.get(self._call.prompt.endpoint.shape, b"")

    def finished(self, failure: Failure | None) -> None:
        """Leave the provider, and say how it ended. What it does not count itself is estimated."""
        if not self._reader.is_over:
            self._reader.abort()
        self.opened.finished(failure)
        self.opened.attempt.usage = self.usage

    @property
    def usage(self) -> Usage:
        """Return what this part used, as far as it has come."""
        facts = self._reader.facts
        if facts.finish is not None and facts.usage is not None and facts.usage.says_something:
            return facts.usage
        # A broken part has no count of its own, and neither has a whole one whose count was cut off behind it.
        said = [*facts.text_parts, *(piece for tool in facts.tools for piece in tool.parts)]
        return estimated_usage(self._call.prompt.needs, facts.usage, said, len(said))

    def _said(self, events: list[Event]) -> list[Event]:
        translator = self._translator
        if translator is None:
            return events
        return self._carried(lambda: b"".join([translator.translate(event) for event in events]))

    def _carried(self, said: Callable[[], bytes]) -> list[Event]:
        assert self._scanner is not None
        try:
            return self._scanner.feed(said())
        except (CannotCarry, LookupError, TypeError, ValueError, AttributeError) as error:
            why = error.what if isinstance(error, CannotCarry) else repr(error)
            detail = f"what it says has no words on the caller's wire ({why})"
            raise StreamBroken(Failure("uncarriable", Help.NEXT, detail, counts=False)) from None
