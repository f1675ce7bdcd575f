"""A cluster of three: every shard once from a healthy replica, and back onto any placement, with every point."""

import asyncio
import os
from collections.abc import Iterable
from typing import Any

import httpx
import pytest
from conftest import URLS

from reanimate.backups.backup import BackupOptions, take_backup
from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import VectorManifest
from reanimate.clock import utcnow
from reanimate.config import VectorTarget
from reanimate.doctor.servers import target_findings
from reanimate.errors import Refused, ServerFailed
from reanimate.restores.restore import new_collection_name, restore
from reanimate.restores.verification import verify
from reanimate.vector.layout import choose_replicas, survey, wait_until_active
from reanimate.vector.server import VectorServer
from reanimate.vector.snapshots import list_shard_snapshots

Json = dict[str, Any]


def _points(ids: Iterable[int]) -> list[Json]:
    return [
        {"id": n, "vector": [n + 0.1, 1.0, float(n % 3), 0.5], "payload": {"n": n, "lang": ("de", "en")[n % 2]}}
        for n in ids
    ]


async def _write(server: VectorServer, name: str, points: list[Json], key: str | int | None = None) -> None:
    body = {"points": points, **({"shard_key": key} if key is not None else {})}
    path = server.path(name, "points")
    answer = await server.request("PUT", path, doing="writing", timeout_s=30, params={"wait": "true"}, json=body)
    assert answer.status_code == 200, answer.text


async def _make(server: VectorServer, name: str, shards: int = 3, replicas: int = 2, points: int = 300) -> None:
    vectors = {"size": 4, "distance": "Cosine"}
    body = {"vectors": vectors, "shard_number": shards, "replication_factor": replicas}
    await server.create_collection(name, body)
    await wait_until_active(server, name, timeout_s=30)
    await server.create_index(name, "lang", "keyword")
    await _write(server, name, _points(range(1, points + 1)))


async def _custom(server: VectorServer, name: str, keys: list[tuple[str | int, int, int]]) -> None:
    vectors = {"size": 4, "distance": "Dot"}
    await server.create_collection(name, {"vectors": vectors, "sharding_method": "custom", "replication_factor": 1})
    for at, (key, shards, replicas) in enumerate(keys):
        path, body = (
            server.path(name, "shards"),
            {"shard_key": key, "shards_number": shards, "replication_factor": replicas},
        )
        await server.request("PUT", path, doing="creating a key", timeout_s=30, json=body)
        await wait_until_active(server, name, timeout_s=30)
        await _write(server, name, _points(range(at * 1000 + 1, at * 1000 + 101)), key)


async def _ids_everywhere(server: VectorServer, name: str) -> list[list[int]]:
    """The ids of all points, as each peer tells them."""
    found = []
    for peer in server.peer_servers():
        page = await peer.scroll(name, limit=10_000)
        found.append(sorted(point["id"] for point in page["points"]))
    return found


async def _ids_of_key(server: VectorServer, name: str, key: str | int) -> list[int]:
    doing, path = "scrolling", server.path(name, "points/scroll")
    body = {"limit": 10_000, "shard_key": key}
    answer = await server.request("POST", path, doing=doing, timeout_s=30, json=body)
    return sorted(point["id"] for point in answer.json()["result"]["points"])


async def _restored(server: VectorServer, catalog: Catalog, manifest: VectorManifest) -> str:
    name = new_collection_name(manifest.collection, utcnow())
    await restore(server, catalog, manifest, name)
    assert (await verify(server, name, manifest)).passed
    return name


