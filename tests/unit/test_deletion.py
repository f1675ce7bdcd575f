"""Deleting backups in two steps: what a folder holds after each, after a kill at any point, and beside readers."""

import asyncio
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from manifests import manifest
from obstore.store import LocalStore

from reanimate.backups import deletion
from reanimate.backups.catalog import Catalog, Published, backup_prefix
from reanimate.backups.keyring import Keyring
from reanimate.backups.manifest import Manifest, VectorManifest
from reanimate.backups.marks import write_mark
from reanimate.backups.repositories import Repository
from reanimate.backups.use import LEASE, in_use, is_in_use
from reanimate.clock import utcnow
from reanimate.config import BackupSettings, RepositorySettings, RetentionSettings
from reanimate.errors import Busy, NotFound
from reanimate.protection.retention import Action, Outcome, retain

NOW = datetime(2026, 11, 26, 4, 0, tzinfo=UTC)
AFTER_GRACE = NOW + timedelta(days=3, seconds=1)
ROOT = Path(__file__).resolve().parents[2]


def repository_at(path: Path, keyring: Keyring | None = None) -> Repository:
    """A repository in a folder that keeps a day of everything, and nothing for weeks or months."""
    settings = RepositorySettings(
        name="local", url=f"file://{path}", retention=RetentionSettings(days=1, weekly=0, monthly=0)
    )
    return Repository("local", settings.url, Catalog(LocalStore(prefix=path, mkdir=True), keyring=keyring), settings)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return repository_at(tmp_path / "blobs")


async def publish(
    repository: Repository,
    name: str,
    days_ago: float,
    *,
    proven: bool = True,
    subject: str = "kb",
    base: str | None = None,
) -> Published[VectorManifest]:
    """Publish a backup with one small part, and its proof."""
    catalog, folder = repository.catalog, backup_prefix(subject, name)
    taken_at = NOW - timedelta(days=days_ago)
    await catalog.store.put_async(f"{folder}/shard-0.snapshot", b"bytes")
    part = {"shard_id": 0, "blob": f"{folder}/shard-0.snapshot", "size": 5, "sha256": "00" * 32}
    await catalog.publish(manifest(id=name, collection=subject, taken_at=taken_at, base=base, parts=[part]))
    if proven:
        await write_mark(catalog.store, folder, "proof-passed", {}, catalog.keyring, now=taken_at)
    return catalog.find(name, VectorManifest)


def files(repository: Repository, name: str = "") -> list[str]:
    return sorted(key for key in repository.catalog.keys("backups") if name in key)


def listed(repository: Repository) -> set[str]:
    return {one.id for one in repository.catalog.list()}


async def round_at(repository: Repository, now: datetime, *, dry_run: bool = False) -> dict[str, Outcome]:
    return {one.verdict.backup.id: one for one in await retain(repository, zone="UTC", now=now, dry_run=dry_run)}


async def test_retain__hides_waits_and_removes(repository: Repository) -> None:
    """Two steps with a grace between them; at its end nothing of the backup is left, and everything of the others."""
    for name, days in (("new", 0.1), ("older", 5), ("oldest", 9)):
        await publish(repository, name, days)
    before = files(repository)
    foretold = await round_at(repository, NOW, dry_run=True)
    assert files(repository) == before
    done = await round_at(repository, NOW)
    assert {name: one.action for name, one in done.items()} == {
        "new": Action.KEPT,
        "older": Action.DELETED,
        "oldest": Action.DELETED,
    }
    assert done == foretold
    assert listed(repository) == {"new"}
    again = await round_at(repository, NOW + timedelta(days=2))
    assert again["older"].action is Action.WAITING
    assert again["older"].until == NOW + timedelta(days=3)
    assert set(before) < set(files(repository)), "until the grace is over, every byte is there"
    assert (await round_at(repository, AFTER_GRACE))["older"].action is Action.REMOVED
    assert files(repository) == [key for key in before if "/new/" in key]
    assert set(await round_at(repository, AFTER_GRACE)) == {"new"}


