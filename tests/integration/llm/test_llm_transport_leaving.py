"""Whoever leaves takes the connection along; whoever reads slowly makes the provider wait."""

import asyncio
import socket
import time

import pytest
from raw_server import Peer, RawServer
from transport_rig import CHUNKED, MB, OK, asking, post, saying, until

from reanimate.gateway.llm.transport.pool import Pool
from reanimate.gateway.llm.transport.response import HIGH, Response


async def silent(peer: Peer) -> None:
    await peer.request()
    await peer.until_closed()


async def talking(peer: Peer) -> None:
    await peer.request()
    await peer.say(CHUNKED + b"3\r\nabc\r\n")
    await peer.until_closed()


async def closed_within(server: RawServer, began: float) -> float:
    await until(lambda: server.peers[0].closed_at is not None)
    closed_at = server.peers[0].closed_at
    assert closed_at is not None
    return closed_at - began


@pytest.mark.timed
async def test_cancelling_before_the_head_closes_the_connection() -> None:
    """The best of three: a machine may be held up by others once."""
    took = []
    for _ in range(3):
        async with asking(silent) as (pool, server):
            task = asyncio.create_task(post(pool))
            await until(lambda server=server: bool(server.peers))
            began = asyncio.get_running_loop().time()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            took.append(await closed_within(server, began))
            assert pool._underway == 0
    assert min(took) < 0.1


@pytest.mark.timed
@pytest.mark.parametrize("whole", [False, True])
async def test_cancelling_within_the_body_closes_the_connection(whole: bool) -> None:
    async with asking(talking) as (pool, server):
        response = await post(pool)
        if not whole:
            assert await response.chunk() == b"abc"
        task = asyncio.create_task(response.read(100) if whole else response.chunk())
        await asyncio.sleep(0.02)
        began = asyncio.get_running_loop().time()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await closed_within(server, began) < 0.1
        assert response.closed


class TooSlow(Exception):
    pass


@pytest.mark.timed
async def test_a_timer_aborts_with_its_reason() -> None:
    async with asking(talking) as (pool, server):
        response = await post(pool)
        assert await response.chunk() == b"abc"
        began = asyncio.get_running_loop().time()
        asyncio.get_running_loop().call_later(0.05, response.abort, TooSlow())
        with pytest.raises(TooSlow):
            await response.chunk()
        assert await closed_within(server, began) < 0.15
        with pytest.raises(TooSlow):
            await response.read(100)


async def test_a_timer_aborts_before_the_head() -> None:
    async with asking(silent) as (pool, server):
        response = Response()
        asyncio.get_running_loop().call_later(0.05, response.abort, TooSlow())
        with pytest.raises(TooSlow):
            await post(pool, into=response)
        await until(lambda: server.peers[0].closed_at is not None)
        assert pool._underway == 0


async def test_a_timer_aborts_while_waiting_for_a_place() -> None:
    async with asking(silent, limit=1) as (pool, server):
        first = asyncio.create_task(post(pool))
        await until(lambda: bool(server.peers))
        response = Response()
        asyncio.get_running_loop().call_later(0.05, response.abort, TooSlow())
        with pytest.raises(TooSlow):
            await post(pool, into=response)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert pool._underway == 0
        assert len(server.peers) == 1


@pytest.mark.timed
async def test_a_timer_aborts_while_connecting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # The kernel accepts, and nobody ever answers the handshake.
        pool = Pool(f"https://127.0.0.1:{listener.getsockname()[1]}", connect_timeout_s=5)
        response = Response()
        asyncio.get_running_loop().call_later(0.05, response.abort, TooSlow())
        began = time.monotonic()
        with pytest.raises(TooSlow):
            await post(pool, into=response)
        assert time.monotonic() - began < 0.5
        assert pool._underway == 0


async def test_what_was_aborted_before_is_never_sent() -> None:
    async with asking(saying(OK)) as (pool, server):
        response = Response()
        response.abort(TooSlow())
        with pytest.raises(TooSlow):
            await post(pool, into=response)
        await asyncio.sleep(0.02)
        assert server.requests == 0
        assert pool._underway == 0


async def test_aborting_a_complete_answer_leaves_the_connection_to_the_next() -> None:
    async def script(peer: Peer) -> None:
        while True:
            await saying(OK)(peer)

    async with asking(script) as (pool, server):
        for _ in range(3):
            response = await post(pool)
            await response.read(100)
            response.abort()
        assert len(server.peers) == 1


async def test_the_time_of_the_last_byte() -> None:
    async with asking(talking) as (pool, _):
        began = asyncio.get_running_loop().time()
        response = await post(pool)
        assert await response.chunk() == b"abc"
        assert began <= response.last_byte_at <= asyncio.get_running_loop().time()
        response.abort()


async def test_a_slow_reader_makes_the_provider_wait() -> None:
    sent = 0
    total = 64 * MB

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        piece = bytes(range(256)) * 256
        while sent < total:
            await peer.say(piece)
            sent += len(piece)
        await peer.until_closed()

    async with asking(script) as (pool, _):
        response = await post(pool)
        await asyncio.sleep(0.3)
        # What the kernel buffers on both sides, and ours.
        assert sent < 16 * MB
        assert response.size < HIGH + 300 * 1024
        got = most = 0
        while part := await response.chunk():
            assert part[0] == got % 256
            got += len(part)
            most = max(most, len(part))
        assert got == total
        assert most < HIGH + 300 * 1024
        assert not response.paused
        await until(lambda: len(pool._idle) == 1)
