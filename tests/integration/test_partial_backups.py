"""Backups of what changed only: whole when put on top of their full one, and full ones when they are not worth it."""

import hashlib
from pathlib import Path
from typing import Any

import obstore
import pytest
from qdrant_servers import CleanServer, fill, points

from reanimate.backups.backup import BackupOptions, take_backup
from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import VectorManifest
from reanimate.backups.materialise import materialise
from reanimate.clock import utcnow
from reanimate.errors import Damaged
from reanimate.restores.restore import new_collection_name, restore
from reanimate.restores.verification import verify

ALWAYS = BackupOptions(partial_share=10.0)
"""For collections so small that they are one segment, of which any change touches most files."""


async def _delete(clean: CleanServer, name: str, ids: list[int]) -> None:
    path = clean.server.path(name, "points/delete")
    await clean.server.request(
        "POST", path, doing="deleting", timeout_s=30, params={"wait": "true"}, json={"points": ids}
    )


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def _pair(clean: CleanServer, catalog: Catalog) -> tuple[str, VectorManifest, VectorManifest]:
    """A collection, its full backup, and one of the changes since."""
    name = clean.name()
    await fill(clean.server, name, 3000)
    full = await take_backup(clean.server, name, catalog)
    await clean.server.upsert(name, points(9000, 9020))
    await _delete(clean, name, [1, 2, 3])
    partial = await take_backup(clean.server, name, catalog, ALWAYS, partial=True)
    return name, full, partial


async def _restored(clean: CleanServer, catalog: Catalog, manifest: VectorManifest) -> list[dict[str, Any]]:
    name = new_collection_name(manifest.collection, utcnow())
    await restore(clean.server, catalog, manifest, name)
    verification = await verify(clean.server, name, manifest)
    assert verification.passed, verification
    page = await clean.server.scroll(name, limit=10_000)
    await clean.server.delete_collection(name)
    found: list[dict[str, Any]] = page["points"]
    return found


async def test_partial__holds_the_changes_and_restores_all(primary: CleanServer, catalog: Catalog) -> None:
    """Its manifest speaks of the whole collection, and a restore brings back every point."""
    name, full, partial = await _pair(primary, catalog)
    assert partial.instead_of_partial is None
    assert partial.base == full.id
    assert partial.exact_count == 3017
    assert partial.previous is not None
    assert partial.previous.id == full.id
    (part,) = partial.parts
    assert part.whole is not None
    assert part.whole.base_sha256 == full.parts[0].sha256
    live = (await primary.server.scroll(name, limit=10_000))["points"]
    assert await _restored(primary, catalog, partial) == live
    assert len(await _restored(primary, catalog, full)) == 3000


async def test_partial__nothing_is_made_on_the_server(primary: CleanServer, catalog: Catalog) -> None:
    """Changes are streamed; no snapshot is left, no note in the repository, no file in the scratch folder."""
    name, full, partial = await _pair(primary, catalog)
    path = primary.server.path(name, "shards", "0", "snapshots")
    answer = await primary.server.request("GET", path, doing="listing", timeout_s=30)
    assert answer.json()["result"] == []
    kept = {one.blob for manifest in (full, partial) for one in manifest.parts}
    assert {key for key in catalog.keys("backups") if not key.endswith("manifest.json")} == kept
    assert _left(catalog.scratch) == []


