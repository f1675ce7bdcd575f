"""Partial snapshots: what changed since a full one, put together to a full one that restores with every point."""

import asyncio
import hashlib
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from points import all_points, dense_points, make_collection, same_points, upload, upsert
from qdrant_edge import CountRequest, EdgeShard
from qdrant_server import QdrantServer

from reanimate.errors import Damaged, NotFound, Refused, ServerFailed
from reanimate.vector.archive import inspect_archive
from reanimate.vector.partial import base_manifest, inspect_partial, merge_partial
from reanimate.vector.partial_transfers import TooLarge, fetch_partial_snapshot, partial_manifest
from reanimate.vector.server import VectorServer
from reanimate.vector.slimming import slim_partial
from reanimate.vector.transfers import TransferLimits

NewName = Callable[[], str]

QUICK = TransferLimits(attempts=2, first_wait_s=0.01)


@pytest.fixture
def server(qdrant: QdrantServer, client: httpx.AsyncClient) -> VectorServer:
    """Our own client of the server under test."""
    return VectorServer("contract", qdrant.url, qdrant.key, client)


async def _snapshot(client: httpx.AsyncClient, path: str, into: Path) -> Path:
    """Make, fetch and remove a full shard snapshot."""
    at = f"{path}/shards/0/snapshots"
    made = (await client.post(at, params={"wait": "true"})).json()["result"]
    content = (await client.get(f"{at}/{made['name']}")).content
    assert hashlib.sha256(content).hexdigest() == made["checksum"]
    await asyncio.to_thread(into.write_bytes, content)
    await client.delete(f"{at}/{made['name']}")
    return into


async def _changed(client: httpx.AsyncClient, path: str) -> None:
    """Change a collection in every way: new points, other vectors, payloads, deleted points, a new index."""
    await upsert(client, path, dense_points(30, seed=7))
    await upsert(client, path, [{**point, "id": 5000 + n} for n, point in enumerate(dense_points(25, seed=8))])
    for body in (
        {"payload": {"changed": True}, "points": [10, 11, 13]},
        {"payload": {"more": [1, 2]}, "filter": {"must": [{"key": "lang", "match": {"value": "de"}}]}},
    ):
        assert (await client.post(f"{path}/points/payload", params={"wait": "true"}, json=body)).status_code == 200
    gone = {"filter": {"must": [{"key": "n", "range": {"gte": 250}}]}}
    assert (await client.post(f"{path}/points/delete", params={"wait": "true"}, json=gone)).status_code == 200
    index = {"field_name": "lang", "field_schema": "keyword"}
    assert (await client.put(f"{path}/index", params={"wait": "true"}, json=index)).status_code == 200


async def _restored(client: httpx.AsyncClient, new_name: NewName, file: Path) -> dict[int | str, Any]:
    path = await make_collection(client, new_name())
    content = await asyncio.to_thread(file.read_bytes)
    answer = await upload(client, f"{path}/shards/0", content, checksum=hashlib.sha256(content).hexdigest())
    assert answer.status_code == 200, answer.text
    return await all_points(client, path)


@pytest.fixture
async def pair(
    client: httpx.AsyncClient, server: VectorServer, new_name: NewName, tmp_path: Path
) -> tuple[str, Path, Path]:
    """A collection, its full snapshot, and a partial one of the changes since."""
    name = new_name()
    path = await make_collection(client, name)
    await upsert(client, path, dense_points(300))
    full = await _snapshot(client, path, tmp_path / "full.snapshot")
    await _changed(client, path)
    partial = tmp_path / "partial.snapshot"
    received = await fetch_partial_snapshot(server, name, 0, base_manifest(full), partial, QUICK)
    assert received is not None
    assert received.size == partial.stat().st_size
    assert received.sha256 == hashlib.sha256(partial.read_bytes()).hexdigest()
    return path, full, partial


