"""Each peer by its own URL: a load balancer, a doubled URL and a stranger are noticed, a silent peer is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from typing import Any

import httpx
import pytest

from reanimate.errors import Refused, Unreachable
from reanimate.vector.layout import survey
from reanimate.vector.peers import find_peers
from reanimate.vector.server import VectorServer

MEMBERS = {"1": {"uri": "http://p2p-1/"}, "2": {"uri": "http://p2p-2/"}}


@asynccontextmanager
async def _peer(*ids: int | None, members: Any = MEMBERS) -> AsyncIterator[str]:
    """A server at whose URL these peers answer in turn, each with one shard of two; None is a single server."""
    turn = cycle(ids)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        peer = next(turn)
        result: Any = (
            {"status": "disabled"} if peer is None else {"status": "enabled", "peer_id": peer, "peers": members}
        )
        if path != "/cluster":
            shards = [{"shard_id": n, "peer_id": n, "state": "Active", "points_count": 1} for n in (1, 2)]
            result = {
                "peer_id": peer or 1,
                "shard_count": 2,
                "local_shards": [row for row in shards if row["shard_id"] == peer],
                "remote_shards": [row for row in shards if row["shard_id"] != peer],
                "shard_transfers": [],
            }
        body = json.dumps({"result": result, "status": "ok"}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


Target = Callable[[Sequence[str]], VectorServer]


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    """A function that returns a target with these peers."""
    async with httpx.AsyncClient() as http:
        yield lambda urls: VectorServer("kb", urls[0], None, http, urls)


async def test_peers__each_by_its_own_url(target: Target) -> None:
    """Two URLs are two peers; together they show every shard once."""
    async with _peer(1) as first, _peer(2) as second:
        peers = await find_peers(target([first, second]))
        assert {peer: server.url for peer, server in peers.servers.items()} == {1: first, 2: second}
        assert peers.without_url == []
        layout = await survey(target([first, second]), "c")
        assert [(r.shard_id, r.peer_id, r.active) for r in layout.replicas] == [(1, 1, True), (2, 2, True)]


async def test_peers__without_a_url_and_silent_ones_are_told(target: Target, free_port: Callable[[], int]) -> None:
    """A peer that no URL leads to is known by its id; a URL at which nothing answers is told with the reason."""
    async with _peer(1) as first:
        assert (await find_peers(target([first]))).without_url == [2]
        nowhere = f"http://127.0.0.1:{free_port()}"
        peers = await find_peers(target([first, nowhere]))
        assert list(peers.silent) == [nowhere]
        layout = await survey(target([first, nowhere]), "c")
        assert f"{nowhere} does not answer" in layout.problems
    with pytest.raises(Unreachable):
        await find_peers(target([nowhere]))


@pytest.mark.parametrize(
    ("urls", "words"),
    [
        ([(1, 2)], "leads to peer 1, then 2"),
        ([(1, 1, 2, 2)], "leads to peer 1, then 2, then 2"),
        ([(1,), (1,)], "both lead to peer 1"),
        ([(1,), (None,)], "is a single server, not a peer"),
    ],
    ids=["every request another", "now and then another", "two URLs of one peer", "a stranger"],
)
async def test_peers__refused(target: Target, urls: list[tuple[int | None, ...]], words: str) -> None:
    """What is not each peer's own URL is refused before any snapshot is made, with what to do."""
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(_peer(*ids)) for ids in urls]
        with pytest.raises(Refused, match=words):
            await survey(target(found), "c")


async def test_peers__a_load_balancer_that_settles_is_not_refused(target: Target) -> None:
    """One odd answer, as of a peer that joined anew in that moment, is asked again."""
    async with _peer(1, 1, 2, 1) as url:
        assert (await survey(target([url]), "c")).shard_ids == [1, 2]


async def test_peers__of_another_cluster(target: Target) -> None:
    """A URL of another cluster's peer does not slip in."""
    async with _peer(1, members={"1": {"uri": "x"}}) as first, _peer(9, members={"9": {"uri": "y"}}) as second:
        with pytest.raises(Refused, match="belongs to another cluster"):
            await find_peers(target([first, second]))


async def test_single_server__is_one_peer(target: Target) -> None:
    """A server without cluster mode has one peer, of which only the collection's own listing says the id."""
    async with _peer(None) as url:
        peers = await find_peers(target([url]))
        assert not peers.distributed
        assert (await survey(target([url]), "c")).peers.members == {1: url}
