"""One moment of a database: a snapshot that the dump and every fact are read in, with the tables held in place."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg
from psycopg import AsyncConnection
from psycopg.sql import SQL

from reanimate.dumps.content import TableToRead, prepare, tables_to_read
from reanimate.dumps.login import Login
from reanimate.errors import Busy, ConfigInvalid

__all__ = ["OLDEST", "Snapshot", "open_snapshot"]

OLDEST = 13

_ATTEMPTS = 5
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"


@dataclass(frozen=True)
class Snapshot:
    """An open transaction, the name by which other sessions join it, and the tables in it, each locked against DDL."""

    connection: AsyncConnection
    name: str
    server_major: int
    server_version: str
    tables: tuple[TableToRead, ...]


@asynccontextmanager
async def open_snapshot(login: Login) -> AsyncIterator[Snapshot]:
    """Open a snapshot for the block.

    The tables are locked (ACCESS SHARE, which stops no reader and no writer) before the snapshot is taken, not after:
    a TRUNCATE in between would show them empty in it. If tables came or went meanwhile, it is begun again.

    Raises:
        ConfigInvalid: the server is too old.
        Busy: somebody holds a table for longer than half a minute, or tables come and go all the time.
        ReanimateError: as `Login.connect`.
    """
    async with login.connect() as connection:
        major = connection.info.server_version // 10000
        if major < OLDEST:
            raise ConfigInvalid(
                f"database {login.database!r} is on a server of Postgres {major}", hint=f"{OLDEST} or newer is needed"
            )
        await prepare(connection)
        for attempt in range(_ATTEMPTS):
            if (snapshot := await _begin(connection, login, major)) is not None:
                yield snapshot
                return
            await asyncio.sleep(0.2 * attempt)
        raise Busy(
            f"backing up database {login.database!r}: tables are made or dropped all the time",
            hint="try again at a quieter moment",
        )


async def _begin(connection: AsyncConnection, login: Login, major: int) -> Snapshot | None:
    tables = await tables_to_read(connection)
    await connection.execute(_BEGIN)
    try:
        if tables:
            names = SQL(", ").join(table.identifier for table in tables)
            await connection.execute(SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names))
        row = await (
            await connection.execute("SELECT pg_export_snapshot(), current_setting('server_version')")
        ).fetchone()
        assert row is not None
        if {table.oid for table in await tables_to_read(connection)} == {table.oid for table in tables}:
            return Snapshot(connection, row[0], major, str(row[1]).split()[0], tuple(tables))
    except psycopg.errors.UndefinedTable:
        pass  # dropped between the look and the lock
    await connection.execute("ROLLBACK")
    return None
