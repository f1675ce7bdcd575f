"""`reanimate backup postgres …` and `reanimate restore postgres …` on real servers."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from page_server import open_record
from rich_database import Databases, query
from sqlalchemy import select
from typer.testing import CliRunner, Result

from reanimate.addresses import Addresses
from reanimate.bootstrap import Services
from reanimate.cli import app
from reanimate.db.embedded import EmbeddedPostgres, create_database
from reanimate.db.migrate import migrate
from reanimate.db.tables import Backup, Restore
from reanimate.db.url import without_password
from reanimate.dumps.login import Login
from reanimate.secrets import Secrets

Run = Callable[..., Awaitable[Result]]


@pytest.fixture(scope="module")
async def agent(databases: Databases) -> Login:
    return await databases.small(500)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
async def services(home: Path, postgres_url: str) -> AsyncIterator[Services]:
    async with open_record(home, postgres_url) as services:
        yield services


def _url(login: Login) -> str:
    return f"postgresql://reanimate:{login.environment['PGPASSWORD']}@{login.where}/{login.database}"


@pytest.fixture(scope="module")
def reanimate(home: Path, services: Services, postgres_url: str, agent: Login) -> Run:
    """Run `reanimate` with arguments, as a person would."""
    known = json.dumps([{"name": "agent", "url": _url(agent)}, {"name": "gone", "url": _url(agent.at("gone"))}])

    async def run(*arguments: str) -> Result:
        return await _run(home, {"DATABASE_URL": postgres_url, "REANIMATE_POSTGRES__DATABASES": known}, *arguments)

    return run


async def _run(home: Path, environment: dict[str, str], *arguments: str) -> Result:
    """Run the command in a thread, with a loop of its own as in a process of its own."""
    runner = CliRunner(env={"REANIMATE_HOME": str(home), "COLUMNS": "160", **environment})
    return await asyncio.to_thread(runner.invoke, app, arguments)


async def test_commands__from_backup_to_undo(reanimate: Run, agent: Login, services: Services) -> None:
    """A backup, its list, a plan, a restore with the rename, and the way back; each in JSON and on record."""
    (taken,) = json.loads((await reanimate("backup", "postgres", "run", "agent", "--json")).stdout)
    assert (taken["name"], taken["rows"], taken["tables"], taken["state"]) == ("agent", 500, 1, "published")
    assert [one["id"] for one in json.loads((await reanimate("backup", "postgres", "list", "--json")).stdout)] == [
        taken["id"]
    ]
    assert (
        json.loads((await reanimate("backup", "postgres", "show", taken["id"], "--json")).stdout)["kind"] == "postgres"
    )
    async with services.sessions() as session:
        row = await session.get(Backup, taken["id"])
        assert row is not None
        assert (row.kind, row.state, row.subject, row.trigger) == ("postgres", "published", "agent", "command")

    await query(agent, "DELETE FROM t WHERE id > 100")
    plan = json.loads((await reanimate("restore", "postgres", "plan", "--database", "agent", "--json")).stdout)
    assert (plan["backup_id"], plan["rows"], plan["database"]) == (taken["id"], 500, agent.database)
    dry = await reanimate("restore", "postgres", "run", "--database", "agent", "--dry-run")
    assert "goes on untouched" in dry.stdout
    assert "has not been proven yet" in dry.stderr
    done = json.loads((await reanimate("restore", "postgres", "run", "--database", "agent", "--json")).stdout)
    assert (done["state"], done["verification"]["passed"]) == ("switched", True)
    assert (done["name"], done["renamed"]["kept"]) == (done["plan"]["new_name"], done["plan"]["kept_name"])
    assert await query(agent, "SELECT count(*) FROM t") == [(500,)]
    async with services.sessions() as session:
        restore = (await session.execute(select(Restore).where(Restore.kind == "postgres"))).scalar_one()
        assert (restore.state, restore.backup_id, restore.new_name) == ("done", taken["id"], done["name"])

    would = json.loads(
        (await reanimate("restore", "postgres", "undo", "--database", "agent", "--dry-run", "--json")).stdout
    )
    assert would["name"] == done["renamed"]["kept"]
    back = json.loads((await reanimate("restore", "postgres", "undo", "--database", "agent", "--json")).stdout)
    assert back["is_now"] == done["renamed"]["kept"]
    assert await query(agent, "SELECT count(*) FROM t") == [(100,)]
    plan = json.loads((await reanimate("restore", "postgres", "plan", "--database", "agent", "--json")).stdout)
    assert plan["took_last_s"] > 0
    dropped = await reanimate("restore", "postgres", "discard", "--database", "agent", "--name", back["kept"], "--json")
    assert json.loads(dropped.stdout)["dropped"] is True


async def test_commands__connected_agent_is_left_alone(reanimate: Run, agent: Login) -> None:
    """While the agent is connected the restore stands beside, exit 1 says so, and `switch` does the rest later."""
    await reanimate("backup", "postgres", "run", "agent")
    async with agent.connect():
        beside = await reanimate("restore", "postgres", "run", "--database", "agent", "--json")
        assert beside.exit_code == 1
        outcome = json.loads(beside.stdout)
        assert (outcome["state"], outcome["renamed"]) == ("beside", None)
        assert "1 session(s) are connected" in outcome["why_not"]
    switched = await reanimate("restore", "postgres", "switch", "--database", "agent", "--json")
    assert json.loads(switched.stdout)["is_now"] == outcome["name"]


async def test_commands__one_that_fails_does_not_keep_the_others(reanimate: Run) -> None:
    """--all takes the agent's and our own; the one that is not there is told, and the exit code says it."""
    done = await reanimate("backup", "postgres", "run", "--all", "--json")
    assert done.exit_code == 1
    states = {one["name"]: one["state"] for one in json.loads(done.stdout)}
    assert states == {"agent": "published", "record": "published", "gone": "failed"}
    assert "does not exist" in done.stderr
    assert "Traceback" not in done.stderr