async def test_every_point__on_every_peer(cluster: VectorServer, catalog: Catalog, prefix: str) -> None:
    """Three shards of two replicas: each is taken once, and after the restore every peer tells all 300 points."""
    name = f"{prefix}-kb"
    await _make(cluster, name)
    manifest = await take_backup(cluster, name, catalog)
    assert [part.shard_id for part in manifest.parts] == [0, 1, 2]
    assert manifest.exact_count == 300
    assert len({part.peer_id for part in manifest.parts}) > 1
    for peer_id, server in (await survey(cluster, name)).peers.servers.items():
        for replica in (await survey(cluster, name)).replicas:
            if replica.peer_id == peer_id:
                assert await list_shard_snapshots(server, name, replica.shard_id) == []
    restored = await _restored(cluster, catalog, manifest)
    layout = await survey(cluster, restored)
    assert layout.problems == []
    assert {len(layout.of(shard)) for shard in layout.shard_ids} == {2}
    assert await _ids_everywhere(cluster, restored) == [list(range(1, 301))] * len(URLS)


@pytest.mark.parametrize(("shards", "replicas"), [(1, 3), (4, 1), (6, 3)])
async def test_other_shapes(cluster: VectorServer, catalog: Catalog, prefix: str, shards: int, replicas: int) -> None:
    """One shard on all peers, more shards than peers, many of both."""
    name = f"{prefix}-kb"
    await _make(cluster, name, shards, replicas, points=120)
    restored = await _restored(cluster, catalog, await take_backup(cluster, name, catalog))
    assert await _ids_everywhere(cluster, restored) == [list(range(1, 121))] * len(URLS)


async def test_shard_keys__created_first_points_where_they_were(
    cluster: VectorServer, catalog: Catalog, prefix: str
) -> None:
    """Custom keys come back with their shards, replicas and points: not 0 points and a 200."""
    name = f"{prefix}-kb"
    await _custom(cluster, name, [("de", 2, 2), (7, 1, 1), ("7", 1, 3)])
    manifest = await take_backup(cluster, name, catalog)
    assert [(key.key, key.shards, key.replicas) for key in manifest.shard_keys] == [
        ("de", 2, 2),
        (7, 1, 1),
        ("7", 1, 3),
    ]
    assert manifest.exact_count == 300
    restored = await _restored(cluster, catalog, manifest)
    for key in ("de", 7, "7"):
        expected = await _ids_of_key(cluster, name, key)
        assert len(expected) == 100
        assert await _ids_of_key(cluster, restored, key) == expected
    groups = {
        group.key: (len(group.shard_ids), group.replicas) for group in (await survey(cluster, restored)).shard_keys
    }
    assert groups == {"de": (2, 2), 7: (1, 1), "7": (1, 3)}


async def test_another_size__onto_a_single_server_and_back(
    cluster: VectorServer, single: VectorServer, catalog: Catalog, prefix: str
) -> None:
    """What three peers held goes onto one server, takes writes there, and back onto three: every point each time."""
    name = f"{prefix}-kb"
    await _make(cluster, name)
    alone = await _restored(single, catalog, await take_backup(cluster, name, catalog))
    assert await _ids_everywhere(single, alone) == [list(range(1, 301))]
    await _write(single, alone, _points(range(301, 351)))
    back = await _restored(cluster, catalog, await take_backup(single, alone, catalog))
    assert await _ids_everywhere(cluster, back) == [list(range(1, 351))] * len(URLS)


async def test_shard_keys__have_no_place_on_a_single_server(
    cluster: VectorServer, single: VectorServer, catalog: Catalog, prefix: str
) -> None:
    """A single server takes no shard keys: refused with the shards and keys named, and nothing is made there."""
    name = f"{prefix}-kb"
    await _custom(cluster, name, [("de", 1, 1)])
    manifest = await take_backup(cluster, name, catalog)
    with pytest.raises(Refused, match=r"shard 1 of key 'de'.*single server without cluster mode"):
        await restore(single, catalog, manifest, new_collection_name(name, utcnow()))
    assert await single.collections() == []


