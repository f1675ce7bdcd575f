"""Stored backups are read again: damage is found, told, and keeps the backup out of plans until it is right again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
import pytest
from faulty_proxy import Fault, proxied
from object_stores import make_bucket, ministack
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine
from stored_backups import publish_small
from typer.testing import CliRunner

from reanimate.backups.catalog import Catalog
from reanimate.backups.keyring import Keyring
from reanimate.backups.manifest import Manifest
from reanimate.backups.marks import Mark, parse_mark
from reanimate.backups.repositories import Repository, open_repositories
from reanimate.backups.rereading import choose_share, stored_parts
from reanimate.cli import app
from reanimate.clock import utcnow
from reanimate.config import RepositorySettings, Settings
from reanimate.db.engine import engine_for, sessions_of
from reanimate.db.tables import PartRead
from reanimate.errors import NotFound
from reanimate.protection.rereading import reread
from reanimate.storage.stores import open_url


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    store = open_url((tmp_path / "blobs").as_uri())
    catalog = Catalog(store, tmp_path / "scratch", Keyring.ephemeral())
    return Repository("local", "file://", catalog, RepositorySettings(name="local", url="file://"))


@pytest.fixture
async def engine(postgres_url: str) -> AsyncIterator[AsyncEngine]:
    engine = engine_for(postgres_url)
    yield engine
    await engine.dispose()


def _damage(tmp_path: Path, key: str) -> bytes:
    """Flip a bit of an object and return what it was."""
    path = tmp_path / "blobs" / key
    right = path.read_bytes()
    path.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    return right


async def test_damage__is_marked_and_mended(repository: Repository, engine: AsyncEngine, tmp_path: Path) -> None:
    """A backup with a damaged part is out of every list until a later reading finds all of it right."""
    sessions, catalog = sessions_of(engine), repository.catalog
    good, bad = await publish_small(catalog, 1, b"good"), await publish_small(catalog, 2, b"bad", b"fine")
    partial = await publish_small(catalog, 3, b"changes", base=bad.manifest.id)
    clean = await reread(repository, sessions, "all")
    assert (clean.ok, len(clean.reads), clean.of) == (True, 4, 4)
    right = _damage(tmp_path, bad.manifest.parts[0].blob)
    assert (await reread(repository, sessions, "all", read_data=False)).ok
    found = await reread(repository, sessions, "all")
    assert (found.ok, found.damaged, found.mended) == (False, (bad.manifest.id,), ())
    (wrong,) = [read for read in found.reads if not read.ok]
    assert (wrong.part.key, "it has SHA-256" in wrong.problem) == (bad.manifest.parts[0].blob, True)
    assert [one.manifest.id for one in catalog.published(Manifest)] == [good.manifest.id]
    assert {one.id for one in catalog.damaged()} == {bad.manifest.id, partial.manifest.id}
    async with sessions() as session:
        rows = {row.key: (row.ok, row.found) for row in await session.scalars(select(PartRead))}
    assert len(rows) == 4
    assert [key for key, (ok, _) in rows.items() if not ok] == [wrong.part.key]
    again = await reread(repository, sessions, "all")
    assert (again.damaged, again.mended) == ((bad.manifest.id,), ())
    assert sum(mark.what == "damaged" for mark in _marks(catalog, bad.folder)) == 1
    (tmp_path / "blobs" / wrong.part.key).write_bytes(right)
    mended = await reread(repository, sessions, [bad.manifest.id])
    assert (mended.ok, mended.damaged, mended.mended) == (True, (), (bad.manifest.id,))
    assert len(catalog.published(Manifest)) == 3


def _marks(catalog: Catalog, folder: str) -> list[Mark]:
    return [mark for mark in map(parse_mark, catalog.keys(folder)) if mark]


async def test_missing_and_cut_parts__show_without_reading(repository: Repository, tmp_path: Path) -> None:
    """That a part is gone or shorter is seen by looking; a removed backup is no damaged one."""
    cut, gone = await publish_small(repository.catalog, 1, b"x" * 500), await publish_small(repository.catalog, 2, b"y")
    (tmp_path / "blobs" / cut.manifest.parts[0].blob).write_bytes(b"")
    (tmp_path / "blobs" / gone.manifest.parts[0].blob).unlink()
    found = await reread(repository, None, "all", read_data=False)
    assert set(found.damaged) == {cut.manifest.id, gone.manifest.id}
    sizes = cut.manifest.parts[0].stored_size
    assert {read.problem for read in found.reads} == {"it is gone", f"it has 0 bytes, the manifest says {sizes}"}
    with pytest.raises(NotFound):
        await reread(repository, None, ["nope"])


async def test_share__is_remembered_in_the_record(repository: Repository, engine: AsyncEngine) -> None:
    """What one night has read is not read the next; without the record the oldest are read all the same."""
    sessions = sessions_of(engine)
    for hours in range(5):
        await publish_small(repository.catalog, hours, b"%d" % hours * 400)
    parts = stored_parts(repository.catalog.published(Manifest))
    first = await reread(repository, None, "share")
    assert {read.part.key for read in first.reads} == {part.key for part in choose_share(parts, {}, utcnow())}
    await reread(repository, sessions, "share")
    async with sessions() as session:
        rows = {row.key: row.read_at for row in await session.scalars(select(PartRead))}
    second = await reread(repository, sessions, "share")
    assert {read.part.key for read in second.reads} == {part.key for part in choose_share(parts, rows, utcnow())}


async def test_part__that_cannot_be_read_is_not_called_damaged(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """What the store does not give out is told as unread, which is not fine, and marks nothing."""
    with ministack(free_port(), tmp_path / "stack") as url:
        place, keys = make_bucket(url), Keyring.ephemeral()
        one = await publish_small(Catalog(open_url(place.url, place.options), tmp_path, keys), 1, b"x" * 100)
        async with proxied(url) as proxy:
            proxy.faults = [Fault("status", "GET", "shard-0.snapshot", status=403, times=99)]
            store = open_url(place.url, {**place.options, "endpoint": proxy.url})
            far = RepositorySettings(name="far", url=place.url)
            repository = Repository("far", place.url, Catalog(store, tmp_path, keys), far)
            found = await reread(repository, None, "all")
            proxy.faults = []
            again = await reread(repository, None, "all")
    assert (found.ok, found.damaged, list(found.unread)) == (False, (), [one.manifest.parts[0].blob])
    assert again.ok


# -- the commands ------------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with two repositories, where nothing was ever started."""
    (tmp_path / "reanimate.toml").write_text(f'[[backups.repositories]]\nname = "far"\nurl = "file://{tmp_path}/far"\n')
    monkeypatch.setenv("REANIMATE_HOME", str(tmp_path))
    monkeypatch.setenv("REANIMATE_CONFIG", str(tmp_path / "reanimate.toml"))
    return tmp_path


