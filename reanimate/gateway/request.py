"""One request of a client: its body, buffered or streamed; its answer; and the news that the client has gone."""

import asyncio
import string
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote_from_bytes

import orjson

from reanimate.gateway.exchange import EXCHANGE, Exchange

__all__ = ["ClientGone", "Receive", "Request", "Scope", "Send"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class ClientGone(Exception):
    """The client closed its connection before it had its answer."""


class Request:
    """An ASGI request, lean enough for the hot path."""

    __slots__ = (
        "_exchange", "_gone", "_prefix", "_receive", "_rest", "_send",
        "client", "headers", "left", "length", "method", "path", "started", "target",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._exchange: Exchange | None = scope.get(EXCHANGE)
        self.method: str = scope["method"]
        raw: bytes = scope["raw_path"]
        self.path = raw.decode("ascii")
        query: bytes = scope["query_string"]
        if not query.isascii():
            query = quote_from_bytes(query, safe=string.printable).encode()
        self.target = f"{self.path}?{query.decode('ascii')}" if query else self.path
        """Path and query, as they stand in the request line."""
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.client: str = (scope.get("client") or ("?",))[0]
        self.started = False
        """Whether the answer's head has been sent."""
        self.left = False
        """Whether the client went away before it had sent everything."""
        self._prefix = b""
        self._rest = False
        self.length: int | None = None
        for name, value in self.headers:
            if name == b"content-length":
                self.length = int(value)
                self._rest = self.length > 0
            elif name == b"transfer-encoding":
                self._rest = True
        self._gone: asyncio.Task[None] | None = None

    async def body(self, limit: int) -> bytes | None:
        """Return the whole body, or None if it is longer than `limit` bytes: `stream()` has all of it then.

        Raises:
            ClientGone: the client left before it had sent everything.
        """
        if not self._rest:
            return self._prefix
        if self.length is not None and self.length > limit:
            return None
        if self._exchange is not None and (whole := self._exchange.whole_body()) is not None:
            self._rest = False
            self._prefix = whole
            return whole if len(whole) <= limit else None
        parts = []
        size = 0
        while self._rest and size <= limit:
            part = await self._next_part()
            size += len(part)
            parts.append(part)
        self._prefix = parts[0] if len(parts) == 1 else b"".join(parts)
        return None if self._rest or size > limit else self._prefix

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, once.

        Raises:
            ClientGone: the client left before it had sent everything.
        """
        if self._prefix:
            yield self._prefix
        while self._rest:
            part = await self._next_part()
            if part:
                yield part

    async def _next_part(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.left = True
            raise ClientGone
        self._rest = message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part

    @property
    def is_body_read(self) -> bool:
        """Whether all of the body has been taken from the connection."""
        return not self._rest

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """The task in which it is answered; asked for in that task."""
        return self._exchange.task if self._exchange is not None else asyncio.current_task()

    def gone(self) -> asyncio.Task[None]:
        """Return a task that ends when the client has gone. Only once the body is read: both read the connection."""
        if self._gone is None:
            self._gone = asyncio.get_running_loop().create_task(self._wait_until_gone())
        return self._gone

    async def _wait_until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def close(self) -> None:
        """End what still listens to the client."""
        if self._gone is not None:
            self._gone.cancel()

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the head of the answer."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    def send(self, body: bytes, *, more: bool) -> Awaitable[None]:
        """Send a part of the answer, when the connection has room for it."""
        if self._exchange is not None:
            return self._exchange.send_part(body, more)
        return self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a whole answer. Its length need not be among the headers."""
        if self._exchange is None:
            await self.start(status, headers)
            await self.send(body, more=False)
        else:
            self.started = True
            await self._exchange.answer(status, headers, body)

    async def refuse(self, status: int, error: str, *, retry_after_s: int | None = None, **extra: Any) -> None:
        """Answer with an error in the words and the shape of the servers behind us."""
        body = orjson.dumps({"status": {"error": error}, "time": 0.0, **extra})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if retry_after_s is not None:
            headers.append((b"retry-after", str(retry_after_s).encode()))
        await self.start(status, headers)
        await self.send(body, more=False)