async def test_partial__from_the_same_replicas(cluster: VectorServer, catalog: Catalog, prefix: str) -> None:
    """A backup of changes only goes to the peers of its full one, and restores with every change."""
    name = f"{prefix}-kb"
    await _make(cluster, name, points=3000)
    full = await take_backup(cluster, name, catalog)
    await _write(cluster, name, _points(range(5001, 5004)))
    path = cluster.path(name, "points/delete")
    await cluster.request("POST", path, doing="d", timeout_s=30, params={"wait": "true"}, json={"points": [1, 2, 3]})
    partial = await take_backup(cluster, name, catalog, BackupOptions(partial_share=1.0), partial=True)
    assert partial.base == full.id, partial.instead_of_partial
    assert [part.peer_id for part in partial.parts] == [part.peer_id for part in full.parts]
    assert partial.exact_count == 3000
    restored = await _restored(cluster, catalog, partial)
    expected = [*range(4, 3001), 5001, 5002, 5003]
    assert await _ids_everywhere(cluster, restored) == [expected] * len(URLS)


async def test_unreachable_peers__are_a_refusal_that_names_shards(
    cluster: VectorServer, catalog: Catalog, prefix: str, http: httpx.AsyncClient
) -> None:
    """With one URL only, shards of one replica elsewhere cannot be taken or placed: said before anything is made."""
    name = f"{prefix}-kb"
    await _make(cluster, name, 3, 1)
    manifest = await take_backup(cluster, name, catalog)
    alone = cluster.at(URLS[0])
    before = await cluster.collections()
    with pytest.raises(Refused, match=r"shard \d.*has no URL configured.*`peers`"):
        await take_backup(alone, name, catalog)
    with pytest.raises(Refused, match=r"shard 0, shard 1, shard 2 .*has no URL configured"):
        await restore(alone, catalog, manifest, new_collection_name(name, utcnow()))
    assert await cluster.collections() == before


async def test_a_peer_that_does_not_answer__is_waited_for_and_told(
    cluster: VectorServer, prefix: str, http: httpx.AsyncClient
) -> None:
    """A collection is ready when every peer sees every replica active; a peer that is silent is named."""
    name = f"{prefix}-kb"
    await _make(cluster, name, 1, 2)
    key = os.environ.get("QDRANT_API_KEY")
    with_silent = VectorServer("cluster", cluster.url, key, http, [*cluster.peer_urls, "http://127.0.0.1:9"])
    with pytest.raises(ServerFailed, match=r"http://127\.0\.0\.1:9 does not answer"):
        await wait_until_active(with_silent, name, timeout_s=0.5)
    other = (await survey(cluster, name)).of(0)[1]
    assert choose_replicas(await survey(with_silent, name), {0: other.peer_id})[0].peer_id == other.peer_id


async def test_doctor__knows_peers_without_a_url(http: httpx.AsyncClient) -> None:
    """A cluster whose peers are not all set is found by the doctor, before a backup is refused over it."""
    key = os.environ.get("QDRANT_API_KEY")
    for urls, level, words in ((URLS, "ok", f"{len(URLS)} peers"), (URLS[:1], "warn", "no URL leads to peer")):
        target = VectorTarget.model_validate(
            {"name": "cluster", "role": "primary", "url": URLS[0], "peers": urls, "api_key": key}
        )
        (found,) = [one async for one in target_findings(target, URLS[0], http) if one.about.endswith(" peers")]
        assert (found.level, words in found.found) == (level, True), found


async def test_writes_during_a_backup__lose_nothing(cluster: VectorServer, catalog: Catalog, prefix: str) -> None:
    """What was acknowledged before the backup began is in it, whichever replica it was taken from."""
    name = f"{prefix}-kb"
    await _make(cluster, name)
    acknowledged: list[int] = []
    stop = asyncio.Event()

    async def write() -> None:
        n = 10_000
        while not stop.is_set():
            n += 5
            await _write(cluster, name, _points(range(n, n + 5)))
            acknowledged.extend(range(n, n + 5))

    writing = asyncio.create_task(write())
    try:
        await asyncio.sleep(0.5)
        before = list(acknowledged)
        manifest = await take_backup(cluster, name, catalog)
    finally:
        stop.set()
        await writing
    restored = await _restored(cluster, catalog, manifest)
    ids = set((await _ids_everywhere(cluster, restored))[0])
    assert ids >= {*range(1, 301), *before}
