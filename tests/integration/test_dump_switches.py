"""A restored database takes the live one's name and gives it back, with clients connected and not."""

import asyncio
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from rich_database import Databases, comment, dumped, query, restored, stages

from reanimate.clock import utcnow
from reanimate.db.embedded import EmbeddedPostgres
from reanimate.dumps.login import Login
from reanimate.dumps.markers import Stage
from reanimate.dumps.programs import Programs
from reanimate.dumps.rename import discard, give_back, take_name
from reanimate.dumps.restore import restore_beside
from reanimate.errors import InputInvalid, NotFound, Refused


async def test_switch__connected_clients(small: Login, programs: list[Programs], tmp_path: Path) -> None:
    """With sessions there nothing is renamed, unless they are to be ended; who reconnects meets the restored one."""
    beside = await restored(small, tmp_path, programs)
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


async def test_switch__clients_that_never_stop(small: Login, programs: list[Programs], tmp_path: Path) -> None:
    """Clients that reconnect all the time are ended, held off, and then all in the restored database."""
    beside = await restored(small, tmp_path, programs)
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
    small: Login, databases: Databases, programs: list[Programs], tmp_path: Path
) -> None:
    """Undo renames back, both stay, and only what a restore made or set aside can be dropped."""
    await query(databases.admin, f"COMMENT ON DATABASE {small.database} IS 'before'")
    beside = await restored(small, tmp_path, programs)
    await query(small, "UPDATE t SET n = 99")
    renamed = await take_name(small, beside.name, utcnow())
    assert await stages(small) == [Stage.KEPT]
    back = await give_back(small, utcnow())
    assert back.is_now == renamed.kept
    assert await query(small, "SELECT min(n) FROM t") == [(99,)]
    assert await comment(small) == "before"
    assert await stages(small) == [Stage.UNDONE]
    with pytest.raises(NotFound, match="no database is kept"):
        await give_back(small, utcnow())
    with pytest.raises(NotFound):
        await discard(small, small.database)
    assert back.kept is not None
    await discard(small, back.kept)
    assert await databases.names(small) == {small.database}


async def test_switch__live_gone(small: Login, databases: Databases, programs: list[Programs], tmp_path: Path) -> None:
    """Somebody dropped the live database: the restore takes its name, and there is nothing to keep."""
    dump = await dumped(small, tmp_path, programs)
    await query(databases.admin, f"DROP DATABASE {small.database}")
    beside = await restore_beside(small, dump, programs, utcnow())
    renamed = await take_name(small, beside.name, utcnow())
    assert renamed.kept is None
    assert await query(small, "SELECT count(*) FROM t") == [(1000,)]


async def test_switch__unfinished_or_foreign_is_refused(
    small: Login, databases: Databases, programs: list[Programs], tmp_path: Path
) -> None:
    """Neither a database that a killed restore left nor somebody else's takes the live name."""
    stray = f"{small.database}-r20260101000000"
    await query(databases.admin, f'CREATE DATABASE "{stray}"')
    with pytest.raises(InputInvalid, match="is restoring"):
        await take_name(small, stray, utcnow())
    with pytest.raises(NotFound):
        await take_name(small, "postgres", utcnow())


async def test_switch__prepared_transaction_is_told(
    postgres_server: EmbeddedPostgres, programs: list[Programs], tmp_path: Path
) -> None:
    """A prepared transaction would make the rename fail: it is named instead."""
    admin = Login.from_url(postgres_server.url("postgres"))
    await query(admin, "ALTER SYSTEM SET max_prepared_transactions = 5")
    postgres_server.stop()
    postgres_server.start()
    small = await Databases(admin).small(10)
    beside = await restored(small, tmp_path, programs)
    async with small.connect() as connection:
        await connection.execute("BEGIN")
        await connection.execute("UPDATE t SET n = 1")
        await connection.execute("PREPARE TRANSACTION 'half done'")
    with pytest.raises(Refused, match="prepared transactions are open: half done"):
        await take_name(small, beside.name, utcnow(), end_sessions=True)
    await query(small, "ROLLBACK PREPARED 'half done'")
    await take_name(small, beside.name, utcnow())


async def test_switch__by_an_ordinary_user(databases: Databases, programs: list[Programs], tmp_path: Path) -> None:
    """A user who is no superuser, but owns the database and may make others, can do all of it."""
    await query(databases.admin, "CREATE ROLE dumps_app LOGIN CREATEDB PASSWORD 'app'")
    made = await databases.make()
    await query(databases.admin, f"ALTER DATABASE {made.database} OWNER TO dumps_app")
    app = Login.from_url(f"postgresql://dumps_app:app@{made.where}/{made.database}")
    await query(app, "CREATE SCHEMA app; CREATE TABLE app.t (id serial PRIMARY KEY, n int DEFAULT 0)")
    await query(app, "INSERT INTO app.t SELECT FROM generate_series(1, 50); CREATE EXTENSION pg_trgm")
    await query(app, f"ALTER DATABASE {made.database} SET work_mem = '9MB'")
    beside = await restored(app, tmp_path, programs)
    assert beside.notes == ()
    assert "owners and grants" in {check.name for check in beside.verification.checks}
    await query(app, "DELETE FROM app.t")
    async with app.connect():
        await take_name(app, beside.name, utcnow(), end_sessions=True)
    assert await query(app, "SELECT count(*) FROM app.t") == [(50,)]
    assert await query(app, "SHOW work_mem") == [("9MB",)]
    await give_back(app, utcnow())
    assert await query(app, "SELECT count(*) FROM app.t") == [(0,)]


async def test_switch__twice_within_one_second(small: Login, programs: list[Programs], tmp_path: Path) -> None:
    """Names carry seconds; a second restore and undo in the same one takes the next name instead of failing."""
    now = utcnow()
    dump = await dumped(small, tmp_path, programs)
    asides = set()
    for moment in (now, now + timedelta(seconds=1)):
        beside = await restore_beside(small, dump, programs, moment)
        kept = (await take_name(small, beside.name, now)).kept
        undone = (await give_back(small, now)).kept
        assert kept
        assert undone
        asides |= {kept, undone}
    assert len(asides) >= 3
