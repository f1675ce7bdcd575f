"""A repository that was put back to an older state is noticed: we remember, elsewhere, what was its newest."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from manifests import TAKEN, manifest
from obstore.store import LocalStore

from reanimate.backups.catalog import Catalog
from reanimate.backups.keyring import Keyring
from reanimate.backups.manifest import Manifest, VectorManifest
from reanimate.backups.memory import Memory, Seen, newest_of_each
from reanimate.backups.published import Published
from reanimate.errors import ConfigInvalid, Damaged

KEYS = Keyring.ephemeral()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def _catalog(tmp_path: Path) -> Catalog:
    """A catalog as a new process opens it."""
    store = LocalStore(prefix=tmp_path / "blobs", mkdir=True)
    return Catalog(store, tmp_path / "scratch", KEYS, Memory.of(tmp_path / "home", "file:///blobs"))


async def _publish(
    catalog: Catalog, hours: int, collection: str = "kb", **changes: object
) -> Published[VectorManifest]:
    fields = {
        "id": f"backup-{hours}-{collection}",
        "collection": collection,
        "subject": collection,
        "asked_as": collection,
        **changes,
    }
    return await catalog.publish(manifest(**fields, taken_at=TAKEN + timedelta(hours=hours)))


async def test_rollback__of_a_repository_is_noticed(tmp_path: Path) -> None:
    """Everything in an older state is rightly signed; what shows is that the newest is gone. It stays so until said."""
    await _publish(_catalog(tmp_path), 1)
    await _publish(_catalog(tmp_path), 1, "other")
    shutil.copytree(tmp_path / "blobs", tmp_path / "older")
    await _publish(_catalog(tmp_path), 2)
    assert _catalog(tmp_path).listing().damaged == ()
    shutil.rmtree(tmp_path / "blobs")
    shutil.move(tmp_path / "older", tmp_path / "blobs")
    for _ in range(2):
        listing = _catalog(tmp_path).listing("kb")
        assert [one.id for one in listing.manifests] == ["backup-1-kb"]
        assert [one.id for one in listing.damaged] == ["backup-2-kb"]
        assert "put the repository back to an older state" in listing.damaged[0].reason
    with pytest.raises(Damaged, match="is gone"):
        _catalog(tmp_path).get("backup-2-kb")
    await _publish(_catalog(tmp_path), 3)
    assert [one.id for one in _catalog(tmp_path).listing().damaged] == ["backup-2-kb"]
    assert _catalog(tmp_path).memory.forget("backup-2-kb")
    assert _catalog(tmp_path).listing().damaged == ()
    assert not _catalog(tmp_path).memory.forget("backup-2-kb")


async def test_older_manifest__in_place_of_a_newer_one(tmp_path: Path) -> None:
    """Rightly signed, of this very backup, and not the one that was published: known without any successor."""
    published = await _publish(_catalog(tmp_path), 1)
    older = tmp_path / "blobs" / published.key
    right = older.read_bytes()
    older.unlink()
    await Catalog(LocalStore(prefix=tmp_path / "blobs"), keyring=KEYS).publish(
        published.manifest.model_copy(update={"exact_count": 1})
    )
    assert "another than when it was the newest" in _catalog(tmp_path).listing().damaged[0].reason
    assert _catalog(tmp_path).list() == []
    older.write_bytes(right)
    assert _catalog(tmp_path).list() == [published.manifest]


async def test_partial_backup__is_as_good_as_its_base(tmp_path: Path) -> None:
    """What builds on a backup that is gone or cannot be used cannot be used either, and says why."""
    full = await _publish(_catalog(tmp_path), 1)
    await _publish(_catalog(tmp_path), 2, base=full.manifest.id)
    await _publish(_catalog(tmp_path), 3, base="never")
    assert [one.id for one in _catalog(tmp_path).list()] == ["backup-2-kb", full.manifest.id]
    (tmp_path / "blobs" / full.key).write_bytes(b"no manifest")
    damaged = {one.id: one.reason for one in _catalog(tmp_path).damaged(Manifest)}
    assert damaged.keys() == {"backup-1-kb", "backup-2-kb", "backup-3-kb"}
    assert "cannot be read" in damaged["backup-2-kb"]
    assert "not in this repository" in damaged["backup-3-kb"]


async def test_memory__is_of_one_url_and_survives_anything_but_nonsense(home: Path) -> None:
    """Another URL is another repository; a file that is no memory is told, never taken for an empty one."""
    seen = Seen("backups/kb/1/manifest.json", "1", "00", "2026-11-23T01:30:00.000000+00:00")
    Memory.of(home, "s3://one").note([seen])
    assert Memory.of(home, "s3://one").recall() == (seen,)
    assert Memory.of(home, "s3://two").recall() == ()
    assert Memory().recall() == ()
    Memory().note([seen])
    (file,) = (home / "repositories").iterdir()
    for nonsense in (b"", b"{", b"[1]", b'[{"key": 1}]'):
        file.write_bytes(nonsense)
        with pytest.raises(ConfigInvalid, match="cannot be read"):
            Memory.of(home, "s3://one").recall()


def test_newest_of_each__subject() -> None:
    """By time, then by id; each folder for itself."""
    rows = [
        Seen(f"{folder}/{n}/manifest.json", str(n), "", f"2026-11-2{n}") for folder in ("a/x", "a/y") for n in (3, 1)
    ]
    assert [(seen.subject, seen.id) for seen in newest_of_each(rows)] == [("a/x", "3"), ("a/y", "3")]