async def test_merged__restores_every_change(
    client: httpx.AsyncClient, new_name: NewName, pair: tuple[str, Path, Path], tmp_path: Path
) -> None:
    """Full and partial together restore by the ordinary upload, load in the engine, and are the same every time."""
    path, full, partial = pair
    live = await all_points(client, path)
    merged = merge_partial(full, partial, tmp_path / "merged.snapshot")
    again = merge_partial(full, partial, tmp_path / "again.snapshot")
    assert merged == again
    assert merged.sha256 == hashlib.sha256((tmp_path / "merged.snapshot").read_bytes()).hexdigest()
    assert not inspect_archive(tmp_path / "merged.snapshot").partial
    same_points(await _restored(client, new_name, tmp_path / "merged.snapshot"), live)
    EdgeShard.unpack_snapshot(str(tmp_path / "merged.snapshot"), str(tmp_path / "shard"))
    shard = EdgeShard.load(str(tmp_path / "shard"))
    assert shard.count(CountRequest(exact=True)) == len(live)
    shard.close()


async def test_slim__holds_only_what_differs(
    client: httpx.AsyncClient, server: VectorServer, new_name: NewName, tmp_path: Path
) -> None:
    """One changed payload makes a server send vectors that nobody changed; without them all comes back the same."""
    name = new_name()
    path = await make_collection(client, name)
    await upsert(client, path, dense_points(300))
    full = await _snapshot(client, path, tmp_path / "full.snapshot")
    body = {"payload": {"changed": True}, "points": [10]}
    assert (await client.post(f"{path}/points/payload", params={"wait": "true"}, json=body)).status_code == 200
    partial, slim, merged = (tmp_path / f"{kind}.snapshot" for kind in ("partial", "slim", "merged"))
    assert await fetch_partial_snapshot(server, name, 0, base_manifest(full), partial, QUICK)
    facts = inspect_partial(partial)
    made = slim_partial(full, partial, facts, slim)
    assert made.sha256 == hashlib.sha256(slim.read_bytes()).hexdigest()
    kept = inspect_partial(slim)
    assert kept.segments == facts.segments
    assert kept.changed_files < facts.changed_files
    merge_partial(full, slim, merged)
    same_points(await _restored(client, new_name, merged), await all_points(client, path))


async def test_merged__takes_another_partial(
    client: httpx.AsyncClient, server: VectorServer, new_name: NewName, pair: tuple[str, Path, Path], tmp_path: Path
) -> None:
    """What was put together is a full snapshot like any other: the next changes go on top of it."""
    path, full, partial = pair
    first, second, third = (tmp_path / f"{n}.snapshot" for n in ("first", "second", "third"))
    merge_partial(full, partial, first)
    await upsert(client, path, [{**point, "id": 7000 + n} for n, point in enumerate(dense_points(9, seed=9))])
    name = path.removeprefix("/collections/")
    assert await fetch_partial_snapshot(server, name, 0, base_manifest(first), second, QUICK)
    merge_partial(first, second, third)
    same_points(await _restored(client, new_name, third), await all_points(client, path))


async def test_recover__is_the_same_on_the_server(
    client: httpx.AsyncClient, new_name: NewName, pair: tuple[str, Path, Path]
) -> None:
    """The server's own way of putting it on top of a restored full one gives what ours gives."""
    path, full, partial = pair
    target = await make_collection(client, new_name())
    assert (await upload(client, f"{target}/shards/0", full.read_bytes())).status_code == 200
    answer = await client.post(
        f"{target}/shards/0/snapshot/partial/recover",
        params={"wait": "true"},
        files={"snapshot": ("partial.snapshot", partial.read_bytes())},
    )
    assert answer.status_code == 200, answer.text
    same_points(await all_points(client, target), await all_points(client, path))


