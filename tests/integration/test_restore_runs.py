"""Restores as commands run them: planned over repositories, on record, repeated after kills, undone, cleared up."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyrage
import pytest
from qdrant_servers import KEY, NOWHERE, CleanServer, fill, points
from sqlalchemy import select, update

from reanimate.backups.backup import take_backup
from reanimate.backups.catalog import backup_prefix
from reanimate.backups.manifest import Embedding, VectorManifest
from reanimate.backups.marks import write_mark
from reanimate.bootstrap import Services, open_services
from reanimate.clock import utcnow
from reanimate.db.tables import Restore
from reanimate.errors import Damaged, NotFound, Refused, Unreachable
from reanimate.protection.clearing import clear_leftovers, forget_old, leftovers, restored_targets
from reanimate.protection.copies import copy_backups
from reanimate.protection.locks import Purpose, collection, exclusively
from reanimate.protection.restore_plans import plan_for
from reanimate.protection.restoring import Done, run_restore
from reanimate.protection.single_points import recover_points, undo_recovery
from reanimate.protection.undoing import undo_restore
from reanimate.restores.candidates import Wish
from reanimate.restores.carrying import Carry
from reanimate.restores.leftovers import ANNOUNCED_FOR, Fate
from reanimate.restores.verification import Depth, verify


@pytest.fixture
async def home(
    tmp_path: Path, vector_urls: list[str], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Path]:
    """A home directory whose primary is the tests' server, with a second repository."""
    replace(NOWHERE, vector={"primary": vector_urls[0], "replica": vector_urls[1]}).save(tmp_path)
    targets = [{"name": name, "role": name, "api_key": KEY} for name in ("primary", "replica")]
    second = [{"name": "second", "url": f"file://{tmp_path / 'second'}"}]
    monkeypatch.setenv("REANIMATE_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    monkeypatch.setenv("REANIMATE_VECTOR__TARGETS", json.dumps(targets))
    monkeypatch.setenv("REANIMATE_BACKUPS__REPOSITORIES", json.dumps(second))
    return tmp_path


@pytest.fixture
async def services(home: Path) -> AsyncIterator[Services]:
    """The services of that home directory."""
    async with open_services() as opened:
        yield opened


async def _backed_up(services: Services, primary: CleanServer, count: int = 300) -> VectorManifest:
    """Fill a collection with an alias, and back it up into the first repository."""
    await fill(primary.server, primary.name(), count, alias=primary.name("alias"))
    return await take_backup(primary.server, primary.name("alias"), services.catalog)


async def _restore(services: Services, primary: CleanServer, carry: Carry | None = None) -> Done:
    planned = await plan_for(services, Wish(primary.name("alias")))
    return await run_restore(services, planned, trigger="test", carry=carry)


async def _rows(services: Services, primary: CleanServer) -> list[Restore]:
    async with services.sessions() as session:
        rows = select(Restore).where(Restore.subject == primary.name()).order_by(Restore.id)
        return [*await session.scalars(rows)]


async def _mark(services: Services, manifest: VectorManifest, what: str) -> None:
    folder = backup_prefix(manifest.subject, manifest.id)
    keyring = services.catalog.keyring
    content = {"backup": manifest.id}
    await write_mark(services.catalog.store, folder, what, content, keyring, now=utcnow())  # type: ignore[arg-type]


def _flip(services: Services, manifest: VectorManifest, repository: str = "blobs") -> None:
    file = services.settings.home / repository / manifest.parts[0].blob
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


# -- plans -------------------------------------------------------------------------------------------------------------


async def test_plan__over_repositories_and_proofs(services: Services, primary: CleanServer) -> None:
    """Copies and proofs are found where they are; what a listing shows to be gone is not chosen."""
    first = await _backed_up(services, primary)
    await copy_backups(services.repositories, to="second")
    await _mark(services, first, "proof-passed")
    newest = await take_backup(primary.server, primary.name("alias"), services.catalog)
    plan = (await plan_for(services, Wish(primary.name("alias")))).plan
    assert (plan.backup_id, plan.repository, plan.proof) == (newest.id, "local", "not proven")
    assert plan.newest_proven is not None
    assert plan.newest_proven.id == first.id
    assert plan.outlook.took_last.startswith("not known yet") or "MB/s" in plan.outlook.took_last
    assert plan.outlook.free_here is not None
    assert plan.outlook.needed_there > first.parts[0].size
    proven = (await plan_for(services, Wish(primary.name("alias"), newest_proven=True))).plan
    assert (proven.backup_id, proven.repository) == (first.id, "local")

    (services.settings.home / "blobs" / first.parts[0].blob).unlink()
    plan = (await plan_for(services, Wish(primary.name("alias"), backup_id=first.id))).plan
    assert plan.repository == "second"
    assert "cannot be had from local" in plan.why
    with pytest.raises(Refused, match=r"shard-0.snapshot is missing in local"):
        await plan_for(services, Wish(primary.name("alias"), backup_id=first.id), repository="local")
    with pytest.raises(NotFound, match="no repository is called"):
        await plan_for(services, Wish(primary.name("alias")), repository="nowhere")


async def test_plan__another_model_is_refused(
    home: Path, primary: CleanServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was made with one embedding model is not restored where the settings name another."""
    models = {primary.name(): "mini"}
    monkeypatch.setenv("REANIMATE_VECTOR__MODELS", json.dumps(models))
    async with open_services() as services:
        manifest = await _backed_up(services, primary)
        other = {"id": f"{manifest.id}-m", "embedding": Embedding(model="large", dimension=16)}
        labelled = manifest.model_copy(update=other)
        await services.catalog.publish(labelled)
        with pytest.raises(Refused, match="another model answer wrongly"):
            await plan_for(services, Wish(primary.name(), backup_id=labelled.id))


async def test_plan__one_that_no_key_opens_is_passed_over(
    home: Path, primary: CleanServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup that cannot be decrypted here is not chosen, and the plan says so before anything is done."""
    lost = pyrage.x25519.Identity.generate()
    async with open_services() as services:
        readable = await _backed_up(services, primary)
    monkeypatch.setenv("REANIMATE_BACKUPS__RECIPIENTS", json.dumps([str(lost.to_public())]))
    async with open_services() as services:
        closed = await take_backup(primary.server, primary.name("alias"), services.catalog)
        plan = (await plan_for(services, Wish(primary.name("alias")))).plan
        assert plan.backup_id == readable.id
        assert "it is encrypted, and none of the 0 identities opens it" in plan.why
        with pytest.raises(Refused, match="is encrypted"):
            await plan_for(services, Wish(primary.name("alias"), backup_id=closed.id))
    identity = home / "age.key"
    identity.write_text(str(lost))
    monkeypatch.setenv("REANIMATE_BACKUPS__IDENTITIES", json.dumps([str(identity)]))
    async with open_services() as services:
        assert (await plan_for(services, Wish(primary.name("alias")))).plan.backup_id == closed.id


# -- runs --------------------------------------------------------------------------------------------------------------


async def test_run__is_on_record_and_tells_the_next_plan(services: Services, primary: CleanServer) -> None:
    """The row says what became of it and how long it took; the next plan uses that."""
    manifest = await _backed_up(services, primary)
    done = await _restore(services, primary)
    assert await primary.aliases() == {primary.name("alias"): done.restored.name}
    assert done.old == (primary.name(),)
    assert done.restored.verification.depth is Depth.DEEP
    (row,) = await _rows(services, primary)
    assert (row.state, row.backup_id, row.repository, row.trigger) == ("done", manifest.id, "local", "test")
    assert row.switch == done.restored.switch.to_json()
    assert row.keep_until is not None
    assert row.keep_until > utcnow() + timedelta(hours=71)
    assert row.took_s is not None
    plan = (await plan_for(services, Wish(primary.name("alias")))).plan
    assert plan.outlook.took_last.startswith(f"{row.took_s:.1f} s on ")
    assert plan.outlook.expected_s == pytest.approx(row.took_s, abs=0.2)
    assert not [mark for mark in services.catalog.find(manifest.id, VectorManifest).marks if mark.what == "used"]


async def test_run__carries_over_on_request(services: Services, primary: CleanServer) -> None:
    """New points come along, changed and deleted ones are told; the deletion is undone by the restore."""
    await _backed_up(services, primary)
    await primary.server.upsert(primary.name(), points(5000, 5010))
    await primary.server.delete_points(primary.name(), [1])
    done = await _restore(services, primary, Carry())
    assert await primary.server.exact_count(primary.name("alias")) == 310
    assert done.report["carried"]["added"] == done.report["carried"]["carried"] == 10
    assert done.report["carried"]["deleted_ids"] == [1]
    assert done.report["carried_late"]["carried"] == 0
    (row,) = await _rows(services, primary)
    assert row.report is not None
    assert row.report["carried"]["carried"] == 10


async def test_run__takes_the_other_copy_when_one_is_damaged(services: Services, primary: CleanServer) -> None:
    """A flipped bit that only reading shows: the same backup comes from the second repository."""
    manifest = await _backed_up(services, primary)
    await copy_backups(services.repositories, to="second")
    _flip(services, manifest)
    done = await _restore(services, primary)
    assert (done.planned.plan.repository, done.planned.plan.backup_id) == ("second", manifest.id)
    assert await primary.server.exact_count(done.restored.name) == 300
    assert [row.state for row in await _rows(services, primary)][-1] == "done"


async def test_run__damaged_everywhere_harms_nothing(services: Services, primary: CleanServer) -> None:
    """With no good copy of it the error stands, names the others, and everything is as it was."""
    older = await _backed_up(services, primary)
    newest = await take_backup(primary.server, primary.name("alias"), services.catalog)
    _flip(services, newest)
    with pytest.raises(Damaged, match="failed at download") as raised:
        await _restore(services, primary)
    assert older.id in raised.value.hint
    assert await primary.mine() == [primary.name()]
    assert await primary.aliases() == {primary.name("alias"): primary.name()}
    (row,) = await _rows(services, primary)
    assert row.state == "failed"
    assert row.error is not None
    assert "SHA-256" in row.error


async def test_run__without_the_record(home: Path, primary: CleanServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last hope must not need our own database: it works, and the note of this machine can undo it."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/nothing")
    async with open_services() as services:
        await _backed_up(services, primary)
        done = await _restore(services, primary)
        assert await primary.aliases() == {primary.name("alias"): done.restored.name}
        undone = await undo_restore(services, primary.name("alias"), "primary")
        assert "the record does not answer" in done.planned.plan.outlook.took_last
        with pytest.raises(Unreachable, match="nobody knows what is whose"):
            await clear_leftovers(services, "primary")
    assert undone.known_from == "note"
    assert await primary.aliases() == {primary.name("alias"): primary.name()}


async def test_run__waits_for_nobody_but_another_restore(services: Services, primary: CleanServer) -> None:
    """While the collection's lock is held nothing is begun."""
    manifest = await _backed_up(services, primary)
    thing = collection("primary", manifest.collection)
    async with exclusively(services.engine, services.settings.home, thing, Purpose.RESTORE):
        running = asyncio.create_task(_restore(services, primary))
        await asyncio.sleep(1.0)
        assert not running.done()
        assert await primary.mine() == [primary.name()]
    assert (await running).restored.verification.passed


# -- undo --------------------------------------------------------------------------------------------------------------


async def test_undo__from_the_record_alone(services: Services, primary: CleanServer) -> None:
    """On another machine, or when the note is lost, the record knows; a second undo finds nothing."""
    await _backed_up(services, primary)
    done = await _restore(services, primary)
    for note in (services.settings.home / "restores").iterdir():
        note.unlink()
    looked = await undo_restore(services, primary.name("alias"), "primary", dry_run=True)
    assert await primary.aliases() == {primary.name("alias"): done.restored.name}
    assert (looked.name, looked.known_from) == (done.restored.name, "record")
    await undo_restore(services, primary.name("alias"), "primary")
    assert await primary.aliases() == {primary.name("alias"): primary.name()}
    assert [row.state for row in await _rows(services, primary)] == ["undone"]
    with pytest.raises(NotFound):
        await undo_restore(services, primary.name("alias"), "primary")


async def test_undo__of_another_machine_counts(services: Services, primary: CleanServer) -> None:
    """What the record knows as undone is not undone again because this machine still has its note."""
    await _backed_up(services, primary)
    await _restore(services, primary)
    async with services.sessions.begin() as session:
        await session.execute(update(Restore).where(Restore.subject == primary.name()).values(state="undone"))
    with pytest.raises(NotFound):
        await undo_restore(services, primary.name("alias"), "primary")


async def test_undo__refused_when_the_old_one_is_gone(services: Services, primary: CleanServer) -> None:
    """There is nothing to go back to, and the aliases stay where they are."""
    await _backed_up(services, primary)
    done = await _restore(services, primary)
    await primary.server.delete_collection(primary.name())
    with pytest.raises(Refused, match="is not there any more"):
        await undo_restore(services, primary.name("alias"), "primary")
    assert await primary.aliases() == {primary.name("alias"): done.restored.name}


# -- clearing up -------------------------------------------------------------------------------------------------------


async def test_forget__in_two_steps(services: Services, primary: CleanServer) -> None:
    """Kept for its time, then announced, then gone; the restored one and its alias are not touched."""
    await _backed_up(services, primary)
    done = await _restore(services, primary)
    now = utcnow()

    async def fates(hours: float, **how: bool) -> list[Fate]:
        found = await forget_old(services, "primary", now=now + timedelta(hours=hours), **how)
        return [old.fate for old in found if old.name == primary.name()]

    assert "primary" in await restored_targets(services)
    assert await fates(71) == [Fate.KEPT]
    assert await fates(73, dry_run=True) == [Fate.ANNOUNCED]
    assert await fates(73) == [Fate.ANNOUNCED]
    assert await fates(74) == [Fate.WAITING]
    later = 73 + ANNOUNCED_FOR.total_seconds() / 3600
    assert await fates(later, dry_run=True) == [Fate.REMOVED]
    assert primary.name() in await primary.mine()
    assert await fates(later) == [Fate.REMOVED]
    assert await primary.mine() == [done.restored.name]
    assert await primary.aliases() == {primary.name("alias"): done.restored.name}
    assert await fates(later) == []


KILLED = """
import asyncio, os, signal, sys
from reanimate.bootstrap import open_services
from reanimate.protection.restore_plans import plan_for
from reanimate.protection.restoring import run_restore
from reanimate.restores.candidates import Wish
from reanimate.restores.carrying import Carry

name, stage = sys.argv[1:]

def die(at, done, total):
    if at == stage:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with open_services() as services:
        planned = await plan_for(services, Wish(name))
        await run_restore(services, planned, trigger="command", carry=Carry(), on_progress=die)

asyncio.run(main())
"""


async def _killed(name: str, stage: str) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, name, stage, env=os.environ.copy())
    assert await process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("stage", ["upload", "verify", "carry", "switch"])
async def test_killed__run_again_succeeds_and_the_rest_is_swept(
    services: Services, primary: CleanServer, stage: str
) -> None:
    """After SIGKILL live data is as it was, a new run ends well, and what the killed one left is found and removed."""
    await _backed_up(services, primary)
    await _killed(primary.name("alias"), stage)
    assert await primary.aliases() == {primary.name("alias"): primary.name()}
    left = [name for name in await primary.mine() if name != primary.name()]
    found = [one for one in await leftovers(services, "primary") if one.name in left]
    assert [(one.name, one.removable) for one in found] == [(name, True) for name in left]
    await asyncio.sleep(1.0)  # a name is of a second
    done = await _restore(services, primary)
    dry = await clear_leftovers(services, "primary", dry_run=True)
    assert {one.name for one in dry} >= {*left}
    assert {*left} <= {*await primary.mine()}
    gone = await clear_leftovers(services, "primary")
    assert {one.name for one in gone} >= {*left}
    assert await primary.mine() == sorted([primary.name(), done.restored.name])
    assert [row.state for row in await _rows(services, primary)][-1] == "done"
    assert not [*services.catalog.scratch.glob("restore-*")]


async def test_sweep__of_what_nobody_knows_needs_its_name(services: Services, primary: CleanServer) -> None:
    """A collection that looks like a restore's and is in no record goes only when a person names it."""
    strange = f"{primary.name()}-r20200101000000"
    await fill(primary.server, strange, 10)
    await clear_leftovers(services, "primary")
    assert await primary.mine() == [strange]
    with pytest.raises(NotFound, match="is not what a restore has left"):
        await clear_leftovers(services, "primary", named=[primary.name()])
    await clear_leftovers(services, "primary", named=[strange])
    assert await primary.mine() == []


# -- single points -----------------------------------------------------------------------------------------------------


async def test_points__the_deleted_document_comes_back(services: Services, primary: CleanServer) -> None:
    """Filter, compare, write what is missing, keep what differs, undo: through a backup on an engine of its own."""
    manifest = await _backed_up(services, primary)
    alias = primary.name("alias")
    before = await primary.server.retrieve(alias, [7, 8, 32])
    await primary.server.delete_points(alias, [7, 32])
    await primary.server.upsert(alias, [{**points(8, 9)[0], "payload": {"year": 2007, "text": "newer"}}])
    only = {"must": [{"key": "year", "range": {"gte": 2007, "lte": 2008}}]}
    planned = await plan_for(services, Wish(alias), by_engine=True)
    looked = await recover_points(services, planned, alias, only, dry_run=True)
    assert (looked.compared.missing, looked.compared.differing) == ([7, 32], [8])
    found = await recover_points(services, planned, alias, only, overwrite=True)
    assert found.written is not None
    assert (found.written.missing, found.written.overwritten) == (2, 1)
    assert found.written.undo_file is not None
    assert await primary.server.retrieve(alias, [7, 8, 32]) == before
    assert (await verify(primary.server, alias, manifest, depth=Depth.DEEP)).passed
    name, undone = await undo_recovery(services, found.written.undo_file, "primary")
    assert (name, undone.removed, undone.put_back) == (alias, 2, 1)
    assert not [*services.catalog.scratch.glob("points-*")]


async def test_points__need_a_live_collection(services: Services, primary: CleanServer) -> None:
    """Where all is gone a whole restore is the way."""
    await _backed_up(services, primary)
    planned = await plan_for(services, Wish(primary.name("alias")))
    with pytest.raises(NotFound, match="reanimate restore run"):
        await recover_points(services, planned, primary.name("gone"), None)
