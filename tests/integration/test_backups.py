"""Backups of a real server's collections: taken, read back, published whole or not at all."""

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import obstore
import pytest
import zstandard
from faulty_proxy import Fault, proxied
from qdrant_servers import CleanServer, fill, points, server_at
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.backups import record
from reanimate.backups.backup import BackupOptions, take_backup
from reanimate.backups.bringing import look
from reanimate.backups.catalog import Catalog, backup_prefix
from reanimate.backups.comparison import tally
from reanimate.backups.facts import read_facts
from reanimate.backups.room import expected_size
from reanimate.backups.unfinished import ABANDONED_AFTER, Unfinished, sweep
from reanimate.clock import utcnow
from reanimate.db.engine import engine_for, sessions_of
from reanimate.db.tables import Backup
from reanimate.errors import Busy, ConfigInvalid, Damaged, NotFound, ReanimateError, Unreachable
from reanimate.protection.backups import take_recorded_backup
from reanimate.vector.snapshots import create_shard_snapshot, list_shard_snapshots
from reanimate.vector.transfers import TransferLimits

RECORDED = Path(__file__).parent.parent / "recorded" / "qdrant"
QUICK = BackupOptions(transfer=TransferLimits(attempts=3, stall_s=2.0, first_wait_s=0.01), snapshot_timeout_s=30)


async def test_backup__by_alias_is_published_whole(primary: CleanServer, catalog: Catalog) -> None:
    """The manifest says all, the parts are what it says, and neither server nor disk keeps a copy."""
    name, alias = primary.name(), primary.name("alias")
    await fill(primary.server, name, 700, alias=alias)
    stages: list[str] = []
    manifest = await take_backup(
        primary.server,
        alias,
        catalog,
        totals={alias: 700},
        on_progress=lambda stage, done, total: stages.append(stage),
    )
    assert (manifest.collection, manifest.asked_as, manifest.aliases) == (name, alias, [alias])
    assert manifest.exact_count == manifest.live.before == manifest.live.after == 700
    assert manifest.payload_schema == {"lang": {"data_type": "keyword"}, "year": {"data_type": "integer"}}
    assert manifest.config["params"]["vectors"]["size"] == 16
    assert len(manifest.sentinels) == 20
    assert len(manifest.golden) == 20
    assert manifest.index_recall == 1.0
    assert manifest.golden[0].hits[0].id == manifest.golden[0].point
    assert manifest.gateway_totals == {alias: 700}
    assert manifest.warnings == []
    for part in manifest.parts:
        stored = bytes(obstore.get(catalog.store, part.blob).bytes())
        assert (len(stored), hashlib.sha256(stored).hexdigest()) == (part.stored_size, part.stored_sha256)
    assert catalog.list(alias) == catalog.list(name) == [manifest]
    assert sorted(key.rsplit("/", 1)[1] for key in catalog.keys("backups")) == ["manifest.json", "shard-0.snapshot"]
    assert await list_shard_snapshots(primary.server, name, 0) == []
    assert list(catalog.scratch.iterdir()) == []
    assert list(dict.fromkeys(stages)) == ["snapshot", "download", "check", "store"]


async def test_backup__hashes_equal_what_the_server_sends(primary: CleanServer, catalog: Catalog) -> None:
    """What the engine reads in the snapshot and what REST answers give one hash: all kinds of vectors, any payload."""
    name = primary.name()
    await primary.server.create_collection(
        name,
        {
            "vectors": {
                "dense": {"size": 8, "distance": "Cosine"},
                "far": {"size": 4, "distance": "Euclid"},
                "late": {"size": 4, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}},
            },
            "sparse_vectors": {"bm25": {"modifier": "idf"}},
        },
    )
    await primary.server.upsert(name, [_of_all_kinds(number) for number in range(300)])
    manifest = await take_backup(primary.server, name, catalog, BackupOptions(sentinels=300, golden_queries=8))
    read = await primary.server.retrieve(name, [sentinel.id for sentinel in manifest.sentinels])
    counted = tally(manifest.sentinels, read)
    assert (len(counted.same), counted.changed, counted.missing) == (300, (), ())
    assert {golden.using for golden in manifest.golden} == {"dense", "far"}