async def test_unchanged__is_304_and_the_connection_is_not_spoilt(
    client: httpx.AsyncClient, server: VectorServer, new_name: NewName, tmp_path: Path
) -> None:
    """With the server's own manifest nothing has changed; the next calls are answered as ever."""
    name = new_name()
    path = await make_collection(client, name)
    await upsert(client, path, dense_points(20))
    manifest = await partial_manifest(server, name, 0)
    url = f"{path}/shards/0/snapshot/partial/create"
    answer = await client.post(url, json=manifest, headers={"connection": "close"})
    assert answer.status_code == 304
    assert (await client.get(path)).status_code == 200
    full = await _snapshot(client, path, tmp_path / "full.snapshot")
    received = await fetch_partial_snapshot(server, name, 0, base_manifest(full), tmp_path / "partial", QUICK)
    if received is not None:  # the engine does not number all files, so a few small ones may come
        assert merge_partial(full, tmp_path / "partial", tmp_path / "merged").size
        same_points(await _restored(client, new_name, tmp_path / "merged"), await all_points(client, path))


async def test_from_nothing__everything_comes(
    client: httpx.AsyncClient, server: VectorServer, new_name: NewName, tmp_path: Path
) -> None:
    """With an empty manifest a partial snapshot holds all files, and nothing is needed beneath it."""
    name = new_name()
    await upsert(client, await make_collection(client, name), dense_points(20))
    await fetch_partial_snapshot(server, name, 0, {}, tmp_path / "all", QUICK)
    facts = inspect_partial(tmp_path / "all")
    assert all(set(one.files) <= facts.sent[segment] for segment, one in facts.segments.items())


async def test_wrong_endpoint__is_refused(
    client: httpx.AsyncClient, new_name: NewName, pair: tuple[str, Path, Path]
) -> None:
    """A partial snapshot is not taken for a full one, nor the other way round; the shard is not left broken."""
    _, full, partial = pair
    target = await make_collection(client, new_name())
    await upsert(client, target, dense_points(5))
    answer = await upload(client, f"{target}/shards/0", partial.read_bytes())
    assert answer.status_code in (400, 500), answer.text
    assert "segment manifest" in answer.text
    answer = await client.post(
        f"{target}/shards/0/snapshot/partial/recover", files={"snapshot": ("full.snapshot", full.read_bytes())}
    )
    assert answer.status_code in (400, 500), answer.text
    assert len(await all_points(client, target)) == 5


async def test_limits__too_much_missing_or_nowhere(
    server: VectorServer, pair: tuple[str, Path, Path], new_name: NewName, tmp_path: Path
) -> None:
    """More than was asked for is not taken; a shard or collection that is not there is said so."""
    path, full, _ = pair
    name = path.removeprefix("/collections/")
    with pytest.raises(TooLarge, match="more than 1000 bytes"):
        await fetch_partial_snapshot(server, name, 0, base_manifest(full), tmp_path / "p", QUICK, at_most=1000)
    with pytest.raises(NotFound):
        await fetch_partial_snapshot(server, name, 7, {}, tmp_path / "p", QUICK)
    with pytest.raises(NotFound):
        await partial_manifest(server, new_name(), 0)


async def test_cut__is_found_at_every_border(pair: tuple[str, Path, Path], tmp_path: Path) -> None:
    """A stream that ends early ends like a whole one; it is refused wherever it was cut, inside of members too."""
    _, full, partial = pair
    content = partial.read_bytes()
    with tarfile.open(partial) as archive:
        borders = [member.offset for member in archive] + [len(content) - 1024, len(content) - 1, len(content) - 512]
    inside = [random.Random(1).randrange(len(content) - 1024) for _ in range(20)]
    for end in sorted({*borders, *inside}):
        cut = tmp_path / "cut"
        cut.write_bytes(content[:end])
        with pytest.raises(Damaged):
            inspect_partial(cut)
        with pytest.raises(Damaged):
            merge_partial(full, cut, tmp_path / "merged")
        assert not (tmp_path / "merged").exists()


