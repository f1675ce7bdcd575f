"""Shards stored while something else is done with them: all of them or none."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any, cast

import obstore
import pytest
from obstore.store import LocalStore

from reanimate.backups.catalog import Catalog
from reanimate.backups.fetching import FetchedShard, ShardSource
from reanimate.backups.storing import stored_beside
from reanimate.errors import Damaged
from reanimate.vector.layout import Replica


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(LocalStore(prefix=tmp_path / "blobs", mkdir=True), tmp_path / "scratch")


def fetched(folder: Path, shard_id: int, *, sha256: str | None = None) -> FetchedShard:
    """Return a shard of a few bytes on disk; its hash is another one when it is given."""
    file, content = folder / f"shard-{shard_id}.snapshot", bytes([shard_id]) * 5000
    file.write_bytes(content)
    found = sha256 or hashlib.sha256(content).hexdigest()
    replica = Replica(shard_id=shard_id, peer_id=1, states={1: "Active"})
    source = ShardSource(cast(Any, None), "kb", replica)
    return FetchedShard(source, True, file, len(content), found, file, len(content), found)


def keys(catalog: Catalog) -> list[str]:
    return sorted(meta["path"] for page in obstore.list(catalog.store) for meta in page)


async def test_stored_beside__in_the_order_of_the_shards(catalog: Catalog, tmp_path: Path) -> None:
    shards = [fetched(tmp_path, number) for number in (2, 0, 1)]
    async with stored_beside(catalog, "backups/kb/x", shards, lambda *_: None) as storing:
        pass
    assert [part.shard_id for part in storing.result()] == [0, 1, 2]
    assert keys(catalog) == [f"backups/kb/x/shard-{number}.snapshot" for number in range(3)]


async def test_stored_beside__a_failed_check_leaves_nothing(catalog: Catalog, tmp_path: Path) -> None:
    """Whether it comes before or after the parts are in the store."""
    shards = [fetched(tmp_path, number) for number in range(3)]

    async def check_fails(*, late: bool) -> None:
        async with stored_beside(catalog, "backups/kb/x", shards, lambda *_: None) as storing:
            if late:
                await storing
            raise ZeroDivisionError

    for late in (False, True):
        with pytest.raises(ZeroDivisionError):
            await check_fails(late=late)
        assert keys(catalog) == []


async def test_stored_beside__a_file_that_changed_is_told(catalog: Catalog, tmp_path: Path) -> None:
    """It stops nothing that goes on meanwhile, and nothing of it stays."""
    shards = [fetched(tmp_path, 0), fetched(tmp_path, 1, sha256="ff" * 32)]
    checked = asyncio.Event()

    async def check() -> None:
        async with stored_beside(catalog, "backups/kb/x", shards, lambda *_: None):
            await asyncio.sleep(0.05)
            checked.set()

    with pytest.raises(Damaged, match="changed on this machine's disk"):
        await check()
    assert checked.is_set()
    assert keys(catalog) == []