async def test_retain__takes_back_what_it_should_not_have_deleted(repository: Repository) -> None:
    """In the grace the newest one failed its proof: the older one is needed after all."""
    new = await publish(repository, "new", 0.1)
    await publish(repository, "older", 5)
    await round_at(repository, NOW)
    assert listed(repository) == {"new"}
    catalog = repository.catalog
    await write_mark(catalog.store, new.folder, "proof-failed", {}, catalog.keyring, now=NOW)
    assert (await round_at(repository, AFTER_GRACE))["older"].action is Action.TAKEN_BACK
    assert listed(repository) == {"new", "older"}


async def test_retain__a_mark_that_nobody_signed_deletes_nothing(repository: Repository, tmp_path: Path) -> None:
    """One by a stranger, and one of our own that was copied from another backup."""
    for name, days in (("new", 0.1), ("older", 5), ("kept", 0.2), ("also kept", 0.3)):
        await publish(repository, name, days)
    await round_at(repository, NOW)
    ours = next(key for key in files(repository, "older") if "deleted-" in key)
    copied = ours.replace("/older/", "/kept/")
    (tmp_path / "blobs" / copied).write_bytes((tmp_path / "blobs" / ours).read_bytes())
    folder = backup_prefix("kb", "also kept")
    said = {"backup": "also kept", "by": "mallory", "reason": "", "until": NOW.isoformat()}
    await write_mark(repository.catalog.store, folder, "deleted", said, Keyring.ephemeral(), now=NOW)
    assert listed(repository) == {"new"}
    done = await round_at(repository, NOW + timedelta(hours=1))
    assert {done["kept"].action, done["also kept"].action} == {Action.TAKEN_BACK}
    assert listed(repository) == {"new", "kept", "also kept"}


async def test_retain__what_a_person_deleted_goes_and_what_builds_on_it_keeps_it(repository: Repository) -> None:
    """Yesterday's full backup is wanted away, but a partial one needs it."""
    full = await publish(repository, "full", 0.2)
    await publish(repository, "partial", 0.1, base="full")
    await publish(repository, "new", 0.05)
    catalog = repository.catalog
    await deletion.mark_deleted(catalog, full.folder, by="anna", reason="asked for", until=NOW, now=NOW)
    done = await round_at(repository, NOW + timedelta(hours=1))
    assert (done["full"].action, done["full"].verdict.reasons) == (Action.REFUSED, ("partial builds on it",))
    partial = catalog.find("partial", VectorManifest)
    await deletion.mark_deleted(catalog, partial.folder, by="anna", reason="asked for", until=NOW, now=NOW)
    done = await round_at(repository, NOW + timedelta(hours=1))
    assert {done["full"].action, done["partial"].action} == {Action.REMOVED}
    assert {key.split("/")[2] for key in files(repository)} == {"new"}


async def test_remove__not_while_somebody_reads(repository: Repository) -> None:
    """A reader's mark stops it, also one that comes after the manifest is gone; the mark of a dead reader does not."""
    old = await publish(repository, "old", 5)
    await publish(repository, "new", 0.1)
    async with in_use(repository.catalog, old.manifest, "a restore"):
        later = utcnow()
        with pytest.raises(Busy, match="somebody reads it"):
            await deletion.remove(repository.catalog, old.folder, known=_known(repository), now=later)
        assert is_in_use(repository.catalog.find("old", VectorManifest).marks, later)
    assert not is_in_use(repository.catalog.find("old", VectorManifest).marks, later)
    catalog = repository.catalog
    await write_mark(catalog.store, old.folder, "used", {}, catalog.keyring, now=NOW - LEASE)
    assert await deletion.remove(catalog, old.folder, known=_known(repository), now=NOW) == 4


