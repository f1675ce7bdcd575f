"""A restore fails at any stage: live data untouched, the incident escalated, containment kept; mended, it recovers."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from faulty_proxy import Fault
from obstore.store import LocalStore
from restoring_rig import OTHER, Rig, World, restoring_rig
from running_system import ALIAS, POINTS, finished_steps, obeyed_switches, read_target
from sqlalchemy import select

from reanimate.backups.backup import take_backup
from reanimate.backups.catalog import MANIFEST, Catalog, backup_prefix
from reanimate.backups.deletion import mark_deleted
from reanimate.backups.manifest import VectorManifest
from reanimate.backups.marks import write_mark
from reanimate.backups.signature import sign
from reanimate.clock import utcnow
from reanimate.db.tables import Outbox, Restore
from reanimate.errors import NotFound
from reanimate.incidents import faults
from reanimate.incidents.lifecycle import STEPS, Phase, State
from reanimate.incidents.views import View, incident_view
from reanimate.protection.undoing import undo_restore
from reanimate.response.by_hand import open_by_hand
from reanimate.response.respond import respond
from reanimate.restores.aliases import AliasSwitch, undo_switch
from reanimate.switches.holds import open_holds

pytestmark = pytest.mark.timeout(300)

ALWAYS = 10**6
PART = "shard-0.snapshot"
Broken = Callable[[Rig], AbstractAsyncContextManager[None]]


@pytest.fixture(scope="module")
async def rig(
    tmp_path_factory: pytest.TempPathFactory, postgres_url: str, free_port: Callable[[], int]
) -> AsyncIterator[Rig]:
    """The parts that a restore needs, running."""
    async with restoring_rig(tmp_path_factory.mktemp("restoring"), postgres_url, free_port) as running:
        yield running


def _fault(fault: Fault) -> Broken:
    """Let the proxy do that to the primary's answers, every time."""

    @asynccontextmanager
    async def broken(rig: Rig) -> AsyncIterator[None]:
        fault.times, fault.hits = ALWAYS, 0
        rig.proxy.faults = [fault]
        try:
            yield
        finally:
            rig.proxy.faults = []

    return broken


@asynccontextmanager
async def _changed(changes: dict[Path, bytes | None]) -> AsyncIterator[None]:
    """Give stored files other contents for the block, or, for None, take them away."""
    before = {path: path.read_bytes() for path in changes}
    for path, content in changes.items():
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
    try:
        yield
    finally:
        for path, content in before.items():
            path.write_bytes(content)