async def test_commands__the_record_while_the_system_runs(reanimate: Run, services: Services) -> None:
    """Our own record is never renamed under the running system: the restore stands beside, and what to do is said."""
    async with services.sessions() as session:
        await session.get(Backup, "nothing")  # the system is connected
        done = await reanimate("restore", "postgres", "run", "--database", "record")
    assert done.exit_code == 0
    for words in ("not switched", "session(s) are connected", "reanimate down", "in DATABASE_URL"):
        assert words in done.stdout


async def test_commands__proof_and_errors(reanimate: Run) -> None:
    """A proof is marked beside the backup and chosen by; what is wrong with the arguments is one line."""
    newest = json.loads((await reanimate("backup", "postgres", "list", "agent", "--json")).stdout)[0]
    unproven = await reanimate("restore", "postgres", "plan", "--database", "agent", "--newest-proven")
    assert "not proven" in unproven.stderr
    assert (await reanimate("prove", "--backup", newest["id"])).exit_code == 0
    proven = await reanimate("restore", "postgres", "plan", "--database", "agent", "--newest-proven", "--json")
    plan = json.loads(proven.stdout)
    assert plan["backup_id"] == newest["id"]
    assert plan["proven_at"]
    for arguments, said in (
        (("backup", "postgres", "run"), "name the databases to back up, or give --all"),
        (("backup", "postgres", "run", "nobody"), "no database is called 'nobody'"),
        (("restore", "postgres", "plan", "--database", "gone"), "no backup of database 'gone' can be restored"),
        (("restore", "postgres", "plan", "--database", "gone", "--backup", newest["id"]), "of another database, agent"),
        (("restore", "postgres", "undo", "--database", "record"), "no database is kept"),
    ):
        wrong = await reanimate(*arguments)
        assert wrong.exit_code == 1
        assert said in wrong.stderr
        assert "Traceback" not in wrong.stderr


@pytest.fixture
def own_home(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[tuple[Path, EmbeddedPostgres]]:
    """A home directory with our own database server in it, as `reanimate up` makes it, running."""
    secrets = Secrets.load_or_create(tmp_path)
    server = EmbeddedPostgres(tmp_path / "postgres", free_port(), secrets.postgres_password, sync=False)
    server.start()
    create_database(server.url("postgres"), "reanimate")
    web = "http://127.0.0.1:1"
    Addresses(web, web, web, web, web, web, database=without_password(server.url("reanimate"))).save(tmp_path)
    yield tmp_path, server
    server.stop()


async def test_commands__the_record_while_the_system_is_down(own_home: tuple[Path, EmbeddedPostgres]) -> None:
    """Our own record is restored and renamed with nothing running: its server is started for that, and stopped."""
    home, server = own_home
    await migrate(server.url("reanimate"))
    record = Login.from_url(server.url("reanimate"))
    await query(record, "INSERT INTO gateways (name, control_url, last_seen_at, acked_seq) VALUES ('g', 'u', now(), 1)")
    assert (await _run(home, {}, "backup", "postgres", "run", "record")).exit_code == 0
    await query(record, "DELETE FROM gateways")
    server.stop()
    done = await _run(home, {}, "restore", "postgres", "run", "--database", "record", "--json")
    assert json.loads(done.stdout)["state"] == "switched"
    assert server.running_pid() is None
    server.start()
    assert await query(record, "SELECT name FROM gateways") == [("g",)]
