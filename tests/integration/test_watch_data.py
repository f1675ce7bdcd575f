"""The watch over real vector servers with a real backup: is the data really there?"""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from watch_rig import Rig, observe, ready, running, status, until

from reanimate.backups.backup import take_backup
from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import VectorManifest, restore_name
from reanimate.backups.repositories import open_repositories
from reanimate.clock import utcnow
from reanimate.config import Settings
from reanimate.restores.restore import restore_and_switch
from reanimate.restores.seed import seed
from reanimate.vector.server import Json, VectorServer

POINTS = 300
LIMIT_S = 1.5


def points(first: int, last: int, seed_: int = 0) -> list[Json]:
    rng = np.random.default_rng(seed_)
    return [
        {"id": id_, "vector": rng.normal(size=8).astype("f4").tolist(), "payload": {"text": f"passage {id_}"}}
        for id_ in range(first, last)
    ]


@dataclass
class Stores:
    """A watch over a primary and a replica, both real standby servers, and the backup of `kb-1`, alias `kb`."""

    rig: Rig
    primary: VectorServer
    replica: VectorServer
    catalog: Catalog
    manifest: VectorManifest | None = None

    async def load(self, *, back_up: bool = True) -> None:
        await self.primary.create_collection("kb-1", {"vectors": {"size": 8, "distance": "Cosine"}})
        await self.primary.upsert("kb-1", points(0, POINTS))
        action = {"create_alias": {"collection_name": "kb-1", "alias_name": "kb"}}
        await self.primary.update_aliases([action])
        if back_up:
            await self.back_up()

    async def back_up(self) -> VectorManifest:
        self.manifest = await take_backup(self.primary, "kb", self.catalog)
        return self.manifest

    async def delete_points(self, ids: list[int]) -> None:
        await self.primary.request(
            "POST", "/collections/kb/points/delete?wait=true", doing="deleting", timeout_s=10, json={"points": ids}
        )

    async def restore(self) -> None:
        assert self.manifest is not None
        await restore_and_switch(self.primary, self.catalog, self.manifest, restore_name("kb-1", utcnow()))

    async def data_is(self, state: str, target: str = "primary", *, within: float = 30.0) -> None:
        """Wait until the watch believes the data of that target to be in that state."""
        deadline = time.monotonic() + within
        while True:
            told = next(one for one in (await status(self.rig))["dependencies"] if one["name"] == f"vector:{target}")
            if [one["state"] for one in told["data"]] == [state]:
                return
            assert time.monotonic() < deadline, (told["data"], self.rig.log())
            await asyncio.sleep(0.05)

    def lost(self, since: float = 0.0, target: str = "primary") -> list[Json]:
        return [
            event
            for event in self.rig.of(f"vector:{target}", since=since)
            if event["data"]["labels"]["fault"] == "knowledge_base_deleted"
        ]