def _of_all_kinds(number: int) -> dict[str, object]:
    base = (number * 37 % 101) / 17 + 0.1
    vectors: dict[str, object] = {
        "dense": [base, 0.1, -0.2, 1e-7, 3.3, -0.0, base / 3, 1.0],
        "late": [[base, 0.5, -0.25, 0.125], [1.5, base, 0.1, 0.2]],
        "bm25": {"indices": [number + 7, 3, 1], "values": [0.1, 0.2, base]},
    }
    if number % 3:
        vectors["far"] = [base * 1000, 1e20, -1e-20, 0.5]
    if number % 5 == 0:
        del vectors["bm25"]
    payload = {
        "text": f"ñ “quoted” \\ / \u2028 {number}",
        "float": number / 7,
        "tiny": 1.7e-300,
        "large": 2.5e300,
        "whole": 3.0,
        "big": 2**63 - 1,
        "negative": -(2**53) - 1,
        "none": None,
        "empty": {},
        "nested": [{"a": [1, 2.5, [True, None]]}],
    }
    point_id = number if number % 2 else f"00000000-0000-4000-8000-{number:012d}"
    return {"id": point_id, "vector": vectors, "payload": payload if number % 4 else {}}


async def test_backup__of_several_shards(primary: CleanServer, catalog: Catalog) -> None:
    """Every shard is a part, and the facts are those of all of them together."""
    name = primary.name()
    await primary.server.create_collection(name, {"vectors": {"size": 16, "distance": "Cosine"}, "shard_number": 3})
    await primary.server.upsert(name, points(0, 400))
    manifest = await take_backup(primary.server, name, catalog)
    assert [part.shard_id for part in manifest.parts] == [0, 1, 2]
    assert manifest.exact_count == 400


async def test_backup__while_writes_go_on(primary: CleanServer, catalog: Catalog) -> None:
    """A snapshot of a moving collection is taken as it is: its own count lies between those before and after."""
    name = primary.name()
    await fill(primary.server, name, 500)
    stop = asyncio.Event()

    async def write() -> None:
        number = 10_000
        while not stop.is_set():
            await primary.server.upsert(name, points(number, number + 20))
            number += 20

    writer = asyncio.create_task(write())
    try:
        manifest = await take_backup(primary.server, name, catalog)
    finally:
        stop.set()
        await writer
    assert manifest.live.before <= manifest.exact_count <= manifest.live.after


async def test_backup__of_an_empty_collection_warns(primary: CleanServer, catalog: Catalog) -> None:
    """An empty collection is backed up with a warning, and an older backup that holds points stays the newest."""
    name = primary.name()
    await fill(primary.server, name, 50)
    full = await take_backup(primary.server, name, catalog)
    await primary.server.delete_collection(name)
    await fill(primary.server, name, 0)
    empty = await take_backup(primary.server, name, catalog)
    assert empty.exact_count == 0
    assert "empty" in empty.warnings[0]
    newest = catalog.newest(name)
    assert newest is not None
    assert newest.id == full.id


async def test_backup__of_nothing_says_what_there_is(primary: CleanServer, catalog: Catalog) -> None:
    """A wrong name is answered with the names there are."""
    await fill(primary.server, primary.name(), 1, alias=primary.name("alias"))
    with pytest.raises(NotFound, match=primary.name("alias")):
        await take_backup(primary.server, primary.name("wrong"), catalog)
    assert catalog.keys("backups") == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", "POST", "/snapshots", status=500),
        Fault("cut answer", "GET", ".snapshot", after=5000, times=99),
        Fault("status", "POST", "/points/count", status=500, skip=1),
    ],
    ids=["create", "download", "count after"],
)
async def test_backup__that_fails_is_not_listed(
    primary: CleanServer,
    catalog: Catalog,
    vector_urls: list[str],
    vector_http: httpx.AsyncClient,
    fault: Fault,
) -> None:
    """Whatever fails, nothing is published, and nothing stays on our disk."""
    await fill(primary.server, primary.name(), 300)
    async with proxied(vector_urls[0]) as proxy:
        proxy.faults = [Fault(fault.kind, fault.method, fault.path, fault.after, fault.status, fault.times, fault.skip)]
        with pytest.raises(ReanimateError):
            await take_backup(server_at(proxy.url, vector_http), primary.name(), catalog, QUICK)
    assert catalog.list() == []
    assert not catalog.scratch.exists() or list(catalog.scratch.iterdir()) == []
    manifest = await take_backup(primary.server, primary.name(), catalog, QUICK)
    assert manifest.exact_count == 300


