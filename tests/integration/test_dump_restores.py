"""Restores of dumps on real servers: beside the live database, verified, renamed, undone; the live one never harmed."""

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import obstore
import psycopg
import pytest
from obstore.store import LocalStore
from pyrage import x25519
from rich_database import Databases, fill, query

from reanimate.backups.catalog import Catalog, Published
from reanimate.backups.keyring import Keyring
from reanimate.clock import utcnow
from reanimate.db.embedded import EmbeddedPostgres
from reanimate.dumps.backup import take_dump
from reanimate.dumps.dump import dump_database
from reanimate.dumps.login import Login, maintenance
from reanimate.dumps.manifest import PostgresManifest
from reanimate.dumps.markers import Stage, databases_of
from reanimate.dumps.programs import Programs, find_programs
from reanimate.dumps.proof import fetched, prove_dump
from reanimate.dumps.rename import discard, give_back, take_name
from reanimate.dumps.restore import Beside, DumpToRestore, exclusively, restore_beside
from reanimate.dumps.scratch_server import throwaway_server
from reanimate.dumps.verification import verify_database
from reanimate.errors import Busy, Damaged, InputInvalid, NotFound, Refused, ServerFailed, VerificationFailed

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(scope="module")
async def found() -> list[Programs]:
    return await find_programs()


@pytest.fixture(scope="module")
async def databases(postgres: EmbeddedPostgres) -> AsyncIterator[Databases]:
    made = Databases(Login.from_url(postgres.url("postgres")))
    yield made
    await made.clean()


@pytest.fixture
async def small(databases: Databases) -> Login:
    """A database of this test's own with one table of 1000 rows."""
    return await databases.small()


async def _dump(login: Login, folder: Path, found: list[Programs]) -> DumpToRestore:
    dumped = await dump_database(login, folder / "x.dump", found)
    return DumpToRestore(dumped.file, "20261126T000000Z-x-0000", dumped.facts, int(dumped.made_by.split(".")[0]))


async def _stages(login: Login) -> list[Stage]:
    async with maintenance(login) as connection:
        return [marked.stage for marked in await databases_of(connection, login.database)]


async def _restored(login: Login, folder: Path, found: list[Programs], now: datetime | None = None) -> Beside:
    return await restore_beside(login, await _dump(login, folder, found), found, now or utcnow())


async def test_restore__everything_comes_back(databases: Databases, found: list[Programs], tmp_path: Path) -> None:
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
    dump = await _dump(login, tmp_path, found)
    beside = await restore_beside(login, dump, found, utcnow())
    assert beside.verification.passed
    assert beside.notes == ()
    assert {check.name for check in beside.verification.checks} == {
        "encoding", "extensions", "schema", "tables", "rows", "content", "sequences", "large objects",
        "owners and grants",
    }  # fmt: skip
    again = await dump_database(login.at(beside.name), tmp_path / "again.dump", found)
    assert again.facts.properties == dump.facts.properties.model_copy(
        update={"comment": again.facts.properties.comment}
    )
    assert again.facts.properties.connection_limit == 77
    assert (await verify_database(login, dump.facts, "x", rights=True)).passed
    renamed = await take_name(login, beside.name, utcnow())
    assert (renamed.database, renamed.is_now) == (login.database, beside.name)
    assert await _comment(login) == "the agent's own"
    assert await query(login, "SHOW work_mem") == [("7MB",)]


async def _comment(login: Login) -> object:
    rows = await query(
        login, "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
    )
    return rows[0][0]