def test_commands__copy_verify_forget(home: Path) -> None:
    """A backup copied, found damaged in one place and right in the other, its newest missed and then forgotten."""
    catalog = open_repositories(Settings())["local"].catalog
    one = asyncio.run(publish_small(catalog, 1, b"x" * 1000))
    newest = asyncio.run(publish_small(catalog, 2, b"y" * 1000))
    backup = CliRunner().invoke
    copied = backup(app, ["backup", "copy", "--all", "--to", "far", "--json"])
    assert copied.exit_code == 0, copied.output
    assert [row["new"] for row in orjson.loads(copied.stdout)["copied"]] == [True, True]
    _damage(home, one.manifest.parts[0].blob)
    found = backup(app, ["backup", "verify", one.manifest.id, "--read-data", "--json"])
    assert (found.exit_code, orjson.loads(found.stdout)["damaged"]) == (1, [one.manifest.id])
    told = backup(app, ["backup", "verify", "--all", "--read-data"])
    assert (told.exit_code, "damaged" in told.stderr) == (1, True)
    far = backup(app, ["backup", "verify", "--share", "--read-data", "--repository", "far"])
    assert far.exit_code == 0, far.output
    assert "read and hashed" in far.stdout
    path = home / "blobs" / newest.key
    path.rename(home / "aside")
    missed = backup(app, ["backup", "verify", "--all", "--json"])
    assert (missed.exit_code, "is gone" in orjson.loads(missed.stdout)["unusable"][newest.manifest.id]) == (1, True)
    assert backup(app, ["backup", "forget", newest.manifest.id]).exit_code == 0
    assert backup(app, ["backup", "forget", newest.manifest.id]).exit_code == 1
    for wrong in ("copy --to far", "copy x --all --to far", "copy x --to no", "verify --share", "verify x --all"):
        assert backup(app, ["backup", *wrong.split()]).exit_code == 1


async def test_strangers__are_told_and_used_for_nothing(repository: Repository, tmp_path: Path) -> None:
    """An object that no manifest names is told; notes of a cut backup and marks are none."""
    one = await publish_small(repository.catalog, 1, b"x")
    folder = tmp_path / "blobs" / one.folder
    for name in ("shard-9.snapshot", "unfinished.json", "copying.json", "pinned-20261123T013000Z-00000000.json"):
        (folder / name).write_bytes(b"{}")
    found = await reread(repository, None, "all")
    assert (found.ok, found.strangers) == (True, (f"{one.folder}/shard-9.snapshot",))


async def test_empty_repository__has_nothing_to_read(repository: Repository) -> None:
    """Nothing is there, nothing is read, and that is fine."""
    found = await reread(repository, None, "share")
    assert (found.ok, found.of, found.reads) == (True, 0, ())