@pytest.fixture
async def stores(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[Stores]:
    with running(tmp_path, free_port, standbys=True, config={"data_interval_s": 1.0}) as rig:
        await ready(rig)
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            yield Stores(
                rig,
                VectorServer("primary", rig.url("primary"), None, http),
                VectorServer("replica", rig.url("replica"), None, http),
                open_repositories(Settings(home=rig.home))["local"].catalog,
            )


async def restarted_watch(stores: Stores) -> None:
    """Start the watch anew, so that it has read the catalog as it is now."""
    stores.rig.kill("watch")
    stores.rig.start_watch()
    await ready(stores.rig)
    await stores.data_is("good")


async def test_watch_data__deleted_collection(stores: Stores) -> None:
    """A deleted collection is noticed in time with nobody asking for it; it is over when the alias leads to data."""
    await stores.load()
    await restarted_watch(stores)
    at = time.monotonic()
    await stores.primary.delete_collection("kb-1")
    event = (await until(stores.lost, within=5, saying=stores.rig.log))[0]
    print(f"\ncollection deleted to alert: {event['at'] - at:.3f} s")
    assert event["at"] - at <= LIMIT_S
    assert event["data"]["fingerprint"] == "watch:vector:primary:data:kb"
    assert event["data"]["labels"] == {
        "fault": "knowledge_base_deleted",
        "component": "vector:primary",
        "target": "primary",
        "role": "primary",
        "collection": "kb",
    }
    assert event["data"]["evidence"][0]["check"] == "collection"
    await stores.restore()
    ended = await until(lambda: stores.rig.of("vector:primary", "resolved"), saying=stores.rig.log)
    assert ended[0]["data"]["starts_at"] == event["data"]["starts_at"]
    assert len(stores.rig.events()) == 2


async def test_watch_data__gateway_misses_a_collection_just_backed_up(stores: Stores) -> None:
    """A backup that the watch has not read yet is read when a gateway misses the collection."""
    await stores.load()
    at = time.monotonic()
    await stores.primary.delete_collection("kb-1")
    await observe(stores.rig, "missing", target="primary")
    event = (await until(stores.lost, within=5, saying=stores.rig.log))[0]
    print(f"\nobservation to alert: {event['at'] - at:.3f} s")
    assert event["at"] - at <= LIMIT_S


async def test_watch_data__the_agents_own_changes(stores: Stores) -> None:
    """Documents deleted, rewritten and added by right raise nothing, and neither does a collection without a backup."""
    await stores.load()
    await restarted_watch(stores)
    await stores.primary.create_collection("scratch", {"vectors": {"size": 4, "distance": "Dot"}})
    await stores.delete_points(list(range(0, POINTS, 20)))
    await stores.primary.upsert("kb", points(1, POINTS, seed_=7))
    await stores.primary.upsert("kb", points(POINTS, POINTS + 50))
    await stores.primary.delete_collection("scratch")
    await stores.back_up()
    await asyncio.sleep(4)
    assert stores.rig.events() == []


async def test_watch_data__most_points_gone(stores: Stores) -> None:
    """A collection that answers but has lost its points is told about, with the count as evidence."""
    await stores.load()
    await restarted_watch(stores)
    await stores.delete_points(list(range(POINTS // 2)))
    event = (await until(stores.lost, within=5, saying=stores.rig.log))[0]
    assert any(one["check"] == "count" and one["found"] == "150" for one in event["data"]["evidence"])


async def test_watch_data__empty_server_is_not_healthy(stores: Stores) -> None:
    """A primary that died with its disk and came back empty stays accused until its data is there again."""
    await stores.load()
    at = stores.rig.kill("primary")
    shutil.rmtree(stores.rig.vector_home("primary"))
    await until(lambda: stores.rig.of("vector:primary", since=at), within=5, saying=stores.rig.log)
    stores.rig.start("primary")
    told = await until(
        lambda: [one for one in stores.rig.of("vector:primary") if "data" in one["data"]["annotations"]],
        within=20,
        saying=stores.rig.log,
    )
    assert told[0]["data"]["fingerprint"] == "watch:vector:primary:down"
    await asyncio.sleep(4)
    assert stores.rig.of("vector:primary", "resolved") == []
    assert stores.lost() == []
    await stores.restore()
    ended = await until(lambda: stores.rig.of("vector:primary", "resolved"), saying=stores.rig.log)
    assert {one["data"]["starts_at"] for one in stores.rig.of("vector:primary")} == {ended[0]["data"]["starts_at"]}


async def test_watch_data__quick_restart_empty(stores: Stores) -> None:
    """A server that was replaced by an empty one between two probes is found out by its data."""
    await stores.load()
    await restarted_watch(stores)
    collections = await stores.primary.collections()
    for name in collections:
        await stores.primary.delete_collection(name)
    await until(stores.lost, within=5, saying=stores.rig.log)


async def test_watch_data__replica(stores: Stores) -> None:
    """A replica that was never seeded has lost nothing; one that was seeded and is emptied has."""
    await stores.load()
    await restarted_watch(stores)
    await asyncio.sleep(2.5)
    assert stores.rig.events() == []
    assert stores.manifest is not None
    await seed(stores.replica, stores.catalog, stores.manifest)
    await stores.data_is("good", "replica")
    stores.rig.kill("watch")
    for name in await stores.replica.collections():
        await stores.replica.delete_collection(name)
    stores.rig.start_watch()
    event = (await until(lambda: stores.lost(target="replica"), within=10, saying=stores.rig.log))[0]
    assert event["data"]["labels"]["role"] == "replica"
    assert stores.lost() == []