async def test_strangers__are_not_put_together(
    client: httpx.AsyncClient, new_name: NewName, pair: tuple[str, Path, Path], tmp_path: Path
) -> None:
    """A partial snapshot on top of another collection's, on top of a later one, or in the other order is refused."""
    path, full, partial = pair
    other = await make_collection(client, new_name())
    await upsert(client, other, dense_points(50))
    stranger = await _snapshot(client, other, tmp_path / "stranger")
    out = tmp_path / "merged"
    facts, base = inspect_partial(partial), base_manifest(full)
    if any(set(one.files) - facts.sent[segment] for segment, one in facts.segments.items()):
        with pytest.raises(Damaged, match="which neither of them holds"):
            merge_partial(stranger, partial, out)
    with pytest.raises(Damaged, match="no manifest"):
        merge_partial(full, full, out)
    with pytest.raises(Damaged, match="is a partial one"):
        merge_partial(partial, partial, out)
    assert base
    await upsert(client, path, dense_points(3, seed=11))
    later = await _snapshot(client, path, tmp_path / "later")
    if any(base_manifest(later)[one].version > facts.segments[one].version for one in facts.segments if one in base):
        with pytest.raises(Refused, match="was at"):
            merge_partial(later, partial, out)


async def test_writes_during__nothing_acknowledged_before_is_missing(
    client: httpx.AsyncClient, server: VectorServer, new_name: NewName, tmp_path: Path
) -> None:
    """Writers do not stop for full and partial snapshots; each holds all that was acknowledged before it was asked for.

    The collection is small enough to index and vacuum all the time, so that segments are rewritten in between.
    """
    name = new_name()
    optimizers = {"indexing_threshold": 1, "deleted_threshold": 0.05, "vacuum_min_vector_number": 100}
    path = await make_collection(client, name, optimizers_config={**optimizers, "flush_interval_sec": 1})
    await upsert(client, path, dense_points(400))
    written: dict[int, int] = {}
    stop = asyncio.Event()

    async def write() -> None:
        chance, turn = random.Random(3), 0
        while not stop.is_set():
            turn += 1
            ids = chance.sample(range(10_000, 10_300), 25)
            vectors = [[float(turn), *([0.25] * 7)] for _ in ids]
            batch = [{"id": one, "vector": v, "payload": {"turn": turn}} for one, v in zip(ids, vectors, strict=True)]
            await upsert(client, path, batch)
            written.update(dict.fromkeys(ids, turn))
            await asyncio.sleep(0.01)

    writing = asyncio.create_task(write())
    try:
        await asyncio.sleep(0.3)
        full = await _snapshot(client, path, tmp_path / "full")
        for round_ in range(4):
            await asyncio.sleep(0.4)
            before = dict(written)
            partial = tmp_path / f"partial-{round_}"
            assert await fetch_partial_snapshot(server, name, 0, base_manifest(full), partial, QUICK)
            merge_partial(full, partial, tmp_path / f"merged-{round_}")
            found = await _restored(client, new_name, tmp_path / f"merged-{round_}")
            for one, turn in before.items():
                assert found[one]["payload"]["turn"] >= turn, f"round {round_}: point {one} is older than acknowledged"
                assert found[one]["vector"][0] == found[one]["payload"]["turn"], f"round {round_}: point {one} is mixed"
            assert set(found) >= {point["id"] for point in dense_points(400)}
    finally:
        stop.set()
        await writing


async def test_server_that_cuts__is_asked_again(
    server: VectorServer, pair: tuple[str, Path, Path], client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """A stream that ends early with 200 is noticed and asked for anew; when it never comes whole, that is said."""
    path, full, partial = pair
    content, asked = partial.read_bytes(), 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        assert "connection: close" in head
        sent = content if asked == 2 else content[: len(content) // 2]
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(sent), sent))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        cutting = VectorServer("cutting", url, None, client)
        name = path.removeprefix("/collections/")
        received = await fetch_partial_snapshot(cutting, name, 0, base_manifest(full), tmp_path / "got", QUICK)
        assert received is not None
        assert asked == 2
        assert received.sha256 == hashlib.sha256(content).hexdigest()
        with pytest.raises(ServerFailed, match="did not send a whole partial snapshot"):
            await fetch_partial_snapshot(cutting, name, 0, base_manifest(full), tmp_path / "got", QUICK)
