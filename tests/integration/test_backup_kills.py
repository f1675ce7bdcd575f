"""A backup that is killed at any stage leaves nothing that is listed; the next one sweeps up and succeeds."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from obstore.store import LocalStore
from qdrant_servers import KEY, CleanServer, fill, points

from reanimate.backups.backup import BackupOptions, take_backup
from reanimate.backups.catalog import Catalog
from reanimate.backups.keyring import Keyring
from reanimate.backups.materialise import materialise
from reanimate.config import BackupSettings
from reanimate.vector.snapshots import list_shard_snapshots

DYING = Path(__file__).with_name("dying_backup.py")
FULL = ["asked", "download", "check", "store", "publish", "published"]
CHANGES = ["base", "download", "store", "publish"]


async def _die(clean: CleanServer, name: str, folder: Path, stage: str, kind: str) -> None:
    environment = {**os.environ, **({"QDRANT_API_KEY": KEY} if KEY else {})}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(DYING), clean.server.url, name, str(folder), stage, kind), env=environment
    )
    assert await process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("kind", "stage"), [*(("full", stage) for stage in FULL), *(("partial", stage) for stage in CHANGES)]
)
async def test_kill(primary: CleanServer, tmp_path: Path, kind: str, stage: str) -> None:
    """Killed at this stage: the list is as it was, or with the whole backup when it was published; nothing is left."""
    name, server = primary.name(), primary.server
    keyring = Keyring.load_or_create(tmp_path, BackupSettings())
    catalog = Catalog(LocalStore(prefix=tmp_path / "blobs", mkdir=True), tmp_path / "scratch", keyring)
    await fill(server, name, 300)
    first = await take_backup(server, name, catalog)
    await server.upsert(name, points(9000, 9010))
    await _die(primary, name, tmp_path, stage, kind)
    listed = catalog.list()
    assert [one.id for one in listed[-1:]] == [first.id]
    assert len(listed) == (2 if stage == "published" else 1)
    for one in listed:
        await materialise(catalog, one, one.parts[0], tmp_path / one.id)
    options = BackupOptions(partial_share=100.0)
    after = await take_backup(server, name, catalog, options, partial=kind == "partial")
    assert (after.exact_count, after.base is not None) == (310, kind == "partial")
    listed = catalog.list()
    assert listed[0].id == after.id
    expected = {part.blob for one in listed for part in one.parts}
    assert {key for key in catalog.keys("backups") if not key.endswith("manifest.json")} == expected
    assert await list_shard_snapshots(server, name, 0) == []
    assert [path.name for path in await asyncio.to_thread(lambda: list(catalog.scratch.iterdir()))] == []