@pytest.mark.parametrize(
    ("harm", "check"),
    [
        ("DELETE FROM t WHERE id = 7", "rows"),
        ("UPDATE t SET n = 1 WHERE id = 7", "content"),
        ("UPDATE t SET body = body || ' ' WHERE id = 7", "content"),
        ("ALTER TABLE t ADD COLUMN more int", "schema"),
        ("CREATE INDEX added ON t (n)", "schema"),
        ("ALTER TABLE t ALTER n SET DEFAULT 5", "schema"),
        ("CREATE TABLE other (n int)", "tables"),
        ("DROP TABLE t", "tables"),
        ("SELECT nextval('s')", "sequences"),
        ("SELECT lo_put(9999, 0, 'other')", "large objects"),
        ("GRANT SELECT ON t TO pg_monitor", "owners and grants"),
        ("DROP EXTENSION pg_trgm", "extensions"),
    ],
)
async def test_verify__finds_every_difference(
    harm: str, check: str, small: Login, found: list[Programs], tmp_path: Path
) -> None:
    """A restore with the right count and a wrong row, a missing index, another default: each is named."""
    await query(small, "CREATE SEQUENCE s; CREATE EXTENSION pg_trgm; SELECT lo_from_bytea(9999, 'bytes')")
    facts = (await _dump(small, tmp_path, found)).facts
    assert (await verify_database(small, facts, "x", rights=True)).passed
    await query(small, harm)
    verification = await verify_database(small, facts, "x", rights=True)
    failed = {one.name for one in verification.checks if not one.passed}
    assert check in failed
    with pytest.raises(VerificationFailed, match=check):
        verification.require("here")


async def test_verify__sample_of_a_large_table(small: Login, found: list[Programs], tmp_path: Path) -> None:
    """The sample is the same rows again; a harm to all rows is found in it."""
    facts = (await dump_database(small, tmp_path / "x.dump", found, hash_limit=100_000)).facts
    assert facts.sampled
    assert (await verify_database(small, facts, "x", rights=True)).passed
    await query(small, "UPDATE t SET n = 1")
    assert not (await verify_database(small, facts, "x", rights=True)).passed


async def test_restore__failing_half_way_leaves_live_untouched(
    small: Login, databases: Databases, found: list[Programs], tmp_path: Path
) -> None:
    """pg_restore that meets damaged bytes, and facts that the data does not meet: nothing is left of either."""
    dump = await _dump(small, tmp_path, found)
    content = bytearray(dump.file.read_bytes())
    content[len(content) - 60_000 : len(content) - 40_000] = b"\0" * 20_000
    broken = tmp_path / "broken.dump"
    broken.write_bytes(content)
    with pytest.raises(ServerFailed, match="pg_restore"):
        await restore_beside(small, replace(dump, file=broken), found, utcnow())
    (table,) = dump.facts.tables
    other = dump.facts.model_copy(update={"tables": [table.model_copy(update={"content": "1"})]})
    with pytest.raises(VerificationFailed, match=r"public\.t holds other rows"):
        await restore_beside(small, replace(dump, facts=other), found, utcnow())
    assert await databases.names(small) == {small.database}
    assert await query(small, "SELECT count(*) FROM t") == [(1000,)]


async def test_restore__flipped_and_cut_objects_are_refused_before_use(
    small: Login, databases: Databases, found: list[Programs], catalog: Catalog
) -> None:
    """One flipped bit in the store, a cut object, another backup's object: the server never sees any of it."""
    published = await take_dump(small, "agent", catalog, found)
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


async def _refused(catalog: Catalog, published: Published[PostgresManifest], content: bytes) -> None:
    obstore.put(catalog.store, published.manifest.dump.blob, content)
    with pytest.raises(Damaged):
        async with fetched(catalog, published.manifest):
            pytest.fail("a damaged dump was given out")


async def test_switch__connected_clients(small: Login, found: list[Programs], tmp_path: Path) -> None:
    """With sessions there nothing is renamed, unless they are to be ended; who reconnects meets the restored one."""
    beside = await _restored(small, tmp_path, found)
    await query(small, "UPDATE t SET n = 99")
    async with small.connect() as client:
        with pytest.raises(Refused, match=r"1 session\(s\) are connected: reanimate as reanimate"):
            await take_name(small, beside.name, utcnow())
        assert await query(small, "SELECT min(n) FROM t") == [(99,)]
        renamed = await take_name(small, beside.name, utcnow(), end_sessions=True)
        assert renamed.ended >= 1
        with pytest.raises(psycopg.OperationalError):
            await client.execute("SELECT 1")
        await client.close()
    assert await query(small, "SELECT min(n) FROM t") == [(0,)]
    assert renamed.kept
    assert await query(small.at(renamed.kept), "SELECT min(n) FROM t") == [(99,)]


