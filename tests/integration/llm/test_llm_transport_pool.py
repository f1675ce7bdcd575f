"""Connections are kept, shared and limited, and never trusted."""

import asyncio
import gc

import pytest
from raw_server import Peer, RawServer, answer
from transport_rig import CHUNKED, MB, OK, asking, post, saying, trouble, until

from reanimate.gateway.llm.transport.errors import TransportFailed, TransportTrouble
from reanimate.gateway.llm.transport.response import Response


async def test_a_thousand_requests_share_as_many_connections_as_are_asked_at_once() -> None:
    server_holder: list[RawServer] = []

    async def script(peer: Peer) -> None:
        await server_holder[0].answering(peer, OK)

    async with asking(script) as (pool, server):
        server_holder.append(server)
        left = iter(range(1000))

        async def client() -> None:
            for _ in left:
                assert await (await post(pool)).read(100) == b'{"ok": true}'

        await asyncio.gather(*(client() for _ in range(8)))
        assert server.requests == 1000
        assert len(server.peers) <= 8


async def test_a_kept_connection_that_breaks_unanswered_is_replaced_once() -> None:
    """The race of HTTP keep-alive: the server closes while the request is on its way."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        if peer.number == 0:
            await peer.request()
            peer.reset()
        await peer.until_closed()

    async with asking(script) as (pool, server):
        for _ in range(2):
            assert await (await post(pool)).read(100) == b'{"ok": true}'
        assert len(server.peers) == 2


async def test_it_is_replaced_only_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 0:
            await peer.say(OK)
            await peer.request()
        peer.reset()

    async with asking(script) as (pool, server):
        await (await post(pool)).read(100)
        assert await trouble(pool) == (TransportTrouble.RESET, b"")
        assert len(server.peers) == 2


async def test_it_is_not_replaced_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may have worked on the answer, and be paid: whether to ask again is the call's to decide and count."""
    monkeypatch.setattr("reanimate.gateway.llm.transport.pool._CLOSING_S", 0.05)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        await peer.request()
        await asyncio.sleep(0.2)
        peer.reset()

    async with asking(script) as (pool, server):
        await (await post(pool)).read(100)
        assert await trouble(pool) == (TransportTrouble.RESET, b"")
        assert len(server.peers) == 1


async def test_it_is_not_replaced_after_a_byte_of_an_answer() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        await peer.request()
        await peer.say(b"HTTP/1.1 2")

    async with asking(script) as (pool, server):
        await (await post(pool)).read(100)
        assert await trouble(pool) == (TransportTrouble.RESET, b"")
        assert len(server.peers) == 1


async def test_a_kept_connection_that_was_closed_meanwhile_is_not_used() -> None:
    async with asking(saying(OK)) as (pool, server):
        await (await post(pool)).read(100)
        await until(lambda: not pool._open)
        await (await post(pool)).read(100)
        assert len(server.peers) == 2


@pytest.mark.timed
async def test_what_is_idle_for_three_seconds_is_closed() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        await peer.until_closed()

    async with asking(script) as (pool, server):
        await (await post(pool)).read(100)
        began = asyncio.get_running_loop().time()
        await until(lambda: server.peers[0].closed_at is not None, 4)
        closed_at = server.peers[0].closed_at
        assert closed_at is not None
        assert 2.9 < closed_at - began < 3.3


@pytest.mark.parametrize("surplus", [answer(b"forged"), b"HTTP/1.1 200 OK\r\n", b"\0garbage"])
async def test_what_comes_behind_an_answer_is_nobodys_answer(surplus: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK + (surplus if peer.number == 0 else b""))
        await peer.until_closed()

    async with asking(script) as (pool, server):
        for _ in range(2):
            assert await (await post(pool)).read(100) == b'{"ok": true}'
        assert len(server.peers) == 2


async def test_what_comes_unasked_on_an_idle_connection_ends_it() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        await asyncio.sleep(0.02)
        await peer.say(answer(b"forged"))
        await peer.until_closed()

    async with asking(script) as (pool, server):
        await (await post(pool)).read(100)
        await until(lambda: server.peers[0].closed_at is not None)
        assert await (await post(pool)).read(100) == b'{"ok": true}'
        assert len(server.peers) == 2


async def test_an_answer_before_all_was_sent_is_taken_and_the_connection_is_not() -> None:
    async def script(peer: Peer) -> None:
        await peer._reader.readuntil(b"\r\n\r\n")
        await peer.say(answer(b"too much", status=b"413 Content Too Large"))
        await asyncio.sleep(0.2)

    async with asking(script) as (pool, _):
        response = await post(pool, b"x" * 20 * MB)
        assert (response.status, await response.read(100)) == (413, b"too much")
        await until(lambda: not pool._open)


async def test_a_warm_pool_needs_no_new_connection() -> None:
    async with asking(saying(OK)) as (pool, server):
        await pool.warm()
        await pool.warm()
        await (await post(pool)).read(100)
        assert len(server.peers) == 1


async def test_no_more_than_the_limit_and_all_in_their_order() -> None:
    at_once = most = 0
    order: list[int] = []

    async def script(peer: Peer) -> None:
        nonlocal at_once, most
        while True:
            await peer.request()
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.005)
            at_once -= 1
            await peer.say(OK)

    async with asking(script, limit=2) as (pool, server):

        async def one(number: int) -> None:
            await (await post(pool)).read(100)
            order.append(number)

        tasks = [asyncio.create_task(one(number)) for number in range(12)]
        await asyncio.sleep(0)
        tasks[5].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most == 2
        assert len(server.peers) <= 2
        assert sorted(order) == [number for number in range(12) if number != 5]
        assert pool._underway == 0
        await (await post(pool)).read(100)


async def test_nothing_is_left_behind() -> None:
    """Ten thousand exchanges of all kinds: no connection, task or response stays."""

    async def script(peer: Peer) -> None:
        for number in range(50):
            await peer.request()
            await peer.say(OK if number % 7 else CHUNKED + b"3\r\nabc\r\n0\r\n\r\n")

    gc.collect()
    before = {id(thing) for thing in gc.get_objects() if isinstance(thing, Response)}
    async with asking(script) as (pool, _):

        async def client(count: int) -> None:
            for number in range(count):
                try:
                    response = await post(pool)
                    if number % 5:
                        await response.read(100)
                    else:
                        response.abort()
                except TransportFailed:
                    pass

        await asyncio.gather(*(client(100) for _ in range(20)))
        await asyncio.sleep(0.05)
        gc.collect()
        assert len(pool._open) == len(pool._idle) <= 20
        assert pool._underway == 0
        held = [thing for thing in gc.get_objects() if isinstance(thing, Response) and id(thing) not in before]
        assert len(held) == 0
