"""Snapshots travel: a real server's to the server under test, our standby's to it, and nothing is lost on the way."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from points import all_points, count, dense_points, make_collection, same_points, upload, upsert
from qdrant_server import QdrantServer, StandbyProcess
from recorded import points_of, snapshot

NewName = Callable[[], str]


@pytest.fixture
async def source(start_standby: Callable[..., StandbyProcess]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a second standby server, where snapshots are made."""
    async with start_standby("source").server.client() as client:
        yield client


@pytest.mark.parametrize("file", ["docs.shard-0.snapshot", "docs.shard-0.streamed.snapshot"])
async def test_shard_snapshot__of_a_real_server(client: httpx.AsyncClient, new_name: NewName, file: str) -> None:
    """A real server's shard snapshot gives every point, the payload indexes, and takes writes afterwards."""
    path = await make_collection(client, new_name(), vectors={"size": 8, "distance": "Cosine"})
    content = snapshot(file)
    answer = await upload(client, f"{path}/shards/0", content, checksum=hashlib.sha256(content).hexdigest())
    assert answer.status_code == 200, answer.text
    same_points(await all_points(client, path), points_of("docs"))
    schema = (await client.get(path)).json()["result"]["payload_schema"]
    assert {name: one["data_type"] for name, one in schema.items()} == {
        "lang": "keyword",
        "tenant": "keyword",
        "year": "integer",
        "text": "text",
    }
    await _takes_writes(client, path, known=5)


@pytest.mark.parametrize("collection", ["docs", "multi"])
async def test_collection_snapshot__of_a_real_server(
    client: httpx.AsyncClient, new_name: NewName, collection: str
) -> None:
    """A real server's collection snapshot makes a collection with its config and every point."""
    path = f"/collections/{new_name()}"
    answer = await upload(client, path, snapshot(f"{collection}.collection.snapshot"))
    assert answer.status_code == 200, answer.text
    same_points(await all_points(client, path), points_of(collection))
    params = (await client.get(path)).json()["result"]["config"]["params"]
    assert params["shard_number"] == (2 if collection == "multi" else 1)


async def _takes_writes(client: httpx.AsyncClient, path: str, known: int) -> None:
    """What is written after a restore must be there; a log that starts at zero below the points would lose it."""
    vector = [0.5] * 8
    await upsert(client, path, [{"id": known, "vector": vector, "payload": {"written": "after"}}])
    found = await client.post(f"{path}/points", json={"ids": [known], "with_payload": True})
    assert found.json()["result"][0]["payload"] == {"written": "after"}
    deleted = await client.post(f"{path}/points/delete", params={"wait": "true"}, json={"points": [known]})
    assert deleted.status_code == 200
    found = await client.post(f"{path}/points", json={"ids": [known]})
    assert found.json()["result"] == []


async def _filled(client: httpx.AsyncClient, name: str, **config: object) -> str:
    """Make a collection with a history: inserts, changes, deletes, indexes."""
    path = await make_collection(client, name, **config)
    points = dense_points(400)
    for start in range(0, len(points), 50):
        await upsert(client, path, points[start : start + 50])
    for field, kind in (("lang", "keyword"), ("n", "integer")):
        body = {"field_name": field, "field_schema": kind}
        assert (await client.put(f"{path}/index", params={"wait": "true"}, json=body)).status_code == 200
    changed = {"payload": {"changed": True}, "filter": {"must": [{"key": "lang", "match": {"value": "de"}}]}}
    assert (await client.post(f"{path}/points/payload", params={"wait": "true"}, json=changed)).status_code == 200
    await upsert(client, path, dense_points(40, seed=2))
    gone = {"filter": {"must": [{"key": "n", "range": {"gte": 380}}]}}
    assert (await client.post(f"{path}/points/delete", params={"wait": "true"}, json=gone)).status_code == 200
    assert await count(client, path) == 380
    return path


async def _made(client: httpx.AsyncClient, path: str) -> bytes:
    """Make a snapshot, download it, and check it against what was said of it."""
    answer = await client.post(f"{path}/snapshots")
    assert answer.status_code == 200, answer.text
    described = answer.json()["result"]
    content = (await client.get(f"{path}/snapshots/{described['name']}")).content
    assert len(content) == described["size"]
    assert hashlib.sha256(content).hexdigest() == described["checksum"]
    return content


