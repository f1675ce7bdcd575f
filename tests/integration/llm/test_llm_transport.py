"""The connections to a provider, against raw sockets: where an answer ends, and every way to break."""

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from raw_server import Peer, answer, serving
from transport_rig import CHUNKED, MB, OK, asking, post, saying, trouble, until

from reanimate.errors import ConfigInvalid
from reanimate.gateway.llm.transport.errors import TransportFailed, TransportTrouble
from reanimate.gateway.llm.transport.pool import Pool


async def test_the_request_as_it_arrives() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.say(OK)

    async with asking(script) as (pool, server):
        response = await post(pool, b'{"a": 1}')
        assert response.status == 200
        assert (b"content-type", b"application/json") in response.headers
        assert await response.read(1000) == b'{"ok": true}'
        assert response.closed
    head, body = seen[0]
    assert body == b'{"a": 1}'
    assert head == (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept-Encoding: identity\r\n"
        b"content-type: application/json\r\nauthorization: Bearer sk-1\r\nContent-Length: 8\r\n\r\n" % server.port
    )


BODIES = {
    "length": ([answer(b"abcdef")], b"abcdef", True),
    "length, in pieces": ([answer(b"abcdef")[:20], answer(b"abcdef")[20:-2], b"ef"], b"abcdef", True),
    "chunked": ([CHUNKED + b"3\r\nabc\r\n", b"3\r\nde", b"f\r\n0\r\n\r\n"], b"abcdef", True),
    "chunked, with a trailer": ([CHUNKED + b"6\r\nabcdef\r\n0\r\nX-Sum: 1\r\n\r\n"], b"abcdef", True),
    "until close": ([b"HTTP/1.1 200 OK\r\n\r\nabc", b"def"], b"abcdef", False),
    "HTTP/1.0 until close": ([b"HTTP/1.0 200 OK\r\nX: 1\r\n\r\nabcdef"], b"abcdef", False),
    "length, then closed": ([answer(b"abcdef", b"Connection: close")], b"abcdef", False),
    "after 100 and 103": (
        [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer(b"abcdef")],
        b"abcdef",
        True,
    ),
    "204": ([b"HTTP/1.1 204 No Content\r\n\r\n"], b"", True),
    "304": ([b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n"], b"", True),
    "empty": ([answer(b"")], b"", True),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("streamed", [False, True])
async def test_bodies_end_where_they_end(name: str, streamed: bool) -> None:
    parts, body, kept = BODIES[name]

    async def script(peer: Peer) -> None:
        while True:
            await saying(*parts)(peer)
            if not kept:
                return

    async with asking(script) as (pool, server):
        for _ in range(2):
            response = await post(pool)
            got = b""
            if streamed:
                while part := await response.chunk():
                    got += part
                assert await response.chunk() == b""
            else:
                got = await response.read(100)
            assert got == body
            assert not any(name in (b"link", b"x-sum") for name, _ in response.headers)
        assert len(server.peers) == (1 if kept else 2)


async def test_the_answer_to_head_has_no_body() -> None:
    async with asking(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")) as (pool, _):
        response = await pool.send(b"HEAD", b"/models", [])
        assert (response.status, await response.read(100)) == (200, b"")


async def test_a_proper_answer_that_says_no_is_not_a_failure() -> None:
    async with asking(saying(answer(b"slow down", b"Retry-After: 7", status=b"429 Too Many Requests"))) as (pool, _):
        response = await post(pool)
        assert (response.status, await response.read(100)) == (429, b"slow down")
        assert (b"retry-after", b"7") in response.headers


@pytest.mark.parametrize("header", [(b"x", b"1\r\nY: 2"), (b"x\ny", b"1"), (b"x", b"a\0b")])
async def test_no_header_grows_a_second_line(header: tuple[bytes, bytes]) -> None:
    async with asking(saying(OK)) as (pool, server):
        with pytest.raises(ValueError, match="line break"):
            await pool.send(b"POST", b"/x", [header], b"{}")
        assert not server.peers


@pytest.mark.parametrize("url", ["ftp://a/b", "http://", "/v1", "http://a:b/", "https://a b/v1", "http://ä/v1"])
async def test_only_urls_of_http(url: str) -> None:
    with pytest.raises(ConfigInvalid):
        Pool(url)


async def test_refused() -> None:
    async with serving(saying(OK)) as server:
        pool = Pool(server.url)
    assert await trouble(pool) == (TransportTrouble.REFUSED, b"")


async def test_no_such_host() -> None:
    assert await trouble(Pool("http://nowhere.invalid/v1", connect_timeout_s=5)) == (TransportTrouble.REFUSED, b"")


@pytest.mark.timed
async def test_no_connection_in_time() -> None:
    # A listener whose queue is full lets nobody in, and says nothing.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        began = time.monotonic()
        pool = Pool(f"http://127.0.0.1:{listener.getsockname()[1]}", connect_timeout_s=0.2)
        assert await trouble(pool) == (TransportTrouble.CONNECT_TIMEOUT, b"")
        assert 0.15 < time.monotonic() - began < 1
        for filler in fillers:
            filler.close()


HEAD_AND = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"
TROUBLES = {
    "closed without a word": (saying(), TransportTrouble.RESET, b""),
    "reset without a word": (saying(then=Peer.reset), TransportTrouble.RESET, b""),
    "closed within the head": (saying(b"HTTP/1.1 200 OK\r\nContent-"), TransportTrouble.RESET, b""),
    "reset within the head": (saying(b"HTTP/1.1 200", then=Peer.reset), TransportTrouble.RESET, b""),
    "closed after a 100": (saying(b"HTTP/1.1 100 Continue\r\n\r\n"), TransportTrouble.RESET, b""),
    "closed within the body": (saying(HEAD_AND), TransportTrouble.CUT, b"abc"),
    "reset within the body": (saying(HEAD_AND, then=Peer.reset), TransportTrouble.CUT, b"abc"),
    "chunked without its end": (saying(CHUNKED + b"3\r\nabc\r\n"), TransportTrouble.CUT, b"abc"),
    "malformed chunk": (saying(CHUNKED + b"3\r\nabc\r\nzz\r\n"), TransportTrouble.CUT, b"abc"),
    "reset where only closing ends it": (
        saying(b"HTTP/1.1 200 OK\r\n\r\nabc", then=Peer.reset),
        TransportTrouble.CUT,
        b"abc",
    ),
    "not HTTP": (saying(b"220 mail.example ESMTP\r\n"), TransportTrouble.NOT_HTTP, b""),
    "another protocol": (
        saying(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        TransportTrouble.NOT_HTTP,
        b"",
    ),
    "an endless head": (saying(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000), TransportTrouble.TOO_LARGE, b""),
}


@pytest.mark.parametrize("name", TROUBLES)
async def test_each_trouble_has_its_name(name: str) -> None:
    script, kind, before = TROUBLES[name]
    async with asking(script) as (pool, server):
        assert await trouble(pool) == (kind, before)
        # What may have been understood is not asked twice.
        assert len(server.peers) == 1
        await until(lambda: not pool._open)


async def test_an_answer_longer_than_may_be_kept() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.say(b"x" * 65536)

    async with asking(script) as (pool, _):
        response = await post(pool)
        with pytest.raises(TransportFailed) as caught:
            await response.read(MB)
        assert caught.value.kind is TransportTrouble.TOO_LARGE
        await until(lambda: not pool._open)


async def test_exactly_as_long_as_may_be_kept() -> None:
    async with asking(saying(answer(b"x" * 1000))) as (pool, _):
        assert len(await (await post(pool)).read(1000)) == 1000


async def test_reading_a_cut_body_says_so() -> None:
    async with asking(saying(HEAD_AND)) as (pool, _):
        response = await post(pool)
        with pytest.raises(TransportFailed) as caught:
            await response.read(MB)
        assert caught.value.kind is TransportTrouble.CUT
        assert response.closed


async def test_all_of_this_on_uvloop(request: pytest.FixtureRequest) -> None:
    """These files once more, on the event loop that the gateway runs on."""
    code = (
        "import sys, asyncio, uvloop, pytest\n"
        "asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())\n"
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    files = [str(file) for file in Path(__file__).parent.glob("test_llm_transport*.py")]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *files, "--deselect", request.node.nodeid, "-q", "-p", "no:cacheprovider",
        cwd=request.config.rootpath, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
