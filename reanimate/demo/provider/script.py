"""An answer as bytes on the wire, before anything is wrong with it."""

from dataclasses import dataclass

__all__ = ["ID", "MARK", "Script"]

ID = "@" * 24
"""Where an id goes when the answer is sent: an answer is made once, and sent with another id each time."""
MARK = ID.encode()


@dataclass(frozen=True, slots=True)
class Script:
    """A streamed answer: events, of which `tokens` are those with one token each."""

    opening: tuple[bytes, ...]
    tokens: tuple[bytes, ...]
    finish: tuple[bytes, ...]
    """What says why it ended, with all that comes along."""
    usage: tuple[bytes, ...]
    end: tuple[bytes, ...]
    """`[DONE]` or `message_stop`; the Responses API has none."""