async def test_switch__clients_that_never_stop(small: Login, found: list[Programs], tmp_path: Path) -> None:
    """Clients that reconnect all the time are ended, held off, and then all in the restored database."""
    beside = await _restored(small, tmp_path, found)
    await query(small, "UPDATE t SET n = 99")
    stop = asyncio.Event()
    seen: list[object] = []

    async def client() -> None:
        while not stop.is_set():
            try:
                async with small.connect() as connection:
                    while not stop.is_set():
                        row = await (await connection.execute("SELECT min(n) FROM t")).fetchone()
                        seen.append(row[0] if row else None)
                        await asyncio.sleep(0.01)
            except Exception:  # noqa: BLE001 - whatever it met, it comes back
                await asyncio.sleep(0.01)

    clients = [asyncio.create_task(client()) for _ in range(5)]
    await asyncio.sleep(0.3)
    renamed = await take_name(small, beside.name, utcnow(), end_sessions=True)
    await asyncio.sleep(0.5)
    stop.set()
    await asyncio.gather(*clients)
    assert renamed.ended >= 5
    first = seen.index(0)
    assert set(seen[:first]) == {99}
    assert set(seen[first + 10 :]) == {0}


async def test_switch__undo_and_discard(
    small: Login, databases: Databases, found: list[Programs], tmp_path: Path
) -> None:
    """Undo renames back, both stay, and only what a restore made or set aside can be dropped."""
    await query(databases.admin, f"COMMENT ON DATABASE {small.database} IS 'before'")
    beside = await _restored(small, tmp_path, found)
    await query(small, "UPDATE t SET n = 99")
    renamed = await take_name(small, beside.name, utcnow())
    assert await _stages(small) == [Stage.KEPT]
    back = await give_back(small, utcnow())
    assert back.is_now == renamed.kept
    assert await query(small, "SELECT min(n) FROM t") == [(99,)]
    assert await _comment(small) == "before"
    assert await _stages(small) == [Stage.UNDONE]
    with pytest.raises(NotFound, match="no database is kept"):
        await give_back(small, utcnow())
    with pytest.raises(NotFound):
        await discard(small, small.database)
    assert back.kept is not None
    await discard(small, back.kept)
    assert await databases.names(small) == {small.database}


async def test_switch__live_is_gone(small: Login, databases: Databases, found: list[Programs], tmp_path: Path) -> None:
    """Somebody dropped the live database: the restore takes its name, and there is nothing to keep."""
    dump = await _dump(small, tmp_path, found)
    await query(databases.admin, f"DROP DATABASE {small.database}")
    beside = await restore_beside(small, dump, found, utcnow())
    renamed = await take_name(small, beside.name, utcnow())
    assert renamed.kept is None
    assert await query(small, "SELECT count(*) FROM t") == [(1000,)]


async def test_switch__unfinished_or_foreign_is_refused(
    small: Login, databases: Databases, found: list[Programs], tmp_path: Path
) -> None:
    """Neither a database that a killed restore left nor somebody else's takes the live name."""
    stray = f"{small.database}-r20260101000000"
    await query(databases.admin, f'CREATE DATABASE "{stray}"')
    with pytest.raises(InputInvalid, match="is restoring"):
        await take_name(small, stray, utcnow())
    with pytest.raises(NotFound):
        await take_name(small, "postgres", utcnow())


async def test_switch__prepared_transaction_is_told(
    postgres_server: EmbeddedPostgres, found: list[Programs], tmp_path: Path
) -> None:
    """A prepared transaction would make the rename fail: it is named instead."""
    admin = Login.from_url(postgres_server.url("postgres"))
    await query(admin, "ALTER SYSTEM SET max_prepared_transactions = 5")
    postgres_server.stop()
    postgres_server.start()
    small = await Databases(admin).small(10)
    beside = await _restored(small, tmp_path, found)
    async with small.connect() as connection:
        await connection.execute("BEGIN")
        await connection.execute("UPDATE t SET n = 1")
        await connection.execute("PREPARE TRANSACTION 'half done'")
    with pytest.raises(Refused, match="prepared transactions are open: half done"):
        await take_name(small, beside.name, utcnow(), end_sessions=True)
    await query(small, "ROLLBACK PREPARED 'half done'")
    await take_name(small, beside.name, utcnow())


