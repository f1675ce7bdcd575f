"""An answer that a provider has begun to give, and that is good so far."""

from collections.abc import Callable
from dataclasses import dataclass, field

from reanimate.gateway.llm.call import Attempt
from reanimate.gateway.llm.catalogue import Key, Target
from reanimate.gateway.llm.failures import Failure
from reanimate.gateway.llm.streams.reader import StreamReader
from reanimate.gateway.llm.transport.response import Response
from reanimate.gateway.llm.wire.answers import Answer
from reanimate.gateway.llm.wire.events import Event

__all__ = ["Opened"]


@dataclass(slots=True, eq=False)
class Opened:
    """Either `body` and `answer` (not streamed, whole), or `reader` and its `first` events."""

    attempt: Attempt
    target: Target
    key: Key | None
    response: Response
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes | None = field(default=None, repr=False)
    """In the caller's wire."""
    answer: Answer | None = None
    reader: StreamReader | None = None
    first: list[Event] = field(default_factory=list)
    """Up to the first token; in the provider's wire."""
    left_out: tuple[str, ...] = ()
    """What of the question had no place on the provider's wire, and was not needed for the answer."""
    on_finished: Callable[["Opened", Failure | None], None] | None = None

    def finished(self, failure: Failure | None) -> None:
        """Say how a stream ended, once: by its proper end, because the caller left (both None), or why it broke."""
        told, self.on_finished = self.on_finished, None
        if told is not None:
            told(self, failure)
