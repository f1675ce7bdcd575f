"""Restores of dumps on real servers: beside the live database and verified; the live one is never harmed."""

import asyncio
from dataclasses import replace
from pathlib import Path

import obstore
import pytest
from obstore.store import LocalStore
from pyrage import x25519
from rich_database import Databases, comment, dumped, fill, query, restored

from reanimate.backups.catalog import Catalog, Published
from reanimate.backups.keyring import Keyring
from reanimate.clock import utcnow
from reanimate.dumps.backup import take_dump
from reanimate.dumps.dump import dump_database
from reanimate.dumps.login import Login, maintenance
from reanimate.dumps.manifest import PostgresManifest
from reanimate.dumps.programs import Programs
from reanimate.dumps.proof import fetched
from reanimate.dumps.rename import take_name
from reanimate.dumps.restore import exclusively, restore_beside
from reanimate.dumps.verification import verify_database
from reanimate.errors import Busy, Damaged, Refused, ServerFailed, VerificationFailed


async def _refused(catalog: Catalog, published: Published[PostgresManifest], content: bytes) -> None:
    obstore.put(catalog.store, published.manifest.dump.blob, content)
    with pytest.raises(Damaged):
        async with fetched(catalog, published.manifest):
            pytest.fail("a damaged dump was given out")


async def test_restore__everything_comes_back(databases: Databases, programs: list[Programs], tmp_path: Path) -> None:
    """All types and objects, an odd name, properties of the database itself: equal, and the live one untouched."""
    login = await databases.make("Live \"ü\" 'x'; 日")
    await fill(login)
    name = '"Live ""ü"" \'x\'; 日"'
    for statement in (
        f"ALTER DATABASE {name} SET search_path = 'Größe \"x\" y', public",
        f"ALTER DATABASE {name} SET work_mem = '7MB'",
        f"ALTER ROLE reanimate IN DATABASE {name} SET statement_timeout = '10min'",
        f"COMMENT ON DATABASE {name} IS 'the agent''s own'",
        f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
        f"GRANT CREATE ON DATABASE {name} TO pg_monitor WITH GRANT OPTION",
        f"ALTER DATABASE {name} CONNECTION LIMIT 77",
    ):
        await query(databases.admin, statement)
    await query(login, "SET search_path = public; GRANT SELECT (id, body) ON notes TO pg_monitor")
    dump = await dumped(login, tmp_path, programs)
    beside = await restore_beside(login, dump, programs, utcnow())
    assert beside.verification.passed
    assert beside.notes == ()
    assert {check.name for check in beside.verification.checks} == {
        "encoding", "extensions", "schema", "tables", "rows", "content", "sequences", "large objects",
        "owners and grants",
    }  # fmt: skip
    again = await dump_database(login.at(beside.name), tmp_path / "again.dump", programs)
    assert again.facts.properties == dump.facts.properties.model_copy(
        update={"comment": again.facts.properties.comment}
    )
    assert again.facts.properties.connection_limit == 77
    assert (await verify_database(login, dump.facts, "x", rights=True)).passed
    renamed = await take_name(login, beside.name, utcnow())
    assert (renamed.database, renamed.is_now) == (login.database, beside.name)
    assert await comment(login) == "the agent's own"
    assert await query(login, "SHOW work_mem") == [("7MB",)]


