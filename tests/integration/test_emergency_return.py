"""A standby that took writes in an emergency: what it holds goes back into a server, whole and in changes only."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from qdrant_servers import CleanServer, fill, points, server_at, start_standby

from reanimate.backups.backup import BackupOptions, take_backup
from reanimate.backups.catalog import Catalog
from reanimate.clock import utcnow
from reanimate.restores.restore import new_collection_name, restore, restore_and_switch
from reanimate.restores.verification import verify


@pytest.fixture
async def emergency(
    tmp_path: Path, free_port: Callable[[], int], vector_http: httpx.AsyncClient
) -> AsyncIterator[CleanServer]:
    """A writable standby of this test's own, whatever the other servers are."""
    async with start_standby(tmp_path / "emergency", free_port()) as url:
        yield CleanServer(server_at(url, vector_http, "emergency"))


@pytest.mark.parametrize("partial", [False, True], ids=["whole", "changes"])
async def test_return__with_every_write(
    primary: CleanServer, emergency: CleanServer, catalog: Catalog, partial: bool
) -> None:
    """Backed up from the server, restored to the standby, written to there, and back: points, indexes and answers."""
    name = primary.name()
    await fill(primary.server, name, 500)
    manifest = await take_backup(primary.server, name, catalog)
    away = new_collection_name(name, utcnow())
    await restore(emergency.server, catalog, manifest, away)
    if partial:
        await take_backup(emergency.server, away, catalog)
    await emergency.server.upsert(away, points(9000, 9040))
    await emergency.server.create_index(away, "score", "float")
    body = {"points": [1, 2, 3]}
    path = emergency.server.path(away, "points/delete")
    await emergency.server.request("POST", path, doing="deleting", timeout_s=30, params={"wait": "true"}, json=body)
    options = BackupOptions(partial_share=100.0)
    written = await take_backup(emergency.server, away, catalog, options, partial=partial)
    assert (written.base is not None) == partial, written.instead_of_partial
    assert written.exact_count == 537
    back = f"{primary.prefix}-kb-r{utcnow():%Y%m%d%H%M%S}"
    restored = await restore_and_switch(primary.server, catalog, written, back)
    assert restored.verification.passed
    assert (await verify(primary.server, back, written)).passed
    theirs = (await emergency.server.scroll(away, limit=1000))["points"]
    ours = (await primary.server.scroll(back, limit=1000))["points"]
    assert [(one["id"], one["payload"]) for one in ours] == [(one["id"], one["payload"]) for one in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["vector"] == pytest.approx(other["vector"], abs=1e-6)
    schema = (await primary.server.info(back))["payload_schema"]
    assert {field: row["data_type"] for field, row in schema.items()} == {
        "lang": "keyword",
        "year": "integer",
        "score": "float",
    }
    # The server goes on from there: what is written now is not taken for older than what the standby wrote.
    await primary.server.upsert(back, points(9000, 9001))
    await primary.server.upsert(back, [{"id": 9039, "vector": [1.0] * 16, "payload": {"after": True}}])
    (found,) = await primary.server.retrieve(back, [9039])
    assert found["payload"] == {"after": True}
