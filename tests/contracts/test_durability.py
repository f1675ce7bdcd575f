"""What was acknowledged is there after SIGKILL, of the whole server or of one shard, and a fault stays where it is."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from points import all_points, count, dense_points, make_collection, upsert
from qdrant_server import StandbyProcess

Start = Callable[..., StandbyProcess]

pytestmark = pytest.mark.usefixtures("standby_only")


async def _write_until_dead(
    client: httpx.AsyncClient, path: str, acknowledged: list[int], enough: asyncio.Event
) -> None:
    """Write points one after the other until the server is gone; remember those that were acknowledged."""
    point = 0
    while True:
        body = {"points": [{"id": point, "vector": [float(point % 7)] * 8, "payload": {"n": point}}]}
        try:
            answer = await client.put(f"{path}/points", params={"wait": "true"}, json=body)
        except httpx.TransportError:
            return
        if answer.status_code != 200:
            return
        acknowledged.append(point)
        point += 1
        if point == 150:
            enough.set()


@pytest.mark.parametrize("shards", [1, 2])
async def test_acknowledged_points__survive_sigkill(start_standby: Start, shards: int) -> None:
    """Every point acknowledged before SIGKILL is there after the next start, with its payload, and at most one more."""
    process = start_standby()
    acknowledged: list[int] = []
    enough = asyncio.Event()
    async with process.server.client() as client:
        path = await make_collection(client, "kept", shard_number=shards)
        index = {"field_name": "n", "field_schema": "integer"}
        await client.put(f"{path}/index", params={"wait": "true"}, json=index)
        writer = asyncio.create_task(_write_until_dead(client, path, acknowledged, enough))
        await enough.wait()
        process.kill()
        await writer
    process.start()
    async with process.server.client() as client:
        found = await all_points(client, path)
        assert set(acknowledged) <= set(found) <= {*acknowledged, len(acknowledged)}
        assert all(found[point]["payload"] == {"n": point} for point in acknowledged)
        assert "n" in (await client.get(path)).json()["result"]["payload_schema"]
        await upsert(client, path, [{"id": 3, "vector": [9.0] * 8, "payload": {"n": "new"}}])
        assert (await client.get(f"{path}/points/3")).json()["result"]["payload"] == {"n": "new"}


async def test_shards__die_with_the_server(start_standby: Start) -> None:
    """No shard process survives its server, not even SIGKILL of it."""
    process = start_standby()
    async with process.server.client() as client:
        await make_collection(client, "orphans", shard_number=2)
    children = process.children()
    assert len(children) == 2
    process.kill()
    for _ in range(100):
        alive = [child for child in children if _is_running(child)]
        if not alive:
            break
        await asyncio.sleep(0.02)
    assert alive == []


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_shard__that_dies_is_started_again(start_standby: Start) -> None:
    """When a shard's process dies, its points are soon there again, and other collections notice nothing."""
    process = start_standby()
    async with process.server.client() as client:
        path = await make_collection(client, "dies")
        (victim,) = process.children()
        other = await make_collection(client, "lives")
        await upsert(client, path, dense_points(50))
        await upsert(client, other, dense_points(50))
        os.kill(victim, signal.SIGKILL)
        for _ in range(10):
            assert await count(client, other) == 50
        answers = [await client.post(f"{path}/points/count", json={"exact": True}) for _ in range(3)]
        assert {answer.status_code for answer in answers} <= {200, 500}
        await asyncio.sleep(0.2)
        assert await count(client, path) == 50
        await upsert(client, path, dense_points(60))
        assert await count(client, path) == 60


async def test_request__on_a_shard_that_dies(start_standby: Start) -> None:
    """The request that is being worked on when the shard dies is answered with 500, not left hanging."""
    process = start_standby()
    async with process.server.client() as client:
        path = await make_collection(client, "hit")
        await upsert(client, path, dense_points(50))
        (victim,) = process.children()
        os.kill(victim, signal.SIGSTOP)
        asked = asyncio.create_task(client.post(f"{path}/points/count", json={"exact": True}))
        await asyncio.sleep(0.1)
        os.kill(victim, signal.SIGKILL)
        answer = await asyncio.wait_for(asked, 10)
        assert answer.status_code == 500
        assert answer.json()["status"]["error"].startswith("Service internal error: the shard's process died")
        assert await count(client, path) == 50


async def test_collections_and_aliases__survive_sigkill(start_standby: Start) -> None:
    """Created stays created, deleted stays deleted, aliases stay, configs stay."""
    process = start_standby()
    async with process.server.client() as client:
        await make_collection(client, "stays", metadata={"owner": "me"})
        await make_collection(client, "goes")
        actions = [{"create_alias": {"collection_name": "stays", "alias_name": "kb"}}]
        await client.post("/collections/aliases", json={"actions": actions})
        await client.patch("/collections/stays", json={"optimizers_config": {"indexing_threshold": 77}})
        assert (await client.delete("/collections/goes")).json()["result"] is True
        process.kill()
    process.start()
    async with process.server.client() as client:
        listed = (await client.get("/collections")).json()["result"]["collections"]
        assert listed == [{"name": "stays"}]
        config = (await client.get("/collections/kb")).json()["result"]["config"]
        assert config["metadata"] == {"owner": "me"}
        assert config["optimizer_config"]["indexing_threshold"] == 77


async def test_leftovers__of_a_kill_are_removed(start_standby: Start) -> None:
    """A collection or a shard that was half made when the server was killed is gone after the next start."""
    process = start_standby()
    async with process.server.client() as client:
        path = await make_collection(client, "whole")
        await upsert(client, path, dense_points(10))
    process.kill()
    collections = process.directory / "data" / "collections"
    shards = collections / "whole" / "shards"
    (live,) = shards.iterdir()
    shutil.copytree(live, collections / "half" / "shards" / "0.abc")
    shutil.copytree(live, shards / "0.leftover")
    process.start()
    async with process.server.client() as client:
        assert (await client.get("/collections")).json()["result"]["collections"] == [{"name": "whole"}]
        assert await count(client, path) == 10
    assert list(shards.iterdir()) == [live]
    assert not (collections / "half").exists()


async def test_refused_write__leaves_nothing_behind(start_standby: Start) -> None:
    """A write that was refused is not half there after a restart, when the log is done again."""
    process = start_standby()
    async with process.server.client() as client:
        path = await make_collection(client, "clean")
        await upsert(client, path, dense_points(10))
        for vector in ([1.0], {"other": [1.0] * 8}, [[1.0] * 8], ["x"] * 8):
            answer = await client.put(f"{path}/points", json={"points": [{"id": 997, "vector": vector}]})
            assert answer.status_code == 400, answer.text
    process.kill()
    process.start()
    async with process.server.client() as client:
        assert await count(client, path) == 10