async def test_restore__settings_are_apart_and_come_back(
    small: Login, databases: Databases, found: list[Programs], tmp_path: Path
) -> None:
    """ALTER DATABASE … SET may hold secrets: encrypted as the dump is, not in the manifest, and there again."""
    identity = x25519.Identity.generate()
    (tmp_path / "key").write_text(str(identity))
    keyring = replace(Keyring.ephemeral(), recipients=(str(identity.to_public()),), identity_files=(tmp_path / "key",))
    catalog = Catalog(LocalStore(prefix=tmp_path / "blobs", mkdir=True), tmp_path / "s", keyring)
    await query(databases.admin, f"ALTER DATABASE {small.database} SET app.key = 'hush-hush'")
    manifest = (await take_dump(small, "agent", catalog, found)).manifest
    assert manifest.settings is not None
    assert manifest.settings.packing[-1] == "age"
    for key in catalog.keys("dumps"):
        assert b"hush-hush" not in bytes(obstore.get(catalog.store, key).bytes())
    async with fetched(catalog, manifest) as dump:
        beside = await restore_beside(small, dump, found, utcnow())
    assert await query(small.at(beside.name), "SHOW app.key") == [("hush-hush",)]


async def test_restore__a_database_of_somebody_is_never_swept(
    small: Login, databases: Databases, found: list[Programs], tmp_path: Path
) -> None:
    """One that only has the name of a restore is dropped when it is empty, and left when anything is in it."""
    empty, full = (f"{small.database}-r2026010100000{n}" for n in (1, 2))
    for name in (empty, full):
        await query(databases.admin, f'CREATE DATABASE "{name}"')
    await query(small.at(full), "CREATE TABLE mine (n int)")
    beside = await _restored(small, tmp_path, found)
    assert await databases.names(small) == {small.database, full, beside.name}


async def test_restore__without_a_public_schema_and_with_rare_objects(
    small: Login, found: list[Programs], catalog: Catalog
) -> None:
    """No schema public, a publication, an event trigger, a foreign server with a user mapping: proven all the same."""
    for statement in (
        "CREATE SCHEMA app; ALTER TABLE t SET SCHEMA app; DROP SCHEMA public",
        "CREATE PUBLICATION everything FOR TABLE app.t",
        "CREATE FUNCTION app.look() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE EVENT TRIGGER looks ON ddl_command_end EXECUTE FUNCTION app.look()",
        "CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing",
        "CREATE USER MAPPING FOR pg_monitor SERVER elsewhere",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO pg_monitor",
        "CREATE TABLE app.emails (e varchar(20) CHECK (e IN ('a', 'b') AND e <> 'c d'), UNIQUE NULLS NOT DISTINCT (e))",
        "CREATE VIEW app.v AS SELECT * FROM app.emails WHERE e IN ('a', 'b') OR lower(e) LIKE 'x%'",
    ):
        await query(small, statement)
    manifest = (await take_dump(small, "agent", catalog, found)).manifest
    assert any(role.name == "pg_monitor" and role.policies for role in manifest.facts.roles)
    verification = await prove_dump(catalog, manifest, found)
    assert [check for check in verification.checks if not check.passed] == []


async def test_restore__one_at_a_time(small: Login, found: list[Programs], tmp_path: Path) -> None:
    """Two restores of one database do not meet."""
    dump = await _dump(small, tmp_path, found)
    async with maintenance(small) as connection, exclusively(connection, small.database):
        with pytest.raises(Busy, match="is running"):
            await restore_beside(small, dump, found, utcnow())


async def test_restore__cancelled_leaves_nothing(
    small: Login, databases: Databases, found: list[Programs], tmp_path: Path
) -> None:
    """Ctrl-C while it fills: pg_restore is gone, and so is the new database."""
    dump = await _dump(small, tmp_path, found)
    task = asyncio.create_task(
        restore_beside(small, dump, found, utcnow(), on_progress=lambda stage, done, total: task.cancel())
    )
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await databases.names(small) == {small.database}