async def test_shard_snapshot__of_a_standby(
    source: httpx.AsyncClient, client: httpx.AsyncClient, new_name: NewName
) -> None:
    """A standby's shard snapshot gives every point on the server under test, a real one too, and takes writes."""
    path = await _filled(source, "made-here")
    content = await _made(source, f"{path}/shards/0")
    target = await make_collection(client, new_name())
    answer = await upload(client, f"{target}/shards/0", content, checksum=hashlib.sha256(content).hexdigest())
    assert answer.status_code == 200, answer.text
    same_points(await all_points(client, target), await all_points(source, path))
    schema = (await client.get(target)).json()["result"]["payload_schema"]
    assert {name: one["data_type"] for name, one in schema.items()} == {"lang": "keyword", "n": "integer"}
    german = {"exact": True, "filter": {"must": [{"key": "lang", "match": {"value": "de"}}]}}
    found = (await client.post(f"{target}/points/count", json=german)).json()["result"]["count"]
    assert found == (await source.post(f"{path}/points/count", json=german)).json()["result"]["count"] > 0
    await _takes_writes(client, target, known=5)


async def test_streamed_shard_snapshot__of_a_standby(
    source: httpx.AsyncClient, client: httpx.AsyncClient, new_name: NewName
) -> None:
    """A snapshot that is streamed and not kept is as good as one that is kept."""
    path = await _filled(source, "streamed")
    content = (await source.get(f"{path}/shards/0/snapshot")).content
    assert (await source.get(f"{path}/shards/0/snapshots")).json()["result"] == []
    target = await make_collection(client, new_name())
    answer = await upload(client, f"{target}/shards/0", content)
    assert answer.status_code == 200, answer.text
    same_points(await all_points(client, target), await all_points(source, path))


async def test_collection_snapshot__of_a_standby(
    source: httpx.AsyncClient, client: httpx.AsyncClient, new_name: NewName
) -> None:
    """A standby's snapshot of two shards gives every point, each on the shard where a server looks for it."""
    path = await _filled(source, "two-shards", shard_number=2)
    content = await _made(source, path)
    target = f"/collections/{new_name()}"
    answer = await upload(client, target, content)
    assert answer.status_code == 200, answer.text
    truth = await all_points(source, path)
    same_points(await all_points(client, target), truth)
    for point in list(truth)[:20]:
        assert (await client.get(f"{target}/points/{point}")).json()["result"]["id"] == point
    await upsert(client, target, dense_points(20, seed=3))
    assert await count(client, target) == len(truth)
    await _takes_writes(client, target, known=5)


async def test_collection_snapshot__over_a_collection(client: httpx.AsyncClient, new_name: NewName) -> None:
    """A collection goes back to what its snapshot held."""
    path = await _filled(client, new_name(), shard_number=2)
    truth = await all_points(client, path)
    content = await _made(client, path)
    await upsert(client, path, dense_points(100, seed=9))
    assert (await upload(client, path, content)).status_code == 200
    same_points(await all_points(client, path), truth)


async def test_snapshot__holds_what_was_acknowledged_before(client: httpx.AsyncClient, new_name: NewName) -> None:
    """A snapshot made while somebody writes holds every point acknowledged before it was asked for."""
    path = await make_collection(client, new_name())
    acknowledged: list[int] = []
    stop, enough = asyncio.Event(), asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            point = len(acknowledged)
            await upsert(client, path, [{"id": point, "vector": [1.0] * 8, "payload": {"n": point}}])
            acknowledged.append(point)
            if len(acknowledged) == 100:
                enough.set()

    writer = asyncio.create_task(write())
    await enough.wait()
    before = len(acknowledged)
    content = await _made(client, f"{path}/shards/0")
    after = len(acknowledged) + 1
    stop.set()
    await writer
    target = await make_collection(client, new_name())
    assert (await upload(client, f"{target}/shards/0", content)).status_code == 200
    found = sorted(await all_points(client, target))
    assert found == list(range(len(found)))
    assert before <= len(found) <= after


