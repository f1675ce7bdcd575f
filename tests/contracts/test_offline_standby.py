"""The standby in offline mode: copies of backups, read by everybody, loaded by the holder of the control key alone."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from points import make_collection, upsert
from qdrant_client import AsyncQdrantClient
from qdrant_client.models import FieldCondition, Filter, MatchValue
from qdrant_server import StandbyProcess

from reanimate.clock import utcnow

pytestmark = pytest.mark.usefixtures("standby_only")

CONTROL = "control-of-the-tests"
TAKEN = datetime(2026, 11, 23, 1, 30, tzinfo=UTC)
SIZE, COUNT = 16, 1500
VECTORS = np.random.default_rng(5).normal(size=(COUNT, SIZE)).astype("f4").round(3)
POINTS: list[dict[str, Any]] = [
    {"id": n, "vector": VECTORS[n].tolist(), "payload": {"lang": ("de", "en", "fr")[n % 3], "n": n}}
    for n in range(COUNT)
]


@pytest.fixture(scope="module")
async def snapshot(client: httpx.AsyncClient, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """A shard snapshot of 1,500 points as a file of this machine."""
    path = await make_collection(client, "of-offline", vectors={"size": SIZE, "distance": "Cosine"})
    await client.put(f"{path}/index", params={"wait": "true"}, json={"field_name": "lang", "field_schema": "keyword"})
    await upsert(client, path, POINTS)
    made = (await client.post(f"{path}/shards/0/snapshots")).json()["result"]
    file = tmp_path_factory.mktemp("snapshot") / "shard-0.snapshot"
    file.write_bytes((await client.get(f"{path}/shards/0/snapshots/{made['name']}")).content)
    yield file
    await client.delete(path)


@pytest.fixture
def offline(start_standby: Callable[..., StandbyProcess], monkeypatch: pytest.MonkeyPatch) -> StandbyProcess:
    monkeypatch.setenv("REANIMATE_STANDBY_CONTROL_KEY", CONTROL)
    return start_standby("offline", "--offline")


def _holder(process: StandbyProcess) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=process.url, headers={"authorization": f"Bearer {CONTROL}"}, timeout=60)


def _held(name: str, taken_at: datetime = TAKEN) -> dict[str, Any]:
    return {
        "backup_id": f"backup-of-{name}",
        "collection": "kb",
        "taken_at": taken_at.isoformat(),
        "loaded_at": utcnow().isoformat(),
        "points": COUNT,
        "manifest_sha256": "ab" * 32,
    }


async def _load(holder: httpx.AsyncClient, name: str, snapshot: Path) -> None:
    body = {"vectors": {"size": SIZE, "distance": "Cosine"}}
    assert (await holder.put(f"/collections/{name}", json=body)).status_code == 200
    answer = await holder.put(f"/collections/{name}/shards/0/snapshots/recover", json={"location": snapshot.as_uri()})
    assert answer.status_code == 200, answer.text


async def _serve(holder: httpx.AsyncClient, name: str, taken_at: datetime = TAKEN) -> None:
    assert (await holder.put(f"/offline/copies/{name}", json=_held(name, taken_at))).status_code == 200
    actions = [
        {"delete_alias": {"alias_name": "kb"}},
        {"create_alias": {"collection_name": name, "alias_name": "kb"}},
    ]
    assert (await holder.post("/collections/aliases", json={"actions": actions})).status_code == 200


async def test_offline__a_copy_is_served_only_once_its_backup_is_known(offline: StandbyProcess, snapshot: Path) -> None:
    """While it is loaded nobody else sees it; then every answer says how old it is, an error and a listing too."""
    async with _holder(offline) as holder, offline.server.client() as reader:
        await _load(holder, "kb-s1", snapshot)
        assert (await reader.get("/collections/kb-s1")).status_code == 404
        assert (await reader.post("/collections/kb-s1/points/count", json={})).status_code == 404
        assert (await reader.get("/collections")).json()["result"] == {"collections": []}
        assert (await holder.post("/collections/kb-s1/points/count", json={})).json()["result"] == {"count": COUNT}
        await _serve(holder, "kb-s1")
        for method, path, body, status in (
            ("POST", "/collections/kb/points/count", {"exact": True}, 200),
            ("POST", "/collections/kb/points/query", {"query": POINTS[3]["vector"], "limit": 1}, 200),
            ("POST", "/collections/kb/points/query", {"query": [1.0]}, 400),
            ("GET", "/collections/kb/points/999999", None, 404),
            ("GET", "/collections/kb", None, 200),
            ("GET", "/collections", None, 200),
            ("GET", "/healthz", None, 200),
            ("GET", "/", None, 200),
            ("GET", "/collections/other/exists", None, 200),
        ):
            answer = await reader.request(method, path, json=body)
            assert answer.status_code == status, f"{path}: {answer.text}"
            age = int(answer.headers["x-reanimate-snapshot-age"])
            assert age == pytest.approx((utcnow() - TAKEN).total_seconds(), abs=5)
            assert answer.headers["x-reanimate-snapshot-taken-at"] == TAKEN.isoformat()
            if "json" in answer.headers.get("content-type", ""):
                assert answer.json()["snapshot"]["age_s"] == age


async def test_offline__nobody_writes_but_the_holder_of_the_control_key(
    offline: StandbyProcess, snapshot: Path, start_standby: Callable[..., StandbyProcess]
) -> None:
    """Not with the full key, by no route; and a file of this machine can only be named with the control key."""
    async with _holder(offline) as holder, offline.server.client() as writer:
        await _load(holder, "kb-s1", snapshot)
        await _serve(holder, "kb-s1")
        for method, path, body in (
            ("PUT", "/collections/new", {"vectors": {"size": 4, "distance": "Dot"}}),
            ("PUT", "/collections/kb/points", {"points": POINTS[:1]}),
            ("POST", "/collections/kb/points/delete", {"points": [1]}),
            ("DELETE", "/collections/kb-s1", None),
            ("POST", "/collections/aliases", {"actions": [{"delete_alias": {"alias_name": "kb"}}]}),
            ("PUT", "/collections/kb-s1/shards/0/snapshots/recover", {"location": snapshot.as_uri()}),
            ("PUT", "/offline/copies/kb-s1", _held("forged", utcnow())),
        ):
            assert (await writer.request(method, path, json=body)).status_code == 403, path
        assert (await writer.get("/collections/kb")).json()["result"]["points_count"] == COUNT
        assert (await holder.put("/offline/copies/absent", json=_held("x"))).status_code == 404
    usual = start_standby("usual")
    async with usual.server.client() as full:
        await make_collection(full, "kb")
        named = {"location": snapshot.as_uri()}
        assert (await full.put("/collections/kb/shards/0/snapshots/recover", json=named)).status_code == 403
        assert (await full.get("/offline/copies")).status_code == 501


async def test_offline__restart_and_kill_keep_copies_and_ages(offline: StandbyProcess, snapshot: Path) -> None:
    """After SIGKILL it serves what it served, knows its age, and has opened nothing until somebody asks."""
    newer = TAKEN + timedelta(days=1)
    async with _holder(offline) as holder:
        await _load(holder, "kb-s1", snapshot)
        await _serve(holder, "kb-s1")
        await _load(holder, "kb-s2", snapshot)
        await _serve(holder, "kb-s2", newer)
        await _load(holder, "kb-s3", snapshot)  # never noted: killed before
    offline.kill()
    offline.start()
    assert offline.children() == []
    async with offline.server.client() as reader, _holder(offline) as holder:
        copies = {one["name"]: one for one in (await reader.get("/offline/copies")).json()["result"]["copies"]}
        assert offline.children() == []
        assert [copies[name]["aliases"] for name in sorted(copies)] == [[], ["kb"], []]
        assert copies["kb-s2"]["held"]["taken_at"] == newer.isoformat()
        assert copies["kb-s3"]["held"] is None
        answer = await reader.post("/collections/kb/points/query", json={"query": POINTS[3]["vector"], "limit": 1})
        assert answer.json()["result"]["points"][0]["id"] == 3
        assert answer.headers["x-reanimate-snapshot-taken-at"] == newer.isoformat()
        (child,) = offline.children()
        os.kill(child, signal.SIGKILL)
        await asyncio.sleep(0.05)
        again = await reader.post("/collections/kb/points/count", json={"exact": True})
        if again.status_code == 500:  # it died while it worked on this one
            again = await reader.post("/collections/kb/points/count", json={"exact": True})
        assert again.json()["result"]["count"] == COUNT
        # What is written to a copy makes it no copy: its age is not claimed any more.
        await holder.put("/collections/kb-s2/points", params={"wait": "true"}, json={"points": POINTS[:1]})
        assert (await reader.get("/collections/kb")).status_code == 404


async def test_offline__filters_keep_every_hit(offline: StandbyProcess, snapshot: Path) -> None:
    """Recall with filters is that of exact search; the official client takes the added field in its stride."""
    async with _holder(offline) as holder:
        await _load(holder, "kb-s1", snapshot)
        await _serve(holder, "kb-s1")
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    client = AsyncQdrantClient(url=offline.url, metadata={"api-key": "lookonly"}, check_compatibility=False)
    try:
        for at in range(20):
            german = Filter(must=[FieldCondition(key="lang", match=MatchValue(value="de"))])
            answer = await client.query_points("kb", query=VECTORS[at].tolist(), query_filter=german, limit=10)
            scores = unit[0::3] @ unit[at]
            truth = {3 * int(best) for best in np.argsort(-scores)[:10]}
            assert {point.id for point in answer.points} == truth
        assert (await client.count("kb", exact=True)).count == COUNT
        assert await client.collection_exists("kb")
    finally:
        await client.close()
