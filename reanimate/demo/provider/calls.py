"""What a provider writes down about each call."""

from dataclasses import dataclass, field
from typing import Any

import orjson

__all__ = ["Call"]


@dataclass(slots=True)
class Call:
    """One call. `ended` is empty while it is underway, then how it ended: `answered`, `client closed` or a fault."""

    number: int
    at: float
    """Seconds since the epoch."""
    began: float
    method: str
    path: str
    key: str
    model: str
    stream: bool
    sent_headers: list[tuple[bytes, bytes]]
    raw: bytes
    faults: tuple[str, ...] = ()
    status: int = 0
    """0 until a head was sent."""
    tokens: int = 0
    """How many tokens were sent."""
    ended: str = ""
    ms: float = 0.0
    """From the request to its end."""
    _body: Any = field(default=None, repr=False)

    @property
    def traits(self) -> tuple[str, str, str, bool]:
        """What faults match by: path, model, key, stream."""
        return self.path, self.model, self.key, self.stream

    @property
    def headers(self) -> dict[str, str]:
        """The request's headers, names in lower case."""
        return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self.sent_headers}

    @property
    def body(self) -> Any:
        """The request as JSON; None when it is none."""
        if self._body is None and self.raw:
            try:
                self._body = orjson.loads(self.raw)
            except ValueError:
                return None
        return self._body

    def end(self, how: str, now: float) -> None:
        """Note how it ended; the first end counts."""
        if not self.ended:
            self.ended = how
            self.ms = (now - self.began) * 1e3

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number, "at": self.at, "method": self.method, "path": self.path, "key": self.key,
            "model": self.model, "stream": self.stream, "headers": self.headers, "body": self.body,
            "faults": list(self.faults), "status": self.status, "tokens": self.tokens, "ended": self.ended,
            "ms": round(self.ms, 3),
        }  # fmt: skip
