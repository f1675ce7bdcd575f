"""One request on a client's connection, and its answer: as ASGI wants it, with short cuts for what is whole."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

__all__ = ["EXCHANGE", "Application", "Exchange"]

log = logging.getLogger("uvicorn.error")

EXCHANGE = "reanimate.exchange"
"""Where in its scope an application finds the exchange, for the short cuts."""
_ONE_WRITE = 64 * 1024

Application = Callable[[Any, Any, Any], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


def _nothing() -> None:
    """Nobody wants to know any more."""


class Exchange:
    """The answer's head goes out together with the first part of its body. No circles: it does not hold its scope."""

    __slots__ = (
        "_chunked", "_flow", "_fresh", "_left", "_loop", "_method", "_more", "_news", "_on_complete", "_parts", "_size",
        "_start", "_transport", "_wants_100", "disconnected", "keep_alive", "response_complete", "response_started",
        "task",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        transport: asyncio.Transport,
        flow: FlowControl,
        loop: asyncio.AbstractEventLoop,
        on_complete: Callable[[], None],
        keep_alive: bool,
        wants_100: bool,
    ) -> None:
        self._method = method
        self._transport = transport
        self._flow = flow
        self._loop = loop
        self._on_complete = on_complete
        self.keep_alive = keep_alive
        self._wants_100 = wants_100
        self.task: asyncio.Task[None] | None = None
        """The one in which the application answers."""
        self._parts: list[bytes] = []
        """Of the request's body: what has come and was not taken yet."""
        self._size = 0
        self._more = True
        self._fresh = False
        """Whether something has happened that `receive` has not told."""
        self._news: asyncio.Future[None] | None = None
        self._start: tuple[int, Headers] | None = None
        """The answer's head, until it is sent."""
        self._chunked: bool | None = None
        self._left = 0
        """What the answer's body lacks of the length that was said."""
        self.disconnected = False
        self.response_started = False
        self.response_complete = False

    async def run(self, app: Application, scope: dict[str, Any], tasks: set[asyncio.Task[None]]) -> None:
        """Have the application answer; `tasks` are those of all that are underway."""
        try:
            await app(scope, self.receive, self.send)
        except BaseException:  # also the end of the server, which cancels it: the task is over with this all the same
            log.exception("Exception in ASGI application")
            await self._fail()
        else:
            if not self.response_complete and not self.disconnected:
                log.error("the application returned without a complete answer")
                await self._fail()
        finally:
            self._on_complete = _nothing
            if self.task is not None:
                tasks.discard(self.task)

    async def _fail(self) -> None:
        if self.response_started:
            self._transport.close()
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": b"Internal Server Error"})

    # The request

    def add(self, part: bytes) -> None:
        """More of the body has come."""
        if self.response_complete:
            return
        self._parts.append(part)
        self._size += len(part)
        if self._size > HIGH_WATER_LIMIT:
            self._flow.pause_reading()
        self._wake()

    def is_read(self) -> None:
        """All of the body has come."""
        self._more = False
        self._wake()

    def lose(self) -> None:
        """The client has closed its connection."""
        if not self.response_complete:
            self.disconnected = True
        self._wake()

    def _wake(self) -> None:
        self._fresh = True
        if (news := self._news) is not None and not news.done():
            news.set_result(None)

    def whole_body(self) -> bytes | None:
        """Return the body if all of it is here already; None: `receive` has it part by part."""
        if self._more or self.disconnected:
            return None
        self._flow.resume_reading()
        self._fresh = False
        return self._take()

    def _take(self) -> bytes:
        parts = self._parts
        taken = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._size = 0
        return taken

    async def receive(self) -> dict[str, Any]:
        """ASGI's `receive`, for one at a time."""
        if self._wants_100 and not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._wants_100 = False
        if not self.disconnected and not self.response_complete:
            self._flow.resume_reading()
            if not self._fresh:
                self._news = self._loop.create_future()
                try:
                    await self._news
                finally:
                    self._news = None
            self._fresh = False
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self._take(), "more_body": self._more}

    # The answer

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer. Its length is said."""
        self.response_started = True
        self._wants_100 = False
        self._start = (status, headers)
        await self.send_part(body, False)

    async def send(self, message: Any) -> None:
        """ASGI's `send`."""
        if message["type"] == "http.response.start":
            self.response_started = True
            self._wants_100 = False
            self._start = (message["status"], message["headers"])
            self._loop.call_soon(self._send_head)
            return
        await self.send_part(message.get("body", b""), message.get("more_body", False))

    async def send_part(self, body: bytes, more: bool) -> None:
        """Send a part of the answer's body when there is room for it."""
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()
        if self.disconnected:
            return
        if self.response_complete:
            raise RuntimeError("the answer is complete already")
        self._write(body, more)

    def _send_head(self) -> None:
        """Send the head by itself: no body came at once."""
        if self._start is not None and not self.disconnected and not self._transport.is_closing():
            self._transport.write(self._head(None))

    def _write(self, body: bytes, more: bool) -> None:
        parts = [self._head(None if more else len(body))] if self._start is not None else []
        if self._method == "HEAD":
            self._left = 0
        elif self._chunked:
            if body:
                parts += (b"%x\r\n" % len(body), body, b"\r\n")
            if not more:
                parts.append(b"0\r\n\r\n")
        else:
            self._left -= len(body)
            if self._left < 0:
                raise RuntimeError("the body is longer than its Content-Length")
            parts.append(body)
        if len(body) > _ONE_WRITE:
            self._transport.writelines(parts)
        elif parts:
            self._transport.write(b"".join(parts))
        if not more:
            self._complete()

    def _complete(self) -> None:
        if self._left:
            raise RuntimeError("the body is shorter than its Content-Length")
        self.response_complete = True
        self._wake()
        if not self.keep_alive:
            self._transport.close()
        self._on_complete()

    def _head(self, length: int | None) -> bytes:
        """Return the head, for a body of `length` bytes if that is known."""
        assert self._start is not None
        status, headers = self._start
        self._start = None
        parts = [STATUS_LINE[status]]
        says_close = False
        for name, value in headers:
            if name == b"content-length" and self._chunked is None:
                self._left = int(value)
                self._chunked = False
            elif name == b"transfer-encoding" and value.lower() == b"chunked":
                self._left = 0
                self._chunked = True
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive = False
                says_close = True
            parts += (name, b": ", value, b"\r\n")
        lines = len(headers) + 2
        if not self.keep_alive and not says_close:
            parts.append(b"connection: close\r\n")
            lines += 1
        if self._chunked is None and self._method != "HEAD" and status not in (204, 304):
            lines += 1
            if length is None:
                self._chunked = True
                parts.append(b"transfer-encoding: chunked\r\n")
            else:
                self._chunked = False
                self._left = length
                parts.append(b"content-length: %d\r\n" % length)
        parts.append(b"\r\n")
        head = b"".join(parts)
        if head.count(b"\n") != lines or b"\0" in head:
            raise RuntimeError("a header of the answer holds a line break")
        return head
