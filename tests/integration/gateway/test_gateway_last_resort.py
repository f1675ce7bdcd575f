"""The gateway before real servers of which none is left but the offline standby: the official client reads on."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from gateway_process import gateway_for
from obstore.store import LocalStore
from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import UnexpectedResponse
from qdrant_client.models import FieldCondition, Filter, MatchValue, PointStruct
from vector_target import VectorTarget

from reanimate.backups.backup import take_backup
from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import VectorManifest
from reanimate.clock import utcnow
from reanimate.proofs.own_server import own_server
from reanimate.restores.offline import refresh
from reanimate.vector.server import VectorServer


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        yield client


def _behind(server: VectorServer) -> VectorTarget:
    return VectorTarget(server.name, port=int(server.url.rsplit(":", 1)[1]))


async def test_last_resort__reads_go_on_with_their_filters_and_their_age(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    """Both servers gone: the same answers from a backup two hours old, which say so; a write is refused, not lost."""
    catalog = Catalog(LocalStore(prefix=tmp_path / "blobs", mkdir=True), tmp_path / "scratch")
    rows = [
        {"id": n, "vector": [n / 90, 1.0, 0.5, 1 - n / 90], "payload": {"lang": ("de", "en")[n % 2], "n": n}}
        for n in range(80)
    ]
    async with own_server("offline", tmp_path / "offline", http, "--offline") as offline:
        async with own_server("primary", tmp_path / "primary", http) as primary:
            await primary.create_collection("passages", {"vectors": {"size": 4, "distance": "Cosine"}})
            await primary.upsert("passages", rows)
            await primary.update_aliases([{"create_alias": {"collection_name": "passages", "alias_name": "kb"}}])
            taken = await take_backup(primary, "kb", catalog)
            backup = catalog.find(taken.id, VectorManifest)
            aged = backup.manifest.model_copy(update={"taken_at": utcnow() - timedelta(hours=2)})
            await refresh(offline, catalog, type(backup)(aged, backup.key, backup.sha256))
            gone = VectorTarget("replica", port=9)
            targets = [
                {"name": server.name, "role": server.name, "api_key": server._headers["api-key"]}
                for server in (primary, offline)
            ]
            environment = {"REANIMATE_VECTOR__TARGETS": json.dumps([*targets, {"name": "replica", "role": "replica"}])}
            behind = (_behind(primary), gone, _behind(offline))
            async with gateway_for(tmp_path / "home", *behind, **environment) as gateway:
                body = {"query": rows[7]["vector"], "limit": 5, "filter": _german()}
                path = "/collections/kb/points/query"
                status, before, headers = await gateway.ask("POST", path, json=body)
                assert (status, headers["x-reanimate-target"]) == (200, "primary")
                assert "x-reanimate-snapshot-age" not in headers
                await primary.request("DELETE", "/collections/passages", doing="losing it", timeout_s=10)
                status, after, headers = await gateway.ask("POST", path, json=body)
                assert (status, headers["x-reanimate-degraded"]) == (200, "offline")
                assert int(headers["x-reanimate-snapshot-age"]) == pytest.approx(7200, abs=120)
                assert after["snapshot"]["backup_id"] == taken.id
                assert after["result"] == before["result"]
                client = AsyncQdrantClient(url=gateway.url, check_compatibility=False, timeout=30)
                try:
                    english = Filter(must=[FieldCondition(key="lang", match=MatchValue(value="en"))])
                    found = await client.query_points(
                        "passages", query=rows[7]["vector"], query_filter=english, limit=3
                    )
                    assert all(point.id % 2 == 1 for point in found.points)  # type: ignore[operator]
                    with pytest.raises(UnexpectedResponse):
                        await client.upsert("kb", [PointStruct(id=1, vector=rows[1]["vector"])])  # type: ignore[arg-type]
                finally:
                    await client.close()
        assert await offline.count("kb") == 80


def _german() -> dict[str, object]:
    return {"must": [{"key": "lang", "match": {"value": "de"}}]}
