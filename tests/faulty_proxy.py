"""A real TCP proxy in front of an HTTP server that cuts, stalls or answers for it, one request per connection."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

__all__ = ["Fault", "FaultyProxy", "proxied"]

Kind = Literal["cut answer", "cut request", "stall answer", "stall request", "status", "swallow answer"]


@dataclass
class Fault:
    """What to do to requests of this method whose path holds `path`: `times` times, after `skip` good ones."""

    kind: Kind
    method: str
    path: str
    after: int = 0
    """Body bytes let through first, in the direction that is cut or stalled."""
    status: int = 500
    times: int = 1
    skip: int = 0
    hits: int = 0

    def applies(self, method: str, path: str) -> bool:
        if method != self.method or self.path not in path:
            return False
        self.hits += 1
        return self.skip < self.hits <= self.skip + self.times


@dataclass
class FaultyProxy:
    """Forwards to `upstream`; `seen` are the request lines with their Range header."""

    upstream: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    url: str = ""
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    def asked(self, method: str, part: str) -> int:
        """How many requests of this method with `part` in their path came."""
        return sum(verb == method and part in path for verb, path, _ in self.seen)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self._forward(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # cancelled only by the end of the test, and the task ends here
        finally:
            self.tasks.discard(task)
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, path, _ = head.split("\r\n", 1)[0].split(" ")
        ranges = [line.split(": ", 1)[1] for line in head.split("\r\n") if line.lower().startswith("range:")]
        self.seen.append((method, path, ranges[0] if ranges else ""))
        fault = next((fault for fault in self.faults if fault.applies(method, path)), None)
        if fault is not None and fault.kind == "status":
            await self._answer(reader, writer, head, fault.status)
            return
        if fault is not None and fault.kind == "cut request" and not fault.after:
            return  # the server never hears of it
        at = urlsplit(self.upstream)
        up_reader, up_writer = await asyncio.open_connection(at.hostname, at.port)
        try:
            lines = [line for line in head.split("\r\n") if line and not line.lower().startswith("connection:")]
            up_writer.write("\r\n".join([*lines, "connection: close", "", ""]).encode("latin-1"))
            asks = asyncio.create_task(_pipe(reader, up_writer, fault, "request"))
            try:
                await self._back(up_reader, writer, fault, asks)
            finally:
                asks.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await asks
        finally:
            up_writer.transport.abort()
            with contextlib.suppress(OSError):
                await up_writer.wait_closed()

    async def _back(
        self,
        up_reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        fault: Fault | None,
        asks: "asyncio.Task[bool]",
    ) -> None:
        head = asyncio.create_task(up_reader.readuntil(b"\r\n\r\n"))
        await asyncio.wait({head, asks}, return_when=asyncio.FIRST_COMPLETED)
        if asks.done() and not head.done() and not asks.cancelled() and asks.exception() is None and asks.result():
            head.cancel()
            return  # the request was cut
        answer = await head
        if fault is not None and fault.kind == "swallow answer":
            await asyncio.sleep(3600)
        writer.write(answer)
        await _pipe(up_reader, writer, fault, "answer")

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str, status: int) -> None:
        length = next((int(x.split(":")[1]) for x in head.split("\r\n") if x.lower().startswith("content-length:")), 0)
        while length > 0:
            chunk = await reader.read(min(length, 1 << 16))
            length -= len(chunk) or length
        body = b'{"status":{"error":"Service internal error: on purpose"},"time":0}'
        writer.write(
            f"HTTP/1.1 {status} On purpose\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
        )
        writer.write(body)
        await writer.drain()
        writer.write_eof()
        await asyncio.sleep(0.05)


async def _pipe(
    source: asyncio.StreamReader,
    into: asyncio.StreamWriter,
    fault: Fault | None,
    direction: Literal["request", "answer"],
) -> bool:
    """Copy until the end; return True when the fault has cut it."""
    left = fault.after if fault is not None and fault.kind.endswith(f" {direction}") else None
    if fault is not None and fault.kind == "swallow answer":
        left = None
    while chunk := await source.read(1 << 16):
        if left is not None and len(chunk) >= left:
            into.write(chunk[:left])
            await into.drain()
            assert fault is not None
            if fault.kind.startswith("stall"):
                await asyncio.sleep(3600)
            return True
        if left is not None:
            left -= len(chunk)
        into.write(chunk)
        await into.drain()
    if direction == "answer" and into.can_write_eof():
        into.write_eof()
        await asyncio.sleep(0.02)
    return False


@asynccontextmanager
async def proxied(upstream: str) -> AsyncIterator[FaultyProxy]:
    """Run a proxy in front of a server."""
    proxy = FaultyProxy(upstream)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in list(proxy.tasks):
            task.cancel()
        await asyncio.gather(*proxy.tasks, return_exceptions=True)
        await server.wait_closed()
