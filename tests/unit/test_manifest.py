"""The manifest, its names, and what is in the store by it."""

import json
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
from manifests import TAKEN, manifest
from obstore.store import LocalStore, MemoryStore

from reanimate.backups.catalog import Catalog, backup_prefix, new_backup_id
from reanimate.backups.manifest import Manifest, VectorManifest, base_name, restore_name, seed_name
from reanimate.backups.signature import sign
from reanimate.errors import Damaged, NotFound, Refused


def test_manifest__survives_its_own_json() -> None:
    """What is read back equals what was written."""
    original = manifest(aliases=["a"], gateway_totals={"kb": 3})
    assert VectorManifest.from_document(json.loads(original.to_bytes()), where="x") == original


def test_manifest__of_a_newer_schema_is_refused() -> None:
    """A manifest written by a newer version says so instead of being half understood."""
    newer = json.loads(manifest().to_bytes()) | {"schema_version": 3}
    with pytest.raises(Damaged, match=r"schema 3.*upgrade"):
        VectorManifest.from_document(newer, where="x")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"id": "x"}', b"\xff\xfe"])
async def test_manifest__that_cannot_be_read_is_damaged(content: bytes) -> None:
    """Anything that is not a whole manifest is told as damaged, never another exception."""
    catalog = Catalog(MemoryStore())
    await obstore.put_async(catalog.store, f"{backup_prefix('kb', 'x')}/manifest.json", content)
    assert [one.id for one in catalog.listing().damaged] == ["x"]


def test_manifest__of_schema_1_is_completed() -> None:
    """What an earlier version wrote says less; the rest follows from it."""
    document = json.loads(manifest().to_bytes())
    old = {key: value for key, value in document.items() if key not in ("kind", "subject", "previous", "base")}
    old["parts"] = [{key: part[key] for key in ("shard_id", "blob", "size", "sha256")} for part in document["parts"]]
    assert VectorManifest.from_document({**old, "schema_version": 1}, where="x").subject == "kb"


def test_names__do_not_grow() -> None:
    """A restore of a restore takes the base name again."""
    once = restore_name("kb", TAKEN)
    assert once == "kb-r20261123013000"
    assert base_name(once) == "kb"
    assert restore_name(once, TAKEN + timedelta(seconds=1)) == "kb-r20261123013001"
    assert seed_name(once, TAKEN) == "kb-s20261123013000"
    assert base_name("kb-r2026") == "kb-r2026"


def test_answers_to__collection_alias_and_earlier_restores() -> None:
    """A backup is found by collection, by alias, and after a restore gave the collection another name."""
    one = manifest(collection="kb-r20261123013000", aliases=["library"])
    assert one.answers_to("kb")
    assert one.answers_to("kb-r20251123013000")
    assert one.answers_to("library")
    assert not one.answers_to("kb2")


async def test_catalog__lists_the_published_only_and_newest_first() -> None:
    """Parts without a manifest are not a backup."""
    catalog = Catalog(MemoryStore())
    old, new = manifest(id="a"), manifest(id="b", taken_at=TAKEN + timedelta(hours=1))
    await catalog.publish(new)
    await catalog.publish(old)
    await obstore.put_async(catalog.store, f"{backup_prefix('kb', 'c')}/shard-0.snapshot", b"half a backup")
    assert [one.id for one in catalog.list()] == ["b", "a"]
    assert catalog.get("a") == old
    assert catalog.get("b").previous is None
    assert catalog.list("other") == []
    with pytest.raises(NotFound, match="'c'"):
        catalog.get("c")


async def test_catalog__publishes_an_id_once() -> None:
    """The same manifest may be sent twice, as a retried request does; another one of that id may not."""
    catalog = Catalog(MemoryStore())
    await catalog.publish(manifest())
    await catalog.publish(manifest())
    with pytest.raises(Refused, match="exists already"):
        await catalog.publish(manifest(exact_count=3))


async def test_catalog__newest_prefers_one_that_holds_points() -> None:
    """An empty backup is never the default while an older one holds points."""
    catalog = Catalog(MemoryStore())
    await catalog.publish(manifest(id="full"))
    await catalog.publish(manifest(id="empty", exact_count=0, taken_at=TAKEN + timedelta(hours=1)))
    newest = catalog.newest("kb")
    assert newest is not None
    assert newest.id == "full"


async def test_catalog__tells_damaged_manifests_with_the_reason() -> None:
    """One unreadable manifest does not hide the others, and is not hidden itself."""
    catalog = Catalog(MemoryStore())
    await catalog.publish(manifest(id="good"))
    await obstore.put_async(catalog.store, f"{backup_prefix('kb', 'bad')}/manifest.json", b"{")
    moved = sign(manifest(id="x").to_bytes(), catalog.keyring)
    await obstore.put_async(catalog.store, f"{backup_prefix('kb', 'moved')}/manifest.json", moved)
    listing = catalog.listing("kb")
    assert [one.id for one in listing.manifests] == ["good"]
    assert {one.id: one.reason for one in listing.damaged}.keys() == {"bad", "moved"}
    with pytest.raises(Damaged, match="cannot be read"):
        catalog.get("bad")
    with pytest.raises(Damaged, match="another backup"):
        catalog.get("moved")


@pytest.mark.parametrize("name", ["kb", "ü b", "..", ".", "a%2Fb", "=41", "x" * 255, "ö" * 200, "A*?:|<>", "a\\b"])
async def test_catalog__takes_any_collection_name(name: str, tmp_path: Path) -> None:
    """Odd names become plain keys, on a real folder, and different names different ones."""
    catalog = Catalog(LocalStore(prefix=tmp_path / "blobs", mkdir=True))
    backup_id = new_backup_id(name, TAKEN)
    await catalog.publish(manifest(id=backup_id, subject=name, collection=name, asked_as=name))
    await catalog.publish(manifest(id=backup_id + "x", subject=name + "x", collection=name + "x", asked_as=name + "x"))
    assert catalog.get(backup_id).collection == name
    assert [one.collection for one in catalog.list(name)] == [name]
    assert all(len(part) < 200 for key in catalog.keys("backups") for part in key.split("/"))


def test_backup_id__sorts_by_time_and_names_the_collection() -> None:
    """Ids of one second differ, and are fit for a path."""
    ids = {new_backup_id("kb/ü", TAKEN) for _ in range(20)}
    assert len(ids) > 15
    assert all(one.startswith("20261123T013000Z-kb_-") for one in ids)


async def test_catalog__asked_for_all_kinds_gives_vector_backups_as_what_they_are() -> None:
    """Who looks at everything that is protected must still see which collection a backup answers to."""
    catalog = Catalog(MemoryStore())
    await catalog.publish(manifest(aliases=["library"]))
    (found,) = catalog.published(Manifest)
    assert isinstance(found.manifest, VectorManifest)
    assert found.manifest.answers_to("library")
