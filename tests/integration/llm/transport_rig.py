"""How the tests of the transport ask, and the scripts of the servers they ask."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from raw_server import Peer, RawServer, Script, answer, serving

from reanimate.gateway.llm.transport.errors import TransportFailed, TransportTrouble
from reanimate.gateway.llm.transport.pool import Pool
from reanimate.gateway.llm.transport.response import Response

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = answer(b'{"ok": true}', b"Content-Type: application/json")
HEADERS = [(b"content-type", b"application/json"), (b"authorization", b"Bearer sk-1")]
MB = 1024 * 1024


@asynccontextmanager
async def asking(script: Script, **options: object) -> AsyncIterator[tuple[Pool, RawServer]]:
    async with serving(script) as server:
        pool = Pool(server.url, **options)  # type: ignore[arg-type]
        try:
            yield pool, server
        finally:
            await pool.close()


async def post(pool: Pool, body: bytes = b"{}", into: Response | None = None) -> Response:
    return await pool.send(b"POST", b"/chat/completions", HEADERS, body, into)


def saying(*parts: bytes, then: Callable[[Peer], None] | None = None) -> Script:
    """Return a script: read a request, send these, a moment apart, then close or do `then`."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for part in parts:
            await peer.say(part)
            await asyncio.sleep(0.01)
        if then is not None:
            then(peer)

    return script


async def until(condition: Callable[[], bool], within_s: float = 2.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


async def trouble(pool: Pool, limit: int = MB) -> tuple[TransportTrouble, bytes]:
    """Ask, and return how it broke and what of the body came before."""
    got = b""
    try:
        response = await post(pool)
        while part := await response.chunk():
            got += part
    except TransportFailed as failed:
        return failed.kind, got
    raise AssertionError(f"an answer: {got!r}")