@pytest.mark.parametrize("stage", ["restore", "analyze", "verify", "switch"])
async def test_restore__we_are_killed(
    stage: str, small: Login, databases: Databases, found: list[Programs], tmp_path: Path
) -> None:
    """SIGKILL in each stage: the live database is as it was, and the same again sweeps up and succeeds."""
    dump = await _dump(small, tmp_path, found)
    (tmp_path / "facts.json").write_text(dump.facts.model_dump_json())
    script = textwrap.dedent(f"""
        import asyncio, os, signal, sys
        from pathlib import Path
        from reanimate.clock import utcnow
        from reanimate.dumps import rename
        from reanimate.dumps.facts import DatabaseFacts
        from reanimate.dumps.login import Login
        from reanimate.dumps.programs import find_programs
        from reanimate.dumps.restore import DumpToRestore, restore_beside

        def die(stage, done, total):
            if stage == {stage!r}:
                os.kill(os.getpid(), signal.SIGKILL)

        async def die_in_the_rename(connection, name, comment):
            os.kill(os.getpid(), signal.SIGKILL)

        async def main():
            folder = Path({str(tmp_path)!r})
            facts = DatabaseFacts.model_validate_json((folder / "facts.json").read_text())
            dump = DumpToRestore(folder / "x.dump", "20261126T000000Z-x-0000", facts, {dump.made_by_major})
            login = Login.from_url(sys.stdin.read())
            beside = await restore_beside(login, dump, await find_programs(), utcnow(), on_progress=die)
            rename.unmark = die_in_the_rename
            await rename.take_name(login, beside.name, utcnow())

        asyncio.run(main())
    """)
    url = f"postgresql://reanimate:{small.environment['PGPASSWORD']}@{small.where}/{small.database}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdin=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    await process.communicate(url.encode())
    assert process.returncode == -signal.SIGKILL
    assert await query(small, "SELECT count(*) FROM t") == [(1000,)]
    left = await _stages(small)
    assert left == [Stage.RESTORED if stage == "switch" else Stage.RESTORING]
    for attempt in range(50):
        try:
            beside = await restore_beside(small, dump, found, utcnow() + timedelta(seconds=5))
            break
        except Busy:  # the server notices the killed session within moments
            assert attempt < 49
            await asyncio.sleep(0.1)
    expected = [Stage.RESTORED] * (2 if stage == "switch" else 1)
    assert await _stages(small) == expected
    await take_name(small, beside.name, utcnow())
    assert await query(small, "SELECT count(*) FROM t") == [(1000,)]


async def test_restore__roles_that_are_not_there(databases: Databases, found: list[Programs], tmp_path: Path) -> None:
    """Without the roles everything belongs to us and it is said; with --create-roles owners and grants are whole."""
    for role in ("dumps_owner", "dumps_reader"):
        await query(databases.admin, f"CREATE ROLE {role}")
    login = await databases.small(10)
    await query(login, "ALTER TABLE t OWNER TO dumps_owner; GRANT SELECT ON t TO dumps_reader")
    whole = await _dump(login, tmp_path, found)
    async with throwaway_server(tmp_path / "s") as admin:
        other = admin.at("moved")
        beside = await restore_beside(other, whole, found, utcnow())
        assert "it cannot be given to dumps_owner" in beside.notes[0]
        assert "dumps_reader" in beside.notes[1]
        assert "owners and grants" not in {check.name for check in beside.verification.checks}
        made = await restore_beside(other, whole, found, utcnow() + timedelta(seconds=5), make_roles=True)
        assert made.notes == ()
        owner = await query(other.at(made.name), "SELECT tableowner::text FROM pg_tables WHERE tablename = 't'")
        assert owner == [("dumps_owner",)]


