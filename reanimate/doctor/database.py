"""Findings about the record's database: reachable, version, rights, clock."""

from collections.abc import AsyncIterator

import psycopg

from reanimate.clock import utcnow
from reanimate.doctor.finding import Finding, clock_finding, fail, ok
from reanimate.supervisor.databases import OLDEST_POSTGRES

__all__ = ["database_findings"]


async def database_findings(url: str, prefect_database: str | None) -> AsyncIterator[Finding]:
    """Yield findings about the database at `url`, and about Prefect's beside it unless None."""
    plain = url.replace("postgresql+psycopg://", "postgresql://", 1)
    try:
        connection = await psycopg.AsyncConnection.connect(plain, autocommit=True, connect_timeout=5)
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        yield fail("database", f"not reachable: {reason}", "check DATABASE_URL, the server, and its pg_hba.conf")
        return
    async with connection:
        yield _version(connection.info.server_version // 10000)
        yield await _rights(connection)
        if prefect_database is not None:
            yield await _room_for_prefect(connection, prefect_database)
        yield await _clock(connection)


def _version(major: int) -> Finding:
    if major < OLDEST_POSTGRES:
        return fail("database", f"Postgres {major}", f"use Postgres {OLDEST_POSTGRES} or newer")
    return ok("database", f"reachable, Postgres {major}")


async def _rights(connection: psycopg.AsyncConnection) -> Finding:
    allowed = await _value(
        connection, "SELECT current_schema() IS NOT NULL AND has_schema_privilege(current_schema(), 'CREATE')"
    )
    if allowed:
        return ok("database rights", "tables may be created")
    user = connection.info.user
    return fail("database rights", f"{user} may not create tables", f'GRANT CREATE ON SCHEMA public TO "{user}"')


async def _room_for_prefect(connection: psycopg.AsyncConnection, name: str) -> Finding:
    if not await _value(connection, "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm')"):
        return fail(
            "prefect's database", "the server lacks pg_trgm", "install Postgres's contrib package on that server"
        )
    if await _value(connection, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s)", name):
        return ok("prefect's database", f"{name} is there")
    if await _value(connection, "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"):
        return ok("prefect's database", f"{name} can be created")
    user = connection.info.user
    to_do = f'have an administrator run: CREATE DATABASE "{name}" OWNER "{user}"'
    return fail("prefect's database", f"{name} is not there, and {user} may not create it", to_do)


async def _clock(connection: psycopg.AsyncConnection) -> Finding:
    before = utcnow()
    cursor = await connection.execute("SELECT clock_timestamp()")
    row = await cursor.fetchone()
    middle = before + (utcnow() - before) / 2
    return clock_finding("the database", (row[0] - middle).total_seconds() if row else 0.0)


async def _value(connection: psycopg.AsyncConnection, query: str, *parameters: object) -> bool:
    cursor = await connection.execute(query.encode(), parameters)
    row = await cursor.fetchone()
    return bool(row and row[0])