HARMS = (
    ("DELETE FROM t WHERE id = 7", "rows", "INSERT INTO t SELECT 7, 0, repeat(md5('7'), 10)"),
    ("UPDATE t SET n = 1 WHERE id = 7", "content", "UPDATE t SET n = 0"),
    ("UPDATE t SET body = body || ' ' WHERE id = 7", "content", "UPDATE t SET body = rtrim(body)"),
    ("UPDATE t SET n = NULL, body = '0' || body WHERE id = 7", "content", "DELETE FROM t WHERE id = 7;"
     "INSERT INTO t SELECT 7, 0, repeat(md5('7'), 10)"),
    ("ALTER TABLE t ADD COLUMN more int", "schema", "ALTER TABLE t DROP COLUMN more"),
    ("CREATE INDEX added ON t (n)", "schema", "DROP INDEX added"),
    ("ALTER TABLE t ALTER n SET DEFAULT 5", "schema", "ALTER TABLE t ALTER n DROP DEFAULT"),
    ("CREATE TABLE other (n int)", "tables", "DROP TABLE other"),
    ("SELECT nextval('s')", "sequences", "ALTER SEQUENCE s RESTART"),
    ("SELECT lo_put(9999, 0, 'other')", "large objects", "SELECT lo_put(9999, 0, 'bytes')"),
    ("GRANT SELECT ON t TO pg_monitor", "owners and grants", "REVOKE SELECT ON t FROM pg_monitor"),
    ("DROP EXTENSION pg_trgm", "extensions", "CREATE EXTENSION pg_trgm"),
    ("DROP TABLE t", "tables", ""),
)  # fmt: skip


async def test_verify__finds_every_difference(small: Login, programs: list[Programs], tmp_path: Path) -> None:
    """A restore with the right count and a wrong row, a missing index, another default: each is named, and only it."""
    await query(small, "CREATE SEQUENCE s; CREATE EXTENSION pg_trgm; SELECT lo_from_bytea(9999, 'bytes')")
    facts = (await dumped(small, tmp_path, programs)).facts
    for harm, check, mend in HARMS:
        verification = await verify_database(small, facts, "x", rights=True)
        assert verification.passed, harm
        await query(small, harm)
        verification = await verify_database(small, facts, "x", rights=True)
        failed = {one.name for one in verification.checks if not one.passed}
        assert check in failed, harm
        with pytest.raises(VerificationFailed, match=check):
            verification.require("here")
        if mend:
            await query(small, mend)


async def test_verify__sample_of_a_large_table(small: Login, programs: list[Programs], tmp_path: Path) -> None:
    """The sample is the same rows again; a harm to all rows is found in it."""
    facts = (await dump_database(small, tmp_path / "x.dump", programs, hash_limit=100_000)).facts
    assert facts.sampled
    assert (await verify_database(small, facts, "x", rights=True)).passed
    await query(small, "UPDATE t SET n = 1")
    assert not (await verify_database(small, facts, "x", rights=True)).passed


async def test_restore__failing_half_way_leaves_live_untouched(
    small: Login, databases: Databases, programs: list[Programs], tmp_path: Path
) -> None:
    """pg_restore that meets damaged bytes, and facts that the data does not meet: nothing is left of either."""
    dump = await dumped(small, tmp_path, programs)
    content = bytearray(dump.file.read_bytes())
    content[len(content) - 60_000 : len(content) - 40_000] = b"\0" * 20_000
    broken = tmp_path / "broken.dump"
    broken.write_bytes(content)
    with pytest.raises(ServerFailed, match="pg_restore"):
        await restore_beside(small, replace(dump, file=broken), programs, utcnow())
    (table,) = dump.facts.tables
    other = dump.facts.model_copy(update={"tables": [table.model_copy(update={"content": "1"})]})
    with pytest.raises(VerificationFailed, match=r"public\.t holds other rows"):
        await restore_beside(small, replace(dump, facts=other), programs, utcnow())
    assert await databases.names(small) == {small.database}
    assert await query(small, "SELECT count(*) FROM t") == [(1000,)]