async def test_download__is_resumed(client: httpx.AsyncClient, new_name: NewName) -> None:
    """A cut download goes on where it was cut, as long as the file is the same."""
    path = await _filled(client, new_name())
    described = (await client.post(f"{path}/shards/0/snapshots")).json()["result"]
    url = f"{path}/shards/0/snapshots/{described['name']}"
    identity = {"accept-encoding": "identity"}
    whole = await client.get(url, headers=identity)
    etag = whole.headers["etag"]
    cut = len(whole.content) // 3
    rest = await client.get(url, headers={**identity, "range": f"bytes={cut}-", "if-range": etag})
    assert rest.status_code == 206
    assert rest.headers["content-range"] == f"bytes {cut}-{len(whole.content) - 1}/{len(whole.content)}"
    assert whole.content[:cut] + rest.content == whole.content
    last = await client.get(url, headers={**identity, "range": "bytes=-10"})
    assert (last.status_code, last.content) == (206, whole.content[-10:])
    other = await client.get(url, headers={**identity, "range": f"bytes={cut}-", "if-match": '"another"'})
    assert other.status_code == 412
    beyond = await client.get(url, headers={**identity, "range": f"bytes={len(whole.content)}-"})
    assert beyond.status_code == 416
    assert (await client.delete(url)).json()["result"] is True
    assert (await client.get(url)).status_code == 404


async def test_download__of_another_file(standby_only: None, client: httpx.AsyncClient, new_name: NewName) -> None:
    """With If-Range the whole of a changed file is sent. A real server ignores If-Range and sends a part of it."""
    path = await _filled(client, new_name())
    described = (await client.post(f"{path}/snapshots")).json()["result"]
    headers = {"range": "bytes=100-", "if-range": '"another"'}
    answer = await client.get(f"{path}/snapshots/{described['name']}", headers=headers)
    assert (answer.status_code, len(answer.content)) == (200, described["size"])


async def test_snapshot__not_waited_for(client: httpx.AsyncClient, new_name: NewName) -> None:
    """A snapshot that nobody waits for is accepted at once and appears in the list later."""
    path = await _filled(client, new_name())
    answer = await client.post(f"{path}/shards/0/snapshots", params={"wait": "false"})
    assert answer.status_code == 202
    for _ in range(200):
        if listed := (await client.get(f"{path}/shards/0/snapshots")).json()["result"]:
            break
        await asyncio.sleep(0.05)
    assert len(listed) == 1


async def test_snapshot_names__never_collide(standby_only: None, client: httpx.AsyncClient, new_name: NewName) -> None:
    """Several snapshots within a second have names of their own. A real server gives all the same and keeps one."""
    path = await _filled(client, new_name())
    made = await asyncio.gather(*(client.post(f"{path}/shards/0/snapshots") for _ in range(4)))
    names = {one.json()["result"]["name"] for one in made}
    listed = {one["name"] for one in (await client.get(f"{path}/shards/0/snapshots")).json()["result"]}
    assert len(names) == 4
    assert names == listed


@pytest.mark.parametrize(
    "vectors",
    [
        {"size": 4, "distance": "Cosine"},
        {"size": 8, "distance": "Euclid"},
        {"other": {"size": 8, "distance": "Cosine"}},
    ],
    ids=["size", "distance", "name"],
)
async def test_shard_snapshot__of_other_vectors(
    standby_only: None, client: httpx.AsyncClient, new_name: NewName, vectors: dict[str, object]
) -> None:
    """A shard whose vectors are not the collection's is refused and changes nothing. A real server serves it."""
    path = await make_collection(client, new_name(), vectors=vectors)
    answer = await upload(client, f"{path}/shards/0", snapshot("docs.shard-0.snapshot"))
    assert answer.status_code == 400
    assert "Vectors configuration is not compatible" in answer.json()["status"]["error"]
    assert await count(client, path) == 0


async def test_upload__of_a_large_file_takes_no_memory(
    qdrant: QdrantServer, start_standby: Callable[..., StandbyProcess], standby_only: None
) -> None:
    """An upload goes to disk as it comes: 200 MB add less than 60 MB to the process."""
    process = start_standby("memory")
    before = _resident_mb(process.pid)

    async def chunks() -> AsyncIterator[bytes]:
        head = b'--b\r\nContent-Disposition: form-data; name="snapshot"; filename="x.snapshot"\r\n\r\n'
        yield head
        for _ in range(200):
            yield b"x" * (1 << 20)
        yield b"\r\n--b--\r\n"

    async with process.server.client() as client:
        path = await make_collection(client, "large")
        answer = await client.post(
            f"{path}/shards/0/snapshots/upload",
            content=chunks(),
            headers={"content-type": "multipart/form-data; boundary=b"},
        )
    assert answer.status_code == 500
    assert "Malformed tar archive" in answer.text
    assert _resident_mb(process.pid) - before < 60


def _resident_mb(pid: int) -> float:
    """The most that the process ever had in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