async def test_backup__survives_cuts(
    primary: CleanServer, catalog: Catalog, vector_urls: list[str], vector_http: httpx.AsyncClient
) -> None:
    """A create that timed out is adopted, a cut download resumed, a snapshot that vanished taken again."""
    await fill(primary.server, primary.name(), 300)
    async with proxied(vector_urls[0]) as proxy:
        proxy.faults = [
            Fault("swallow answer", "POST", "/snapshots"),
            Fault("cut answer", "GET", ".snapshot", after=20_000),
            Fault("status", "GET", ".snapshot", status=404),
        ]
        options = BackupOptions(transfer=QUICK.transfer, snapshot_timeout_s=1.0)
        manifest = await take_backup(server_at(proxy.url, vector_http), primary.name(), catalog, options)
    assert manifest.exact_count == 300


async def test_backup__of_a_server_that_is_gone(
    catalog: Catalog, vector_http: httpx.AsyncClient, free_port: Callable[[], int]
) -> None:
    """A dead server is Unreachable at once."""
    with pytest.raises(Unreachable):
        await take_backup(server_at(f"http://127.0.0.1:{free_port()}", vector_http), "kb", catalog)


async def test_sweep__removes_what_an_abandoned_backup_left(primary: CleanServer, catalog: Catalog) -> None:
    """Its snapshots on the server and its parts go once it is old; a young one may still be running."""
    name = primary.name()
    await fill(primary.server, name, 20)
    snapshot = await create_shard_snapshot(primary.server, name, 0, timeout_s=30)
    now = utcnow()
    prefix = backup_prefix(name, "cut")
    note = Unfinished(catalog.store, prefix, primary.server.name, name, now)
    await note.note(0, snapshot.name, primary.server.url)
    await obstore.put_async(catalog.store, f"{prefix}/shard-0.snapshot", b"half")
    assert await sweep(primary.server, catalog, name, now + timedelta(minutes=5)) == []
    assert [one.name for one in await list_shard_snapshots(primary.server, name, 0)] == [snapshot.name]
    assert await sweep(primary.server, catalog, name, now + ABANDONED_AFTER) == ["cut"]
    assert await list_shard_snapshots(primary.server, name, 0) == []
    assert catalog.keys("backups") == []


async def test_sweep__reaches_collections_that_are_not_backed_up_any_more(
    primary: CleanServer, catalog: Catalog
) -> None:
    """A backup is killed, and a restore moves the alias to a new collection: the next backup clears up the old one."""
    before, after = primary.name("before"), primary.name("after")
    for name in (before, after):
        await fill(primary.server, name, 20)
    snapshot = await create_shard_snapshot(primary.server, before, 0, timeout_s=30)
    prefix = backup_prefix(before, "cut")
    note = Unfinished(catalog.store, prefix, primary.server.name, before, utcnow() - ABANDONED_AFTER)
    await note.note(0, snapshot.name, primary.server.url)
    await obstore.put_async(catalog.store, f"{prefix}/shard-0.snapshot", b"half")
    await take_backup(primary.server, after, catalog)
    assert await list_shard_snapshots(primary.server, before, 0) == []
    assert catalog.keys(prefix) == []


# -- reading snapshots back --------------------------------------------------------------------------------------------


def _recorded(name: str, tmp_path: Path) -> Path:
    file = tmp_path / name
    with (RECORDED / f"{name}.zst").open("rb") as packed, file.open("wb") as plain:
        zstandard.ZstdDecompressor().copy_stream(packed, plain)
    return file


DOCS = {"params": {"vectors": {"size": 8, "distance": "Cosine"}}}


@pytest.mark.parametrize("name", ["docs.shard-0.snapshot", "docs.shard-0.streamed.snapshot"])
async def test_facts__of_a_recorded_snapshot_are_the_points_that_were_in_it(name: str, tmp_path: Path) -> None:
    """Every point of a real server's snapshot hashes as the same point did over REST when it was recorded."""
    file = _recorded(name, tmp_path)
    facts = await read_facts({0: file}, tmp_path / "x", config=DOCS, salt="s", sentinels=500, golden=5, timeout_s=60)
    truth = [json.loads(line) for line in (RECORDED / "docs.points.jsonl").read_text().splitlines()]
    counted = tally(facts.sentinels, truth)
    assert (facts.count, len(counted.same), counted.changed, counted.missing) == (191, 191, (), ())