async def test_restore__flipped_and_cut_objects_are_refused_before_use(
    small: Login, databases: Databases, programs: list[Programs], catalog: Catalog
) -> None:
    """One flipped bit in the store, a cut object, another backup's object: the server never sees any of it."""
    published = await take_dump(small, "agent", catalog, programs)
    key = published.manifest.dump.blob
    good = bytes(obstore.get(catalog.store, key).bytes())
    for at in (0, len(good) // 2, len(good) - 1):
        flipped = bytearray(good)
        flipped[at] ^= 1
        await _refused(catalog, published, bytes(flipped))
    await _refused(catalog, published, good[:-1])
    await _refused(catalog, published, good + b"x")
    obstore.put(catalog.store, key, good)
    async with fetched(catalog, published.manifest) as dump:
        assert dump.file.stat().st_size == published.manifest.dump.size
    assert await databases.names(small) == {small.database}


async def test_restore__settings_are_apart_and_come_back(
    small: Login, databases: Databases, programs: list[Programs], tmp_path: Path
) -> None:
    """ALTER DATABASE … SET may hold secrets: encrypted as the dump is, not in the manifest, and there again."""
    identity = x25519.Identity.generate()
    (tmp_path / "key").write_text(str(identity))
    keyring = replace(Keyring.ephemeral(), recipients=(str(identity.to_public()),), identity_files=(tmp_path / "key",))
    catalog = Catalog(LocalStore(prefix=tmp_path / "blobs", mkdir=True), tmp_path / "s", keyring)
    await query(databases.admin, f"ALTER DATABASE {small.database} SET app.key = 'hush-hush'")
    manifest = (await take_dump(small, "agent", catalog, programs)).manifest
    assert manifest.settings is not None
    assert manifest.settings.packing[-1] == "age"
    for key in catalog.keys("dumps"):
        assert b"hush-hush" not in bytes(obstore.get(catalog.store, key).bytes())
    async with fetched(catalog, manifest) as dump:
        beside = await restore_beside(small, dump, programs, utcnow())
    assert await query(small.at(beside.name), "SHOW app.key") == [("hush-hush",)]


async def test_restore__a_database_of_somebody_is_never_swept(
    small: Login, databases: Databases, programs: list[Programs], tmp_path: Path
) -> None:
    """One that only has the name of a restore is dropped when it is empty, and left when anything is in it."""
    empty, full = (f"{small.database}-r2026010100000{n}" for n in (1, 2))
    for name in (empty, full):
        await query(databases.admin, f'CREATE DATABASE "{name}"')
    await query(small.at(full), "CREATE TABLE mine (n int)")
    beside = await restored(small, tmp_path, programs)
    assert await databases.names(small) == {small.database, full, beside.name}


async def test_restore__one_at_a_time(small: Login, programs: list[Programs], tmp_path: Path) -> None:
    """Two restores of one database do not meet."""
    dump = await dumped(small, tmp_path, programs)
    async with maintenance(small) as connection, exclusively(connection, small.database):
        with pytest.raises(Busy, match="is running"):
            await restore_beside(small, dump, programs, utcnow())


async def test_restore__cancelled_leaves_nothing(
    small: Login, databases: Databases, programs: list[Programs], tmp_path: Path
) -> None:
    """Ctrl-C while it fills: pg_restore is gone, and so is the new database."""
    dump = await dumped(small, tmp_path, programs)
    task = asyncio.create_task(
        restore_beside(small, dump, programs, utcnow(), on_progress=lambda stage, done, total: task.cancel())
    )
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await databases.names(small) == {small.database}


async def test_restore__what_the_server_lacks_is_said_first(
    small: Login, databases: Databases, programs: list[Programs], tmp_path: Path
) -> None:
    """An older server, an extension it does not have, a role of a policy: refused before anything is made."""
    dump = await dumped(small, tmp_path, programs)
    newer = dump.facts.model_copy(update={"server_major": 99})
    with pytest.raises(Refused, match="the same version or a newer one"):
        await restore_beside(small, replace(dump, facts=newer), programs, utcnow())
    postgis = dump.facts.extensions[0].model_copy(update={"name": "postgis"})
    with pytest.raises(Refused, match="no extension postgis"):
        await restore_beside(
            small, replace(dump, facts=dump.facts.model_copy(update={"extensions": [postgis]})), programs, utcnow()
        )
    role = dump.facts.roles[0].model_copy(update={"name": "nobody_here", "policies": True})
    with pytest.raises(Refused, match="name the role nobody_here"):
        await restore_beside(
            small, replace(dump, facts=dump.facts.model_copy(update={"roles": [role]})), programs, utcnow()
        )
    assert await databases.names(small) == {small.database}
