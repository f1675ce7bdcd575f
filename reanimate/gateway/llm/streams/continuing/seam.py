"""Making the events of a provider that goes on fit the answer that another one began."""

from typing import Any, Protocol

import orjson

from reanimate.gateway.llm.call import Call, Usage
from reanimate.gateway.llm.streams.continuing.stitch import Stitch, Unstitchable
from reanimate.gateway.llm.wire.events import Event, EventKind, Facts
from reanimate.gateway.llm.wire.usage import read_usage

__all__ = ["NotWhole", "Seam", "SeamState", "is_comment"]


_BY_ITSELF = ("stop", "end_turn", "completed")


class NotWhole(Exception):
    """Both parts are there, and together they are not what the caller asked for."""


class Seam(Protocol):
    """What the caller gets for a continuing provider's events."""

    def pass_on(self, event: Event) -> bytes:
        """Return the bytes for the caller, if any; `told` is brought up to date with them.

        Raises:
            Unstitchable: what comes does not fit.
            NotWhole: the answer has come to an end that must not be passed on.
        """


class SeamState:
    """What all seams need."""

    __slots__ = ("_structured", "before", "said", "stitch", "told")

    def __init__(self, call: Call, told: Facts, said: Facts, stitch: Stitch, before: Usage) -> None:
        self.told = told
        """What the caller knows of the whole answer."""
        self.said = said
        """What the continuing provider says, on the caller's wire."""
        self.stitch = stitch
        self.before = before
        """What the earlier parts used."""
        self._structured = call.prompt.needs.structured_output

    def fresh(self, event: Event, *, last: bool = False) -> str:
        """Return the new text of an event; `last`: something other than text follows, or nothing.

        Raises:
            Unstitchable: it does not fit.
        """
        if self.said.welded is not None:
            raise Unstitchable(f"the continuation has {self.said.welded}")
        text = self.stitch.feed(event.text) if event.text else ""
        if last:
            text += self.stitch.end()
        if text:
            self.told.text_parts.append(text)
        return text

    def check_whole(self, reason: str) -> None:
        """Raises: NotWhole: JSON was asked for, the answer ends as if it were whole, and the parts make none."""
        if self._structured and reason in _BY_ITSELF and not self.told.tools:
            try:
                orjson.loads(self.told.text)
            except orjson.JSONDecodeError as error:
                raise NotWhole(f"the two parts do not make one JSON document ({error})") from None

    def total(self, usage: Any) -> Usage:
        """Return what all parts used, given the last one's usage as it came."""
        return self.before + (read_usage(usage) or Usage())


def is_comment(event: Event) -> bool:
    return event.kind is EventKind.PING and event.raw.startswith(b":")
