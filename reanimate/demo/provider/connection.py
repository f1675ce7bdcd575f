"""One connection: requests in, answers out, one at a time; every byte is ours."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

import httptools

from reanimate.demo.provider.calls import Call
from reanimate.demo.provider.faults import Fault
from reanimate.demo.provider.plan import Plan
from reanimate.demo.provider.sending import Sending, reset

__all__ = ["Connection", "Desk", "Incoming"]

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NO_HTTP = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Incoming:
    """One request as it came."""

    __slots__ = ("body", "headers", "keep", "method", "url")

    def __init__(self) -> None:
        self.method = b""
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.keep = True


class Desk(Protocol):
    """Who answers: a provider."""

    def answer(self, request: Incoming) -> tuple[Call | None, bytes | Plan]:
        """Return what a request gets: bytes at once, or a plan; None for a call of the administration."""

    def ident(self) -> bytes: ...

    def opened(self, connection: "Connection") -> None: ...

    def closed(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """Parses requests and carries answers out; a request that comes during an answer waits for its turn."""

    def __init__(self, desk: Desk, clock: Callable[[], float]) -> None:
        self._desk = desk
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._request = Incoming()
        self._parts: list[bytes] = []
        self._waiting: deque[Incoming] = deque()
        self._sending: Sending | None = None
        self._keep = True
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._desk.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._desk.closed(self)
        if self._sending is not None:
            self._sending.cancel("client closed")
            self._sending = None

    def hit(self, fault: Fault) -> None:
        """Have a fault hit the answer that is underway."""
        if self._sending is not None and fault.match.fits(*self._sending.call.traits):
            self._sending.hit(fault.kind)

    def kill(self) -> None:
        """End the connection with RST, whatever is underway."""
        if self._sending is not None:
            self._sending.cancel("rst")
        reset(self.transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.write(_NO_HTTP)
            self.transport.close()

    def on_message_begin(self) -> None:
        self._request = Incoming()
        self._parts = []

    def on_url(self, url: bytes) -> None:
        self._request.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers.append((name, value))
        if len(name) == 6 and name.lower() == b"expect":
            self.transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        request, parts = self._request, self._parts
        request.method = self._parser.get_method()
        request.keep = self._parser.should_keep_alive()
        request.body = parts[0] if len(parts) == 1 else b"".join(parts)
        if self._sending is None:
            self._answer(request)
        else:
            self._waiting.append(request)

    def _answer(self, request: Incoming) -> None:
        call, made = self._desk.answer(request)
        if isinstance(made, bytes):
            self.transport.write(made)
            if call is not None:
                call.end("answered", self._clock())
            if not request.keep:
                self.transport.close()
            return
        assert call is not None
        self._keep = request.keep
        self._sending = Sending(self._loop, self.transport, call, made, self._desk.ident(), self._sent)
        self._sending.run()

    def _sent(self, sending: Sending) -> None:
        sending.call.end("answered", self._clock())
        self._sending = None
        if not self._keep:
            self.transport.close()
        elif self._waiting:
            self._answer(self._waiting.popleft())
