"""Let a restored database take the live one's name, and give it back: both renames in one transaction, or none."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import psycopg
from psycopg import AsyncConnection
from psycopg.sql import SQL, Identifier

from reanimate.dumps.login import Login, maintenance
from reanimate.dumps.making import drop_database
from reanimate.dumps.markers import Marked, Stage, databases_of, kept_name, mark, undone_name, unmark
from reanimate.dumps.restore import exclusively
from reanimate.errors import Busy, InputInvalid, NotFound, Refused

__all__ = ["Renamed", "Session", "discard", "give_back", "sessions_of", "take_name", "withdraw"]

_ATTEMPTS = 4
_NAMED = 5
_PAUSE_S = 0.05


@dataclass(frozen=True)
class Session:
    """Somebody connected to a database."""

    pid: int
    user: str
    application: str
    client: str

    def __str__(self) -> str:
        return f"{self.application or 'somebody'} as {self.user} from {self.client or 'this machine'} (pid {self.pid})"


@dataclass(frozen=True)
class Renamed:
    """What is called how now."""

    database: str
    is_now: str
    """The name that the database now live had before."""
    kept: str | None
    """The name under which the one that was live is kept; None if there was none."""
    ended: int
    """Sessions that were ended for it."""


async def sessions_of(connection: AsyncConnection, database: str) -> list[Session]:
    """Return who is connected to a database."""
    rows = await (
        await connection.execute(
            """SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), coalesce(client_addr::text, '')
            FROM pg_stat_activity
            WHERE datname = %s AND pid <> pg_backend_pid() AND backend_type <> 'autovacuum worker' ORDER BY 1""",
            (database,),
        )
    ).fetchall()
    return [Session(*row) for row in rows]


async def take_name(login: Login, restored: str, now: datetime, *, end_sessions: bool = False) -> Renamed:
    """Rename the live database aside and the restored one to its name.

    The server lets no new session in while it renames, so whoever comes meanwhile waits and then meets the restored
    one. Sessions that are there must have left, unless `end_sessions` says to end them.

    Raises:
        NotFound: no such restored database.
        InputInvalid: that database is not a finished restore of this one.
        Refused: sessions are connected, or a prepared transaction is open.
        Busy: sessions came back too quickly, or a restore is running.
    """
    live = login.database
    async with maintenance(login) as connection, exclusively(connection, live):
        marked = await _marked(connection, live, restored, Stage.RESTORED)
        exists, comment = await _comment(connection, live)
        aside = await _free(connection, kept_name, live, now)
        moves = [(live, aside), (restored, live)] if exists else [(restored, live)]

        async def note() -> None:
            if exists:
                await mark(connection, Marked(aside, live, Stage.KEPT, marked.backup_id, now.isoformat(), comment))
            await unmark(connection, live, marked.comment)

        ended = await _rename(connection, login, moves, note, end_sessions=end_sessions)
        return Renamed(live, restored, aside if exists else None, ended)


async def give_back(login: Login, now: datetime, *, end_sessions: bool = False) -> Renamed:
    """Undo the newest `take_name` of this database: the kept one is live again, the restored one is set aside.

    Raises:
        NotFound: no database was set aside for this one.
        Refused, Busy: as `take_name`.
    """
    live = login.database
    async with maintenance(login) as connection, exclusively(connection, live):
        kept = [marked for marked in await databases_of(connection, live) if marked.stage is Stage.KEPT]
        if not kept:
            raise NotFound(f"no database is kept from before a restore of {live!r} on {login.where}")
        back = kept[0]
        exists, comment = await _comment(connection, live)
        aside = await _free(connection, undone_name, live, now)
        moves = [(live, aside), (back.name, live)] if exists else [(back.name, live)]

        async def note() -> None:
            if exists:
                await mark(
                    connection,
                    replace(back, name=aside, stage=Stage.UNDONE, at=now.isoformat(), comment=comment),
                )
            await unmark(connection, live, back.comment)

        ended = await _rename(connection, login, moves, note, end_sessions=end_sessions)
        return Renamed(live, back.name, aside if exists else None, ended)


async def withdraw(login: Login, backup_id: str, now: datetime, *, end_sessions: bool = False) -> Renamed:
    """Undo a `take_name` where there had been no database of that name: the restored one is set aside, none is live.

    Raises:
        NotFound: there is none of that name now.
        Refused, Busy: as `take_name`.
    """
    live = login.database
    async with maintenance(login) as connection, exclusively(connection, live):
        exists, comment = await _comment(connection, live)
        if not exists:
            raise NotFound(f"there is no database {live!r} on {login.where}")
        aside = await _free(connection, undone_name, live, now)

        async def note() -> None:
            await mark(connection, Marked(aside, live, Stage.UNDONE, backup_id, now.isoformat(), comment))

        ended = await _rename(connection, login, [(live, aside)], note, end_sessions=end_sessions)
        return Renamed(live, aside, None, ended)


async def discard(login: Login, name: str) -> None:
    """Drop a database that a restore made or set aside, for good.

    Raises:
        NotFound, InputInvalid: it is none of these.
        Busy: a restore is running.
    """
    async with maintenance(login) as connection, exclusively(connection, login.database):
        await _marked(connection, login.database, name, Stage.RESTORED, Stage.KEPT, Stage.UNDONE)
        await drop_database(connection, name)


async def _marked(connection: AsyncConnection, live: str, name: str, *stages: Stage) -> Marked:
    known = await databases_of(connection, live)
    for marked in known:
        if marked.name == name:
            if marked.stage in stages:
                return marked
            raise InputInvalid(f"database {name!r} is {marked.stage}, not {' or '.join(stages)}")
    names = ", ".join(marked.name for marked in known) or "none"
    raise NotFound(f"no restore of {live!r} made a database {name!r}", hint=f"there are: {names}")


async def _free(connection: AsyncConnection, named: Callable[[str, datetime], str], live: str, now: datetime) -> str:
    """Return the first name of a kind that no database has: names carry seconds, and two moves can fall into one."""
    while (await _comment(connection, name := named(live, now)))[0]:
        now += timedelta(seconds=1)
    return name


async def _comment(connection: AsyncConnection, database: str) -> tuple[bool, str | None]:
    row = await (
        await connection.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", (database,)
        )
    ).fetchone()
    return (row is not None, row[0] if row else None)


async def _rename(
    connection: AsyncConnection,
    login: Login,
    moves: Sequence[tuple[str, str]],
    note: Callable[[], Awaitable[None]],
    *,
    end_sessions: bool,
) -> int:
    names = [old for old, _ in moves]
    await _require_no_prepared(connection, names)
    if not end_sessions:
        await _require_nobody(connection, names)
    ended = 0
    for _ in range(_ATTEMPTS):
        gone: set[int] = set()
        try:
            async with _ending(login, names if end_sessions else []) as gone:
                async with connection.transaction():
                    for old, new in moves:
                        statement = SQL("ALTER DATABASE {} RENAME TO {}")
                        await connection.execute(statement.format(Identifier(old), Identifier(new)))
                    await note()
                return ended + len(gone)
        except psycopg.errors.ObjectInUse:
            ended += len(gone)
            if not end_sessions:
                await _require_nobody(connection, names)
    raise Busy(f"renaming {names[0]!r}: sessions come back all the time", hint="stop the agent, then try again")


@asynccontextmanager
async def _ending(login: Login, names: Sequence[str]) -> AsyncIterator[set[int]]:
    """End every session of these databases for as long as the block lasts, and give the set of those ended.

    A rename waits five seconds for sessions to leave and lets none in meanwhile: they are ended while it waits.

    Raises:
        Refused: this user may not end somebody's session.
    """
    gone: set[int] = set()
    over = asyncio.Event()

    async def end() -> None:
        async with maintenance(login) as connection:
            while not over.is_set():
                for name in names:
                    for session in await sessions_of(connection, name):
                        await connection.execute("SELECT pg_terminate_backend(%s)", (session.pid,))
                        gone.add(session.pid)
                with suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), _PAUSE_S)

    task = asyncio.create_task(end()) if names else None
    try:
        yield gone
    except psycopg.errors.ObjectInUse:
        if task is not None and task.done():
            await task  # why nobody was ended
        raise
    finally:
        if task is not None:
            over.set()  # not cancelled: a connection that is just being made would be left open
            await asyncio.gather(task, return_exceptions=True)


async def _require_nobody(connection: AsyncConnection, names: Sequence[str]) -> None:
    sessions = [session for name in names for session in await sessions_of(connection, name)]
    if sessions:
        told = ", ".join(str(session) for session in sessions[:_NAMED])
        more = f" and {len(sessions) - _NAMED} more" if len(sessions) > _NAMED else ""
        raise Refused(
            f"renaming database {names[0]!r}: {len(sessions)} session(s) are connected: {told}{more}",
            hint="stop what uses it and try again, or --end-sessions ends them; nothing was changed",
        )


async def _require_no_prepared(connection: AsyncConnection, names: Sequence[str]) -> None:
    rows = await (
        await connection.execute("SELECT gid FROM pg_prepared_xacts WHERE database = ANY(%s)", (list(names),))
    ).fetchall()
    if rows:
        raise Refused(
            f"renaming database {names[0]!r}: prepared transactions are open: {', '.join(gid for (gid,) in rows)}",
            hint="COMMIT PREPARED or ROLLBACK PREPARED them first",
        )
