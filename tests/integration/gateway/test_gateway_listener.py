"""The listener: what goes out on a connection, byte by byte."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reanimate.gateway import listener
from reanimate.gateway.listener import listener_for
from reanimate.gateway.request import Request

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


class Taking:
    """An application that takes the body, and answers, by the short cuts where it can."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit = limit
        self.tasks: list[bool] = []
        self.left = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive, send)
        self.tasks.append(request.task is asyncio.current_task())
        if request.path == "/watched":
            assert await request.body(self.limit) is not None
            await request.gone()
            self.left.set()
            return
        body = await request.body(self.limit)
        if body is None:
            body = b"longer: " + b"".join([part async for part in request.stream()])
        await request.answer(200, [(b"x", b"1")], body)


def post(body: bytes, path: bytes = b"/a", more: bytes = b"") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n" % (path, more, len(body)) + body


async def test_a_whole_answer_leaves_in_one_piece_and_says_its_length() -> None:
    async with serving(app := Taking()) as (reader, writer):
        for _ in range(3):
            writer.write(post(b"abc"))
            assert await reader.read(65536) == b"HTTP/1.1 200 OK\r\nx: 1\r\ncontent-length: 3\r\n\r\nabc"
    assert app.tasks == [True] * 3


async def test_a_body_is_whole_however_it_comes() -> None:
    body = bytes(range(256)) * 2048
    whole, chunked = post(body), b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"".join(b"400\r\n%s\r\n" % body[at : at + 1024] for at in range(0, len(body), 1024)) + b"0\r\n\r\n"
    async with serving(Taking()) as (reader, writer):
        for sent in (whole, chunked, whole + chunked):
            for at in range(0, len(sent), 30_011):
                writer.write(sent[at : at + 30_011])
                await asyncio.sleep(0)
        for _ in range(4):
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(len(body)) == body


@pytest.mark.parametrize("size", [11, 300_000])
async def test_a_body_beyond_the_limit_is_there_as_a_stream(size: int) -> None:
    sent = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (
        size,
        b"y" * size,
    )
    async with serving(Taking(limit=10)) as (reader, writer):
        for request in (sent, post(b"y" * size)):
            writer.write(request)
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(size + 8) == b"longer: " + b"y" * size


async def test_who_waits_to_be_told_to_go_on_is_told() -> None:
    async with serving(Taking()) as (reader, writer):
        writer.write(post(b"", more=b"Expect: 100-continue\r\n").replace(b"Length: 0", b"Length: 3"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(3) == b"abc"


@pytest.mark.parametrize("behind", [b"", post(b"abc")], ids=["alone", "with another request behind it"])
async def test_a_client_that_leaves_is_seen_to_leave(behind: bytes) -> None:
    async with serving(app := Taking()) as (_, writer):
        writer.write(post(b"x" * 100_000, b"/watched") + behind)
        await asyncio.sleep(0.05)
        writer.transport.abort()
        await asyncio.wait_for(app.left.wait(), 5)


async def test_who_reads_slowly_gets_every_answer_in_order() -> None:
    """The connection is full between them: the short cut waits for room as `send` does."""
    body = bytes(range(256)) * 4096
    async with serving(Taking()) as (reader, writer):
        asking = asyncio.create_task(_ask_often(writer, body, 8))
        await asyncio.sleep(0.2)
        for _ in range(8):
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(len(body)) == body
        await asking


async def _ask_often(writer: asyncio.StreamWriter, body: bytes, times: int) -> None:
    for _ in range(times):
        writer.write(post(body))
        await writer.drain()
