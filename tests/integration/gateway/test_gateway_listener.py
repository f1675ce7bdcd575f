"""The listener: what goes out on a connection, byte by byte."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reanimate.gateway import listener
from reanimate.gateway.listener import listener_for

App = Callable[[Any, Any, Any], Awaitable[None]]


@asynccontextmanager
async def serving(app: App) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Serve an application, and connect to it."""
    sock = socket.create_server(("127.0.0.1", 0))
    server = listener_for(app)
    task = asyncio.create_task(server.serve(sockets=[sock]))
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()
        server.should_exit = True
        await task


def answering(*parts: bytes, status: int = 200, headers: Any = (), pause_s: float = 0.0) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for number, part in enumerate(parts):
            if pause_s:
                await asyncio.sleep(pause_s)
            more = number < len(parts) - 1
            await send({"type": "http.response.body", "body": part, "more_body": more})

    return app


GET = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_head_and_body_come_together() -> None:
    async with serving(answering(b"whole", headers=[(b"x", b"1")])) as (reader, writer):
        for _ in range(3):
            writer.write(GET)
            assert await reader.read(65536) == b"HTTP/1.1 200 OK\r\nx: 1\r\ncontent-length: 5\r\n\r\nwhole"


async def test_a_head_whose_body_is_late_goes_ahead() -> None:
    async with serving(answering(b"a", b"b", b"", pause_s=0.05)) as (reader, writer):
        writer.write(GET)
        parts = [await reader.read(65536) for _ in range(4)]
        assert parts[0] == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        assert parts[1:] == [b"1\r\na\r\n", b"1\r\nb\r\n", b"0\r\n\r\n"]


async def test_a_large_body_is_whole() -> None:
    body = bytes(range(256)) * 4096
    async with serving(answering(body)) as (reader, writer):
        writer.write(GET)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 1048576\r\n" in head
        assert await reader.readexactly(len(body)) == body


@pytest.mark.parametrize("status", [204, 304])
async def test_what_has_no_body_says_no_length(status: int) -> None:
    async with serving(answering(b"", status=status)) as (reader, writer):
        writer.write(GET)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-length" not in head
        assert b"transfer-encoding" not in head


async def test_the_answer_to_head_is_a_head() -> None:
    async with serving(answering(b"never sent", headers=[(b"content-length", b"10")])) as (reader, writer):
        writer.write(GET.replace(b"GET", b"HEAD") + GET)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(10) == b"never sent"


async def test_requests_that_come_together_are_answered_in_order() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.02 if scope["raw_path"] == b"/slow" else 0)
        await answering(scope["raw_path"] + b"?" + scope["query_string"])(scope, receive, send)

    async with serving(app) as (reader, writer):
        writer.write(GET.replace(b"/a", b"/slow") + GET + GET.replace(b"/a?b=c", b"http://host/abs?x#y"))
        for wanted in (b"/slow?b=c", b"/a?b=c", b"/abs?x"):
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(len(wanted)) == wanted


async def test_http_1_0_and_close_end_the_connection() -> None:
    async with serving(answering(b"whole")) as (reader, writer):
        writer.write(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert b"connection: close" in await reader.readuntil(b"\r\n\r\n")
        assert await reader.read() == b"whole"
    async with serving(answering(b"whole")) as (reader, writer):
        writer.write(GET.replace(b"1.1", b"1.0"))
        assert (await reader.read()).endswith(b"whole")


@pytest.mark.parametrize("header", [(b"x", b"1\r\nforged: 2"), (b"x\ny", b"1"), (b"x", b"a\0")])
async def test_no_header_grows_a_second_line(header: tuple[bytes, bytes], caplog: pytest.LogCaptureFixture) -> None:
    async with serving(answering(b"whole", headers=[header])) as (reader, writer):
        writer.write(GET)
        assert await reader.read() == b""


@pytest.mark.parametrize("length", [b"4", b"6"])
async def test_a_wrong_length_is_never_whole(length: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(answering(b"whole", headers=[(b"content-length", length)])) as (reader, writer):
        writer.write(GET)
        got = await reader.read()
        assert not got.endswith(b"whole") or length == b"6"
        assert reader.at_eof()


async def test_idle_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_IDLE_S", 0.2)
    monkeypatch.setattr(listener, "_SWEEP_TICKS", 1)
    async with serving(answering(b"a", b"b", pause_s=0.4)) as (reader, writer):
        writer.write(GET)
        # Not while an answer is underway.
        assert (await reader.readuntil(b"0\r\n\r\n")).endswith(b"1\r\nb\r\n0\r\n\r\n")
        assert await asyncio.wait_for(reader.read(), 2) == b""