async def test_restore__what_the_server_lacks_is_said_first(
    small: Login, databases: Databases, found: list[Programs], tmp_path: Path
) -> None:
    """An older server, an extension it does not have, a role of a policy: refused before anything is made."""
    dump = await _dump(small, tmp_path, found)
    newer = dump.facts.model_copy(update={"server_major": 99})
    with pytest.raises(Refused, match="the same version or a newer one"):
        await restore_beside(small, replace(dump, facts=newer), found, utcnow())
    postgis = dump.facts.extensions[0].model_copy(update={"name": "postgis"})
    with pytest.raises(Refused, match="no extension postgis"):
        await restore_beside(
            small, replace(dump, facts=dump.facts.model_copy(update={"extensions": [postgis]})), found, utcnow()
        )
    role = dump.facts.roles[0].model_copy(update={"name": "nobody_here", "policies": True})
    with pytest.raises(Refused, match="name the role nobody_here"):
        await restore_beside(
            small, replace(dump, facts=dump.facts.model_copy(update={"roles": [role]})), found, utcnow()
        )
    assert await databases.names(small) == {small.database}


async def test_proof__on_a_throwaway_server(
    small: Login, databases: Databases, found: list[Programs], catalog: Catalog
) -> None:
    """A proof passes, finds a manifest that promises other rows, and leaves neither server nor files."""
    manifest = (await take_dump(small, "agent", catalog, found)).manifest
    verification = await prove_dump(catalog, manifest, found)
    assert verification.passed
    assert verification.database == small.database
    (table,) = manifest.facts.tables
    facts = manifest.facts.model_copy(update={"tables": [table.model_copy(update={"content": "1"})]})
    wrong = await prove_dump(catalog, manifest.model_copy(update={"facts": facts}), found)
    assert [check.name for check in wrong.checks if not check.passed] == ["content"]
    configured = await prove_dump(catalog, manifest, found, server=databases.admin)
    assert configured.passed
    assert await databases.names(databases.admin.at("proof-")) == set()
    assert list(catalog.scratch.iterdir()) == []


@pytest.mark.skipif(not DEBIAN_15.exists(), reason="postgresql-15 is not installed")
async def test_restore__between_versions(found: list[Programs], tmp_path: Path) -> None:
    """From 15 into 15 with either version's programs, into 18 too; never back from 18 into 15."""
    async with throwaway_server(tmp_path / "a", DEBIAN_15) as old, throwaway_server(tmp_path / "b") as new:
        login = await Databases(old).make("moving")
        await fill(login, vectors=False)
        newest = [one for one in found if one.major >= 18]
        for programs in (found, newest):
            dump = await _dump(login, tmp_path, programs)
            assert dump.made_by_major == min(one.major for one in programs)
            assert (await restore_beside(login, dump, programs, utcnow())).verification.passed
            assert (await restore_beside(new.at("moving"), dump, programs, utcnow())).verification.passed
            await asyncio.sleep(1)  # names carry seconds
        up = await _dump(await Databases(new).small(10), tmp_path, found)
        with pytest.raises(Refused, match="of Postgres 18, and the server is 15"):
            await restore_beside(old.at("x"), up, found, utcnow())


async def test_proof__killed_leaves_no_server(small: Login, found: list[Programs], tmp_path: Path) -> None:
    """SIGKILL while a dump is tried: its throwaway server ends with us, and the next one sweeps its folder."""
    catalog = Catalog(LocalStore(prefix=tmp_path / "blobs", mkdir=True), tmp_path / "s")
    await take_dump(small, "agent", catalog, found)
    script = textwrap.dedent(f"""
        import asyncio, os, signal
        from pathlib import Path
        from reanimate.dumps.scratch_server import throwaway_server

        async def main():
            async with throwaway_server(Path({str(tmp_path / "s")!r})) as login:
                os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
    """)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, cwd=Path(__file__).parents[2])
    assert await process.wait() == -signal.SIGKILL
    (folder,) = (tmp_path / "s").iterdir()
    pid = int((folder / "pg" / "postmaster.pid").read_text().split("\n", 1)[0])
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            break
        await asyncio.sleep(0.05)
    else:
        os.kill(pid, signal.SIGKILL)
        pytest.fail("the throwaway server lives on")
    async with throwaway_server(tmp_path / "s"):
        assert not folder.exists()