async def test_materialise__is_checked_before_and_after(primary: CleanServer, catalog: Catalog, tmp_path: Path) -> None:
    """The file is the one the manifest names; a changed bit in the full backup or in the changes is found."""
    _, full, partial = await _pair(primary, catalog)
    (part,) = partial.parts
    assert part.whole is not None
    work = tmp_path / "work"
    work.mkdir()
    into = work / "whole"
    made = await materialise(catalog, partial, part, into)
    assert (made.size, made.sha256) == (part.whole.size, part.whole.sha256)
    assert hashlib.sha256(into.read_bytes()).hexdigest() == made.sha256
    assert _left(work) == ["whole"]
    for blob in (full.parts[0].blob, part.blob):
        content = bytes(obstore.get(catalog.store, blob).bytes())
        at = len(content) // 2
        obstore.put(catalog.store, blob, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(Damaged):
            await materialise(catalog, partial, part, work / "bad")
        assert _left(work) == ["whole"]
        obstore.put(catalog.store, blob, content)
    obstore.delete(catalog.store, f"{full.parts[0].blob.rsplit('/', 1)[0]}/manifest.json")
    with pytest.raises(Damaged, match=f"only what changed since {full.id}"):
        await materialise(catalog, partial, part, work / "bad")


async def test_partial__a_full_one_instead_says_why(primary: CleanServer, catalog: Catalog) -> None:
    """Without a full backup, or when too much has changed, a full one is taken and the reason is in its manifest."""
    name = primary.name()
    await fill(primary.server, name, 1500)
    first = await take_backup(primary.server, name, catalog, ALWAYS, partial=True)
    assert (first.base, first.instead_of_partial) == (None, "there is no full backup yet")
    await primary.server.upsert(name, points(0, 1500))
    second = await take_backup(primary.server, name, catalog, BackupOptions(partial_share=0.01), partial=True)
    assert second.base is None
    assert second.instead_of_partial == f"more than 1% of the full backup {first.id} has changed"
    third = await take_backup(primary.server, name, catalog, ALWAYS)
    assert (third.base, third.instead_of_partial) == (None, None)


async def test_partial__is_small_when_nothing_changed(primary: CleanServer, catalog: Catalog) -> None:
    """What is as it was is not sent again; a recovery point of a quiet collection costs next to nothing."""
    name = primary.name()
    await fill(primary.server, name, 2000, dimension=128)
    full = await take_backup(primary.server, name, catalog)
    partial = await take_backup(primary.server, name, catalog, partial=True)
    assert partial.base == full.id, partial.instead_of_partial
    assert partial.size_bytes < full.size_bytes / 10
    assert partial.exact_count == 2000
    assert len(await _restored(primary, catalog, partial)) == 2000


async def test_partial__of_another_collection_of_that_name(primary: CleanServer, catalog: Catalog) -> None:
    """A collection that was deleted and made anew shares no files with the backup of the old one; all comes anew."""
    name, _, _ = await _pair(primary, catalog)
    await primary.server.delete_collection(name)
    await fill(primary.server, name, 800)
    partial = await take_backup(primary.server, name, catalog, ALWAYS, partial=True)
    live = (await primary.server.scroll(name, limit=10_000))["points"]
    assert len(live) == 800
    assert await _restored(primary, catalog, partial) == live


async def _put_back(clean: CleanServer, catalog: Catalog, name: str, manifest: VectorManifest) -> None:
    """Put the shard of a backup into the live collection, as nobody should."""
    file = catalog.scratch / "old"
    await materialise(catalog, manifest, manifest.parts[0], file)
    upload = clean.server.path(name, "shards", "0", "snapshots", "upload")
    content = {"snapshot": ("old.snapshot", file.read_bytes())}
    await clean.server.request("POST", upload, doing="putting back", timeout_s=60, files=content)
    file.unlink()


@pytest.mark.parametrize("writes", [0, 3, 12], ids=["older", "still older", "newer by number"])
async def test_partial__after_an_older_state_was_put_back(primary: CleanServer, catalog: Catalog, writes: int) -> None:
    """Somebody put an older shard into the live collection and wrote on: the numbers of operations mean others now.

    Vectors were changed first and payloads then, so that by number alone the vectors would look unchanged.
    """
    name = primary.name()
    await fill(primary.server, name, 400)
    old = await take_backup(primary.server, name, catalog)
    for begin in range(9000, 9008):
        await primary.server.upsert(name, points(begin, begin + 1))
    await take_backup(primary.server, name, catalog)
    await _put_back(primary, catalog, name, old)
    assert await primary.server.count(name) == 400
    for write in range(writes):
        if write < 4:
            await primary.server.upsert(name, points(7000 + write, 7001 + write))
        else:
            path, body = primary.server.path(name, "points/payload"), {"payload": {"write": write}, "points": [5, 6]}
            await primary.server.request("POST", path, doing="p", timeout_s=30, params={"wait": "true"}, json=body)
    partial = await take_backup(primary.server, name, catalog, ALWAYS, partial=True)
    live = (await primary.server.scroll(name, limit=10_000))["points"]
    assert await _restored(primary, catalog, partial) == live
    assert partial.base is None
    assert "another history" in str(partial.instead_of_partial)


@pytest.mark.parametrize("partial", [False, True], ids=["full", "changes"])
async def test_backup__while_the_server_rewrites_segments(
    primary: CleanServer, catalog: Catalog, partial: bool
) -> None:
    """A server puts what is deleted while it rewrites segments into its snapshots; a backup has none of it."""
    name = primary.name()
    optimizers = {"indexing_threshold": 200, "deleted_threshold": 0.05, "vacuum_min_vector_number": 100}
    body = {"vectors": {"size": 64, "distance": "Dot"}, "optimizers_config": optimizers}
    await primary.server.create_collection(name, body)
    await primary.server.upsert(name, points(0, 500, 64))
    await take_backup(primary.server, name, catalog)
    for begin in range(500, 8000, 500):
        await primary.server.upsert(name, points(begin, begin + 500, 64))
    await _delete(primary, name, list(range(0, 8000, 16)))
    manifest = await take_backup(primary.server, name, catalog, BackupOptions(partial_share=100.0), partial=partial)
    assert (manifest.exact_count, manifest.base is not None, manifest.warnings) == (7500, partial, [])
