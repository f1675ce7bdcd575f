"""The server that a restore goes to, as it is now."""

from reanimate.dumps.login import Login, maintenance
from reanimate.dumps.markers import databases_of
from reanimate.dumps.plan import Live
from reanimate.dumps.properties import read_system_id
from reanimate.dumps.rename import sessions_of

__all__ = ["look_at_live"]


async def look_at_live(login: Login) -> Live:
    """Say what is there: version, the live database and who is in it, and what earlier restores left.

    Raises:
        ReanimateError: as `Login.connect`.
    """
    async with maintenance(login) as connection:
        row = await (
            await connection.execute(
                """SELECT pg_database_size(oid) FROM pg_database
                WHERE datname = %s AND has_database_privilege(oid, 'CONNECT')""",
                (login.database,),
            )
        ).fetchone()
        exists = await (
            await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (login.database,))
        ).fetchone()
        return Live(
            where=login.where,
            server_major=connection.info.server_version // 10000,
            system_id=await read_system_id(connection),
            database=login.database,
            exists=exists is not None,
            size_bytes=row[0] if row else None,
            sessions=tuple(str(session) for session in await sessions_of(connection, login.database)),
            kept=tuple(f"{one.name} ({one.stage})" for one in await databases_of(connection, login.database)),
        )
