"""A provider's stream of events, looked at while it passes: what each event is, and what is known of the answer so far.

The bytes are not changed; each event's JSON is decoded once.
"""

from enum import StrEnum
from typing import Any, Protocol

import orjson

from reanimate.gateway.llm.call import Usage
from reanimate.gateway.llm.wire.sse import Frames, TooLong, fields_of

__all__ = ["Classifier", "Event", "EventKind", "Facts", "GrowingCall", "Scanner", "error_text"]


class EventKind(StrEnum):
    """What an event means for the answer. An event with several meanings has the one that stands further down here."""

    PING = "ping"
    """Nothing: a comment, a sign of life, the end of a part."""
    START = "start"
    """The answer, or a part of it, begins; there is nothing of it yet."""
    USAGE = "usage"
    """Tokens, and nothing else."""
    TOKEN = "token"
    """A piece of the answer: text, a refusal, thinking."""
    TOOL = "tool"
    """A piece of a tool call."""
    FINISH = "finish"
    """Why the answer ended."""
    DONE = "done"
    """The end of the stream, as the wire marks it."""
    ERROR = "error"
    """The provider says that it has failed."""
    MALFORMED = "malformed"
    """Not what the wire allows."""


_BAD = frozenset((EventKind.ERROR, EventKind.MALFORMED))


class Event:
    """One whole event. `raw` are all events' bytes in turn: nothing of a stream is missing in them."""

    __slots__ = ("data", "kind", "raw", "text")

    def __init__(self, raw: bytes, kind: EventKind, text: str, data: dict[str, Any] | None) -> None:
        self.raw = raw
        self.kind = kind
        self.text = text
        """The text that it adds to the answer; of ERROR and MALFORMED: what is wrong."""
        self.data = data
        """Its JSON decoded; None for what has none."""

    def __repr__(self) -> str:
        return f"Event({self.kind}, {self.text!r}, {self.raw!r})"


class GrowingCall:
    """A tool call of an answer, as far as it has come."""

    __slots__ = ("id", "index", "is_whole", "name", "parts")

    def __init__(self, index: int, call_id: str, name: str) -> None:
        self.index = index
        self.id = call_id
        self.name = name
        self.parts: list[str] = []
        self.is_whole = False
        """Whether the provider has said, or begun something that says, that the arguments are complete."""

    @property
    def arguments(self) -> str:
        return "".join(self.parts)


class Facts:
    """What is known of an answer so far."""

    __slots__ = (
        "blocks", "closing", "complete", "created", "finish", "finish_if_done", "id", "item", "items", "may_go_on",
        "model", "open_block", "refused", "response", "sequence", "several", "text_parts", "thinking", "tools", "usage",
        "welded", "went_on",
    )  # fmt: skip

    def __init__(self) -> None:
        self.id = ""
        self.model = ""
        self.created = 0
        self.text_parts: list[str] = []
        self.tools: list[GrowingCall] = []
        self.thinking = False
        """Whether there was thinking in it."""
        self.finish: str | None = None
        """Why it ended, as the wire says it; with several choices: once all of them have ended."""
        self.finish_if_done: str | None = None
        """The same of the choices that have begun, where fewer have than were asked for: it holds at the end mark."""
        self.may_go_on = False
        """The reason came along with a piece of the answer: some servers say one with each piece."""
        self.went_on = False
        """A piece came behind a reason: only the stream's own end is one."""
        self.complete = False
        """Whether the stream's own end mark has come."""
        self.refused = False
        """Whether the model refuses, where its wire has a place of its own for that; `finish` says nothing of it."""
        self.usage: Usage | None = None
        self.welded: str | None = None
        """What it carries that another provider could not go on with (log probabilities, audio …)."""
        self.several = False
        """More than one choice."""
        self.blocks = 0
        """Of Anthropic's messages: how many content blocks were begun."""
        self.open_block: str | None = None
        """The type of the last content block (of an item, with responses) while it has not ended."""
        self.response: dict[str, Any] = {}
        """Of OpenAI's responses: what the stream's beginning says."""
        self.items: list[dict[str, Any]] = []
        """Of OpenAI's responses: the output that is complete."""
        self.item: tuple[str, int, int] | None = None
        """Of OpenAI's responses: id and index of the last message, and how many pieces of text there were before it."""
        self.closing = 0
        """Of OpenAI's responses: how many of the three events that close the last message have come."""
        self.sequence = 0
        """Of OpenAI's responses: the last event's number."""

    @property
    def text(self) -> str:
        return "".join(self.text_parts)


def error_text(error: Any) -> str:
    """Return what a provider says that is wrong, in its own words where it has some."""
    if isinstance(error, dict):
        error = error.get("message") or error
    return str(error)[:500]


class Classifier(Protocol):
    """One wire's knowledge of its events."""

    def classify(self, facts: Facts, name: bytes, data: dict[str, Any]) -> tuple[EventKind, str]:
        """Say what an event is, and keep what it tells in `facts`.

        Raises:
            LookupError, TypeError, ValueError, AttributeError: it is not built as the wire says.
        """


class Scanner:
    """Bytes of one answer in, events out."""

    __slots__ = ("_classifier", "_frames", "facts")

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._frames = Frames()
        self.facts = Facts()

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that are whole now; behind one that is ERROR or MALFORMED nothing is looked at."""
        try:
            raws = self._frames.feed(data)
        except TooLong as error:
            return [Event(self._frames.close(), EventKind.MALFORMED, str(error), None)]
        events = []
        for raw in raws:
            event = self._event(raw)
            events.append(event)
            if event.kind in _BAD:
                break
        return events

    def close(self) -> list[Event]:
        """Return what is left when the body has ended. An event that lacks only its empty line is whole; it gets one.

        A cut can lie anywhere: what is no whole event is MALFORMED.
        """
        rest = self._frames.close()
        if not rest.strip():
            return [Event(rest, EventKind.PING, "", None)] if rest else []
        event = self._event(rest + b"\n\n")
        if event.kind is EventKind.PING and event.data is None and not rest.startswith(b":"):
            return [Event(rest, EventKind.MALFORMED, "the stream ends within an event", None)]
        return [event]

    def _event(self, raw: bytes) -> Event:
        name, data = fields_of(raw)
        if not data:
            return Event(raw, EventKind.PING, "", None)
        if data == b"[DONE]":
            self.facts.complete = True
            if self.facts.finish is None:
                self.facts.finish = self.facts.finish_if_done
            return Event(raw, EventKind.DONE, "", None)
        try:
            decoded = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            return Event(raw, EventKind.MALFORMED, f"an event that is not JSON ({error})", None)
        if type(decoded) is not dict:
            return Event(raw, EventKind.MALFORMED, "an event that is not a JSON object", None)
        said = len(self.facts.text_parts)
        try:
            kind, text = self._classifier.classify(self.facts, name, decoded)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            del self.facts.text_parts[said:]
            return Event(raw, EventKind.MALFORMED, f"an event of a wrong shape ({error!r})", decoded)
        return Event(raw, kind, text, decoded)