@asynccontextmanager
async def _flipped_bit(rig: Rig) -> AsyncIterator[None]:
    """One bit of the stored backup has changed."""
    content = bytearray(rig.stored(PART).read_bytes())
    content[len(content) // 2] ^= 1
    async with _changed({rig.stored(PART): bytes(content)}):
        yield


@asynccontextmanager
async def _missing_part(rig: Rig) -> AsyncIterator[None]:
    """The stored backup has lost a part."""
    async with _changed({rig.stored(PART): None}):
        yield


@asynccontextmanager
async def _other_data(rig: Rig) -> AsyncIterator[None]:
    """The backup's part is another collection's, sound and with as many points, and its manifest carries its hash."""
    elsewhere = rig.services.settings.home / "elsewhere"
    store = LocalStore(prefix=elsewhere, mkdir=True)
    theirs = (
        await take_backup(
            rig.primary, OTHER, Catalog(store, rig.services.catalog.scratch, rig.services.catalog.keyring)
        )
    ).parts[0]
    manifest = rig.services.catalog.get(rig.stored(MANIFEST).parent.name)
    ours = manifest.parts[0].model_copy(
        update={
            **{name: getattr(theirs, name) for name in ("size", "sha256", "stored_size", "stored_sha256", "packing")}
        }
    )
    lying = manifest.model_copy(update={"parts": (ours,)})
    (memory,) = (rig.services.settings.home / "repositories").iterdir()
    async with _changed(
        {
            memory: b"[]",  # as on a machine that has not seen this repository before
            rig.stored(PART): (elsewhere / theirs.blob).read_bytes(),
            rig.stored(MANIFEST): sign(lying.to_bytes(), rig.services.catalog.keyring),
        }
    ):
        yield


@dataclass
class _Tampering(Fault):
    """Passes everything on, but takes points out of the restored collection when the aliases are switched to it."""

    rig: Rig | None = None
    victims: list[str] = field(default_factory=list)

    def applies(self, method: str, path: str) -> bool:
        if super().applies(method, path) and self.rig is not None and not self.victims:
            url = self.rig.primary.url
            there = {row["name"] for row in httpx.get(f"{url}/collections").json()["result"]["collections"]}
            self.victims = sorted(self.rig.created() & there, reverse=True)[:1]
            gone = {"points": list(range(1, POINTS // 2))}
            for name in self.victims:
                httpx.post(f"{url}/collections/{name}/points/delete?wait=true", json=gone).raise_for_status()
        return False


@asynccontextmanager
async def _tampered(rig: Rig) -> AsyncIterator[None]:
    """The restored collection is right until the aliases point at it, and then is not."""
    async with _fault(_Tampering("status", "POST", "/collections/aliases", rig=rig))(rig):
        yield


@dataclass(frozen=True)
class Case:
    """What is broken, which action fails of it, and how that reads."""

    name: str
    broken: Broken
    action: str
    said: str
    deleted: bool = False
    """The collection is gone altogether, rather than emptied."""
    begun: bool = True
    """A new collection was begun, and must be gone."""


CASES = [
    Case("download, a flipped bit", _flipped_bit, "restore_collections", r"failed at download.*SHA-256"),
    Case(
        "planning, a part missing",
        _missing_part,
        "restore_collections",
        "no backup of 'kb' can be restored .*shard-0.snapshot is missing in local",
        begun=False,
    ),
    Case("upload refused", _fault(Fault("status", "POST", "/upload")), "restore_collections", "failed at upload"),
    Case(
        "upload cut",
        _fault(Fault("cut request", "POST", "/upload", after=20_000)),
        "restore_collections",
        "failed at upload",
        deleted=True,
    ),
    Case("verification, other data", _other_data, "restore_collections", "is not what backup .* sentinels"),
    Case("verification, after the switch", _tampered, "verify_collections", "primary is not verified"),
    Case("switch", _fault(Fault("status", "POST", "/collections/aliases")), "switch_aliases", "switching aliases"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_failing_restore__harms_nothing_and_calls_a_person(rig: Rig, case: Case) -> None:
    """Escalated, undone and contained; everything that was on the primary is as it was. Mended, it recovers."""
    await (rig.delete() if case.deleted else rig.empty())
    before, known = await rig.world(), rig.created()
    incident_id = await rig.open_incident()
    async with case.broken(rig):
        assert await respond(rig.services, incident_id, actor="test") is State.ESCALATED
    failed = await incident_view(rig.services, incident_id)
    _says_what_failed(failed, case)
    await _a_person_is_called(rig, failed)
    await _is_contained(rig, incident_id)
    await _is_untouched(rig, before, known, begun=case.begun)

    assert await respond(rig.services, incident_id, actor="test") is State.RECOVERED
    await _is_recovered(rig, incident_id, before)


def _says_what_failed(view: View, case: Case) -> None:
    failed = [entry["data"] for entry in view["timeline"] if entry["kind"] == "step.failed"]
    assert [data["action"] for data in failed] == [case.action]
    assert re.search(case.said, failed[0]["error"]), failed[0]["error"]
    states = [entry["data"]["to"] for entry in view["timeline"] if entry["kind"] == "incident.state"]
    assert states == [State.CONTAINING, State.RECOVERING, State.ESCALATED]
    assert view["chain"]["ok"]


async def _a_person_is_called(rig: Rig, view: View) -> None:
    incident = view["incident"]
    assert incident["escalated_at"]
    assert incident["recovered_at"] is None
    assert [entry["kind"] for entry in view["timeline"]].count("person.called") == 1
    async with rig.services.sessions() as session:
        notices = await session.scalars(
            select(Outbox).where(Outbox.kind == "notify", Outbox.incident_id == incident["id"])
        )
        titles = [notice.payload["title"] for notice in notices if ":escalated:" in notice.key]
    assert len(titles) == 1
    assert "a person is needed" in titles[0]


async def _is_contained(rig: Rig, incident_id: str) -> None:
    """The holds are in force, the gateway obeys them: reads are answered by the replica, writes are refused."""
    async with rig.services.sessions() as session:
        holds = {(hold.switch, hold.scope, hold.value) for hold in await open_holds(session, cause=incident_id)}
    assert {("read_share", f"primary/{ALIAS}", 0), ("writes", f"primary/{ALIAS}", "hold")} <= holds
    obeyed = {(item["switch"], item["scope"], item["value"]) for item in await obeyed_switches(rig.services)}
    assert holds <= obeyed
    assert {await read_target(rig.services) for _ in range(20)} == {"replica"}
    write = await rig.services.http.put(
        f"{rig.services.addresses.gateway}/collections/{ALIAS}/points", json={"points": []}
    )
    assert write.status_code == 503
    assert int(write.headers["retry-after"]) > 0


async def _is_untouched(rig: Rig, before: World, known: set[str], *, begun: bool) -> None:
    """Collections, aliases, counts and points are what they were, and the collection that was begun is gone."""
    assert await rig.world() == before
    created = rig.created() - known
    assert len(created) == begun
    for name in created:
        with pytest.raises(NotFound):
            await rig.primary.info(name)
    async with rig.services.sessions() as session:
        rows = await session.scalars(select(Restore).where(Restore.new_name.in_(created)))
        assert {row.state for row in rows} <= {"failed", "undone"}


async def _is_recovered(rig: Rig, incident_id: str, before: World) -> None:
    view = await incident_view(rig.services, incident_id)
    assert {phase for phase, _, _ in finished_steps(view["timeline"])} == set(Phase)
    assert {step["step"] for step in view["figures"]["steps"]} == {step for steps in STEPS.values() for step in steps}
    assert view["chain"]["ok"]
    async with rig.services.sessions() as session:
        assert list(await open_holds(session)) == []
    assert await obeyed_switches(rig.services) == []
    assert await read_target(rig.services) == "primary"
    after = await rig.world()
    assert after.points[after.aliases[ALIAS]] == POINTS
    assert {name: after.points[name] for name in before.collections} == before.points
    assert after.other == before.other
    postmortem = (rig.services.settings.home / "blobs" / view["incident"]["postmortem_key"]).read_text()
    assert "It was recovered and verified" in postmortem


async def _damage(rig: Rig, newest: VectorManifest) -> None:
    """Flip a bit in the middle of its part, where a listing does not show it."""
    file = rig.services.settings.home / "blobs" / newest.parts[0].blob
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


async def _fail_proof(rig: Rig, newest: VectorManifest) -> None:
    """Say beside it that a proof has failed."""
    catalog = rig.services.catalog
    folder = backup_prefix(newest.subject, newest.id)
    await write_mark(catalog.store, folder, "proof-failed", {"backup": newest.id}, catalog.keyring, now=utcnow())


@pytest.mark.parametrize(
    ("spoil", "why"),
    [(_damage, "tried just now: .*SHA-256"), (_fail_proof, "proof failed")],
    ids=["damaged on the way", "its proof failed"],
)
async def test_bad_newest_backup__gives_its_place_to_the_next(
    rig: Rig, spoil: Callable[[Rig, VectorManifest], Awaitable[None]], why: str
) -> None:
    """It recovers all the same, from the backup before, and the evidence says which was passed over and why."""
    good = rig.services.catalog.newest(ALIAS)
    assert good is not None
    newest = await take_backup(rig.primary, ALIAS, rig.services.catalog)
    await spoil(rig, newest)
    await rig.empty()
    incident_id = await rig.open_incident()
    assert await respond(rig.services, incident_id, actor="test") is State.RECOVERED
    view = await incident_view(rig.services, incident_id)
    (restored,) = [
        item
        for entry in view["timeline"]
        if entry["kind"] == "step.done"
        for item in (entry["data"].get("evidence") or {}).get("restores") or ()
    ]
    assert restored["backup_id"] == good.id
    assert re.search(f"newer ones are passed over .*{newest.id}: {why}", restored["why"])
    assert await rig.primary.exact_count(ALIAS) == POINTS
    undone = await undo_restore(rig.services, ALIAS, "primary")
    assert (undone.name, undone.trigger) == (restored["new_name"], f"incident:{incident_id}")
    assert (await rig.primary.aliases())[ALIAS] == undone.switch.before[ALIAS]
    await undo_switch(rig.primary, AliasSwitch(undone.switch.after, {}))
    await _delete_backup(rig, newest)


async def _delete_backup(rig: Rig, manifest: VectorManifest) -> None:
    folder = backup_prefix(manifest.subject, manifest.id)
    later = utcnow() + timedelta(days=1)
    await mark_deleted(rig.services.catalog, folder, by="test", reason="spoilt", until=later, now=utcnow())


async def test_no_backup__never_recovered(rig: Rig) -> None:
    """What no backup holds is never called recovered, though the server answers: a person is called."""
    await rig.primary.delete_collection(OTHER)
    incident_id = await open_by_hand(
        rig.services,
        fault=faults.Fault.KNOWLEDGE_BASE_DELETED,
        component="vector:primary",
        summary="somebody deleted other",
        collections=[OTHER],
        actor="test",
    )
    assert await respond(rig.services, incident_id, actor="test") is State.ESCALATED
    view = await incident_view(rig.services, incident_id)
    called = [entry["message"] for entry in view["timeline"] if entry["kind"] == "person.called"]
    assert len(called) == 1
    assert "no backup holds it" in called[0]
    assert all(entry["data"].get("to") != State.RECOVERED for entry in view["timeline"])
