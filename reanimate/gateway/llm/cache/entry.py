"""One answer that is kept, and its form on disk."""

from dataclasses import dataclass, field
from hashlib import blake2b

import orjson

from reanimate.errors import Damaged

__all__ = ["Entry", "decode", "encode"]

_OVERHEAD = 600
"""Bytes of memory that an entry takes beside its body, about."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A whole answer, as the caller of a request that is not streamed gets it."""

    key: bytes
    partition: str
    """Whose it is."""
    shape: str
    route: str
    target: str
    """provider/model that gave it."""
    stored_at: float
    """In seconds of the epoch."""
    tools: bool
    """It asks the caller to run tools."""
    degraded: tuple[str, ...]
    """Why it was not what it would have been on a good day."""
    body: bytes = field(repr=False)

    @property
    def size(self) -> int:
        return len(self.body) + _OVERHEAD


def encode(entry: Entry) -> bytes:
    """Return a checksum, what is known of the answer, and the answer."""
    head = {
        "key": entry.key.hex(),
        "partition": entry.partition,
        "shape": entry.shape,
        "route": entry.route,
        "target": entry.target,
        "stored_at": entry.stored_at,
        "tools": entry.tools,
        "degraded": entry.degraded,
    }
    content = orjson.dumps(head) + b"\n" + entry.body
    return blake2b(content, digest_size=16).hexdigest().encode() + b"\n" + content


def decode(content: bytes) -> Entry:
    """Read an entry.

    Raises:
        Damaged: it is not what was written.
    """
    said, _, rest = content.partition(b"\n")
    if said != blake2b(rest, digest_size=16).hexdigest().encode():
        raise Damaged("a cached answer is not what its checksum says")
    try:
        line, _, body = rest.partition(b"\n")
        head = orjson.loads(line)
        return Entry(
            key=bytes.fromhex(head["key"]),
            partition=head["partition"],
            shape=head["shape"],
            route=head["route"],
            target=head["target"],
            stored_at=head["stored_at"],
            tools=head["tools"],
            degraded=tuple(head["degraded"]),
            body=body,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"a cached answer is of another version: {error!r}") from None
