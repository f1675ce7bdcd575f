"""An answer that no provider was asked for, and how it is sent."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from reanimate.gateway.llm.cache.replay import replay
from reanimate.gateway.llm.call import Call

__all__ = ["Hit"]

_SEND = 64 * 1024


@dataclass(frozen=True, slots=True)
class Hit:
    """A stored answer, or the static one."""

    body: bytes = field(repr=False)
    target: str | None
    """provider/model that gave it once; None: nobody did."""
    age_s: float
    mark: dict[str, Any] | None = None
    """What is told within the answer, as the extra field `reanimate`, when it is not what a provider would say now."""

    async def send(self, call: Call, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the whole answer in the caller's shape, with `headers` and those that are its own."""
        request = call.request
        head = list(headers)
        if self.target is not None:
            head.append((b"x-reanimate-age", b"%d" % self.age_s))
        if not call.prompt.stream:
            body = self.marked()
            head += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await request.start(200, head)
            await request.send(body, more=False)
            return
        head += [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await request.start(200, head)
        pieces: list[bytes] = []
        size = 0
        for event in self.events(call):
            pieces.append(event)
            size += len(event)
            if size >= _SEND:
                await request.send(b"".join(pieces), more=True)
                pieces, size = [], 0
        await request.send(b"".join(pieces), more=False)

    def marked(self) -> bytes:
        """Return the body with its mark."""
        if self.mark is None:
            return self.body
        body = self.body.rstrip()
        return body[:-1] + b',"reanimate":' + orjson.dumps(self.mark) + b"}"

    def events(self, call: Call) -> Iterator[bytes]:
        """Return the events of the answer as a stream."""
        options = call.prompt.fields.get("stream_options")
        include_usage = isinstance(options, dict) and bool(options.get("include_usage"))
        return replay(call.prompt.endpoint.shape, orjson.loads(self.marked()), include_usage=include_usage)