async def test_facts__of_garbage_are_damaged(tmp_path: Path) -> None:
    """Whatever the engine says of garbage, in words or by dying, is one clean error."""
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\0" * 10_000 + b"no snapshot")
    with pytest.raises(Damaged, match="reading the snapshot back"):
        await read_facts({0: garbage}, tmp_path / "x", config=DOCS, salt="s", sentinels=5, golden=1, timeout_s=60)


async def test_facts__of_damaged_ids_do_not_kill_us(tmp_path: Path) -> None:
    """Flipped bytes among the ids make the engine abort its process; here that is an error, not our end."""
    file = _recorded("docs.shard-0.snapshot", tmp_path)
    content = bytearray(file.read_bytes())
    at = content.index(b"id_tracker.mappings")
    for offset in range(at + 512 - at % 512, at + 512 - at % 512 + 400):
        content[offset] ^= 0x55
    file.write_bytes(content)
    with pytest.raises(Damaged, match="reading the snapshot back"):
        await read_facts({0: file}, tmp_path / "x", config=DOCS, salt="s", sentinels=5, golden=1, timeout_s=60)


async def test_facts__that_take_too_long_are_given_up(tmp_path: Path) -> None:
    """The reader is killed at its time limit, and trying again may help."""
    file = _recorded("docs.shard-0.snapshot", tmp_path)
    with pytest.raises(Busy, match="not done"):
        await read_facts({0: file}, tmp_path / "x", config=DOCS, salt="s", sentinels=5, golden=1, timeout_s=0.01)


# -- the record --------------------------------------------------------------------------------------------------------


async def test_record__of_a_good_and_a_failed_backup(primary: CleanServer, catalog: Catalog, postgres_url: str) -> None:
    """A row says running, then published with hash and size, or failed with the reason."""
    await fill(primary.server, primary.name(), 20)
    engine = engine_for(postgres_url)
    sessions = sessions_of(engine)
    try:
        manifest = await take_recorded_backup(
            primary.server, primary.name(), catalog, sessions, trigger="test", totals=None
        )
        with pytest.raises(NotFound):
            await take_recorded_backup(primary.server, primary.name("none"), catalog, sessions, trigger="test")
        async with sessions() as session:
            rows = {row.subject: row for row in await _rows(session)}
    finally:
        await engine.dispose()
    good, bad = rows[primary.name()], rows[primary.name("none")]
    assert (good.id, good.state, good.exact_count) == (manifest.id, "published", 20)
    assert good.manifest_key is not None
    stored = bytes(obstore.get(catalog.store, good.manifest_key).bytes())
    assert good.manifest_sha256 == hashlib.sha256(stored).hexdigest()
    assert (bad.state, bad.manifest_key) == ("failed", None)
    assert "no such collection" in (bad.error or "")


async def _rows(session: AsyncSession) -> list[Backup]:

    return list((await session.scalars(select(Backup))).all())


async def test_record__that_is_away_does_not_stop_a_backup(
    primary: CleanServer, catalog: Catalog, free_port: Callable[[], int]
) -> None:
    """Without its database the product still takes backups."""
    await fill(primary.server, primary.name(), 5)
    engine = engine_for(f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing")
    try:
        manifest = await take_recorded_backup(
            primary.server, primary.name(), catalog, sessions_of(engine), trigger="test"
        )
    finally:
        await engine.dispose()
    assert catalog.get(manifest.id) == manifest


async def test_record__needs_a_beginning(postgres_url: str) -> None:
    """An end without a beginning is an error of the caller."""
    engine = engine_for(postgres_url)
    try:
        async with sessions_of(engine)() as session:
            with pytest.raises(NotFound):
                await record.failed(session, "nope", RuntimeError("x"), now=utcnow())
    finally:
        await engine.dispose()


async def test_room__is_looked_for_before_a_snapshot_is_made(
    primary: CleanServer, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup that will not fit is refused with both figures, and the server has made nothing."""
    name = primary.name()
    await fill(primary.server, name, 50)
    first = await take_backup(primary.server, name, catalog)
    source = await look(primary.server, name)
    assert await expected_size(source, catalog) == first.size_bytes
    usage = shutil.disk_usage(catalog.scratch)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=first.size_bytes))
    with pytest.raises(ConfigInvalid, match=r"a backup of .* needs \d+ MB .* \d+ MB are free"):
        await take_backup(primary.server, name, catalog)
    assert await list_shard_snapshots(primary.server, name, 0) == []
    assert [one.id for one in catalog.list(name)] == [first.id]