async def test_remove__not_beside_a_backup_that_has_just_come(repository: Repository) -> None:
    """A partial one published since the judgement may build on it."""
    old = await publish(repository, "old", 5)
    known = _known(repository)
    await publish(repository, "partial", 0.1, base="old")
    with pytest.raises(Busy, match="partial"):
        await deletion.remove(repository.catalog, old.folder, known=known, now=NOW)


def _known(repository: Repository) -> frozenset[str]:
    return frozenset(one.key for one in repository.catalog.published(Manifest))


async def test_in_use__renews_its_mark_and_takes_it_away(repository: Repository) -> None:
    """For as long as the block runs there is a young mark, beside the full backup below it too."""
    await publish(repository, "full", 1)
    partial = await publish(repository, "partial", 0.5, base="full")

    def marks() -> list[str]:
        return [key for key in files(repository) if "/used-" in key]

    async with in_use(repository.catalog, partial.manifest, "a proof", renew_s=0.2):
        first = marks()
        assert {key.split("/")[2] for key in first} == {"full", "partial"}
        for _ in range(1000):
            now = marks()
            if not set(now) & set(first) and {key.split("/")[2] for key in now} == {"full", "partial"}:
                break
            await asyncio.sleep(0.02)
        else:
            pytest.fail(f"never renewed: {marks()}")
    assert not marks()


async def test_in_use__of_a_backup_that_is_gone(repository: Repository) -> None:
    """Whoever comes too late is told so and leaves nothing behind."""
    old = await publish(repository, "old", 5)
    await deletion.remove(repository.catalog, old.folder, known=_known(repository), now=NOW)
    with pytest.raises(NotFound, match="deleted"):
        async with in_use(repository.catalog, old.manifest, "a restore"):
            pass
    assert not files(repository)


_KILLED = """
import asyncio, os, signal, sys
from datetime import datetime
from pathlib import Path
import obstore
from test_deletion import repository_at
from reanimate.backups.keyring import Keyring
from reanimate.config import BackupSettings
from reanimate.protection.retention import retain

path, left, now = Path(sys.argv[1]), int(sys.argv[2]), datetime.fromisoformat(sys.argv[3])
def counted(really):
    def call(*arguments, **options):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return really(*arguments, **options)
    return call

for name in ("put", "put_async", "delete"):
    setattr(obstore, name, counted(getattr(obstore, name)))
repository = repository_at(path / "blobs", Keyring.load_or_create(path, BackupSettings()))
asyncio.run(retain(repository, zone="UTC", now=now))
"""


async def test_retain__killed_at_any_write_and_run_again(tmp_path: Path) -> None:
    """Before each mark and each deletion, in both steps: what stays is whole, and the next round ends the work."""
    repository = repository_at(tmp_path / "blobs", Keyring.load_or_create(tmp_path, BackupSettings()))
    await publish(repository, "new", 0.1)
    kept = files(repository)
    kills = 0
    for moment in (NOW, AFTER_GRACE):
        for writes in range(20):
            if moment == NOW:  # the first step anew each time
                for key in files(repository, "/old"):
                    (tmp_path / "blobs" / key).unlink()
                await publish(repository, "old", 5)
            process = _round(tmp_path, writes if moment == NOW else min(writes, 1), moment)
            assert set(kept) <= set(files(repository))
            visible = [key for key in files(repository) if key.endswith("manifest.json")]
            for key in visible:  # what still calls itself a backup has its bytes
                assert key.replace("manifest.json", "shard-0.snapshot") in files(repository)
            if process == 0:
                break
            assert process == -signal.SIGKILL
            kills += 1
    assert kills >= 5
    assert files(repository) == kept


def _round(path: Path, writes: int, moment: datetime) -> int:
    return subprocess.run(
        [sys.executable, "-c", _KILLED, str(path), str(writes), moment.isoformat()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)])},
        check=False,
    ).returncode
