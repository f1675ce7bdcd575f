"""Restore a dump into a new database beside the live one, and verify it there. Nothing live is ever written to."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from psycopg import AsyncConnection

from reanimate.dumps.content import prepare
from reanimate.dumps.dump import Progress
from reanimate.dumps.facts import DatabaseFacts
from reanimate.dumps.fitness import Fitness, create_roles, look_at_server
from reanimate.dumps.login import Login, maintenance
from reanimate.dumps.making import apply_properties, create_like, create_plain, drop_database
from reanimate.dumps.markers import Marked, Stage, beside_name, databases_of, mark
from reanimate.dumps.programs import Programs, programs_for_restore
from reanimate.dumps.running import run_program
from reanimate.dumps.verification import Verification, verify_database
from reanimate.errors import Busy, ConfigInvalid, InputInvalid, ReanimateError

__all__ = ["Beside", "DumpToRestore", "exclusively", "restore_beside", "sweep"]

log = logging.getLogger(__name__)

_CLEANUP_S = 60.0
_SMALL = 64 << 20
_POLL_S = 0.5


@dataclass(frozen=True)
class DumpToRestore:
    """A dump whose bytes were held against its manifest already, and what must come out of it."""

    file: Path
    backup_id: str
    facts: DatabaseFacts
    made_by_major: int


@dataclass(frozen=True)
class Beside:
    """A database restored beside the live one and found right."""

    name: str
    verification: Verification
    notes: tuple[str, ...]
    """What could not be kept as it was: owners, grants, settings."""


async def restore_beside(
    login: Login,
    dump: DumpToRestore,
    found: Sequence[Programs],
    now: datetime,
    *,
    make_roles: bool = False,
    scratch: bool = False,
    on_progress: Progress | None = None,
) -> Beside:
    """Restore beside the database of `login`, whether that exists or not, and verify.

    What a killed restore of the same database left is dropped first. On any failure the new database is dropped again
    and seen to be gone. `make_roles` creates roles that the server lacks, without a login. On a `scratch` server,
    where a dump is only tried, no statistics are gathered, a locale that the server lacks is done without, and
    differences are told, not raised. Stages of progress: restore, analyze, verify.

    Raises:
        Busy: another restore of this database is running.
        Refused: the server is older than the dump, or lacks an extension, a role of a policy, or a right.
        ConfigInvalid: no pg_restore fits.
        VerificationFailed: what was restored is not what was dumped.
        Unreachable, ServerFailed: the server went away or failed.
    """
    progress = on_progress or _silent
    name = beside_name(login.database, now)
    async with maintenance(login) as connection, exclusively(connection, login.database):
        await sweep(connection, login)
        if any(marked.name == name for marked in await databases_of(connection, login.database)):
            raise InputInvalid(f"database {name!r} is there already", hint="try again in a second")
        if make_roles:
            await create_roles(connection, dump.facts)
        fitness = await look_at_server(connection, dump.facts, database=login.database)
        programs = programs_for_restore(
            found,
            made_by=dump.made_by_major,
            dumped_from=dump.facts.server_major,
            server=fitness.server_major,
        )
        marked = Marked(
            name, login.database, Stage.RESTORING, dump.backup_id, now.isoformat(), dump.facts.properties.comment
        )
        try:
            notes = await _create(connection, name, dump.facts, fitness, scratch=scratch)
            await mark(connection, marked)
            if "schema public" not in dump.facts.schema_objects:
                async with login.at(name).connect() as made:  # every new database has it; the one dumped did not
                    await made.execute("DROP SCHEMA public")
            await _fill(connection, login.at(name), dump, fitness, programs, progress)
            refused = await _finish(connection, login.at(name), dump.facts, progress, scratch=scratch)
            verification = await verify_database(
                login.at(name),
                dump.facts,
                dump.backup_id,
                rights=fitness.grants,
                locale=not notes,
                on_progress=on_progress,
            )
            if not scratch:
                verification.require(login.where)
            await mark(connection, replace(marked, stage=Stage.RESTORED))
        except BaseException:
            # Also when cancelled: a half-filled database must not be left to be found.
            await _give_up(login, name)
            raise
    return Beside(name, verification, (*fitness.notes, *notes, *(f"not kept: {what}" for what in refused)))


async def _create(
    connection: AsyncConnection, name: str, facts: DatabaseFacts, fitness: Fitness, *, scratch: bool
) -> list[str]:
    """Make the new database, and return what is other than in the one that was dumped, in words."""
    notes = []
    try:
        await create_like(connection, name, facts.properties, fitness)
    except ConfigInvalid as error:
        if not scratch:
            raise
        await create_plain(connection, name, facts.properties)
        notes.append(f"tried without its locale: {error.args[0]}")
    return notes


@asynccontextmanager
async def exclusively(connection: AsyncConnection, database: str) -> AsyncIterator[None]:
    """Hold, for the block, the one right to restore or rename this database; it ends with the connection.

    Raises:
        Busy: somebody has it.
    """
    key = f"reanimate restore {database}"
    row = await (await connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (key,))).fetchone()
    if not row or not row[0]:
        raise Busy(f"a restore of database {database!r} is running", hint="wait until it has ended")
    try:
        yield
    finally:
        with suppress(Exception):  # a lost connection has given it back already
            await connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (key,))


async def sweep(connection: AsyncConnection, login: Login) -> list[str]:
    """Drop what killed restores of this database left, and return the names. Only for who holds the right to restore.

    One that has a restore's name and nothing else to tell it by is dropped only if it is empty.

    Raises:
        ServerFailed: one could not be dropped.
    """
    left = []
    for marked in await databases_of(connection, login.database):
        if marked.stage is not Stage.RESTORING or not (marked.backup_id or await _is_empty(login.at(marked.name))):
            continue
        log.warning("dropping %s, which a killed restore of %s left", marked.name, login.database)
        await drop_database(connection, marked.name)
        left.append(marked.name)
    return left


async def _is_empty(login: Login) -> bool:
    async with login.connect() as connection:
        row = await (await connection.execute("SELECT EXISTS (SELECT FROM pg_class WHERE oid >= 16384)")).fetchone()
        return row is not None and not row[0]


async def _fill(
    connection: AsyncConnection,
    login: Login,
    dump: DumpToRestore,
    fitness: Fitness,
    programs: Programs,
    progress: Progress,
) -> None:
    # pg_restore 17 and newer set a parameter that older servers do not know, and go on only without --exit-on-error.
    forgiving = programs.major >= 17 > fitness.server_major
    size = await asyncio.to_thread(lambda: dump.file.stat().st_size)
    argv = [
        programs.pg_restore,
        *([] if forgiving else ["--exit-on-error"]),
        "--no-password",
        f"--jobs={min(4, os.cpu_count() or 1) if size > _SMALL else 1}",
        *([] if fitness.owners else ["--no-owner"]),
        *([] if fitness.grants else ["--no-privileges"]),
        *([] if fitness.tablespaces else ["--no-tablespaces"]),
        f"--dbname={login.address}",
        str(dump.file),
    ]
    ended = asyncio.Event()
    watching = asyncio.create_task(_watch(connection, login.database, dump.facts.size_bytes, progress, ended))
    try:
        await run_program(
            argv,
            login,
            about=f"pg_restore of backup {dump.backup_id} into {login.database!r} on {login.where}",
            forgive=_only_the_parameter if forgiving else None,
        )
    finally:
        ended.set()
        await asyncio.gather(watching, return_exceptions=True)
    progress("restore", dump.facts.size_bytes, dump.facts.size_bytes)


async def _watch(
    connection: AsyncConnection, name: str, expected: int, progress: Progress, ended: asyncio.Event
) -> None:
    """Report how large the new database is, until it is filled. Never cancelled: the connection is needed after it."""
    while not ended.is_set():
        row = await (await connection.execute("SELECT pg_database_size(%s)", (name,))).fetchone()
        done = row[0] if row else 0
        progress("restore", done, max(done, expected, 1))
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), _POLL_S)


def _only_the_parameter(lines: Sequence[str]) -> bool:
    """Say whether every error of a pg_restore is that the server does not know `transaction_timeout`."""
    errors = sum("pg_restore: error:" in line for line in lines)
    known = sum(
        "pg_restore: error:" in line
        and "unrecognized configuration parameter" in line
        and "transaction_timeout" in line
        for line in lines
    )
    return errors == known > 0 and any("errors ignored on restore" in line for line in lines)


async def _finish(
    connection: AsyncConnection, login: Login, facts: DatabaseFacts, progress: Progress, *, scratch: bool
) -> list[str]:
    roles = {name for (name,) in await (await connection.execute("SELECT rolname FROM pg_roles")).fetchall()}
    refused = await apply_properties(connection, login.database, facts.properties, roles)
    if not scratch:
        # Without statistics the first queries of a restored database may take minutes.
        progress("analyze", 0, 1)
        async with login.connect() as restored:
            await prepare(restored)
            await restored.execute("ANALYZE")
        progress("analyze", 1, 1)
    return refused


async def _give_up(login: Login, name: str) -> None:
    """Drop what was begun, whatever it takes within a minute; the failure itself is the caller's to raise."""

    async def drop() -> None:
        async with maintenance(login) as connection:
            await drop_database(connection, name)

    try:
        async with asyncio.timeout(_CLEANUP_S):
            await asyncio.shield(asyncio.ensure_future(drop()))
    except (ReanimateError, TimeoutError) as error:
        log.warning("%s on %s could not be dropped after a failed restore: %s", name, login.where, error)


def _silent(stage: str, done: int, total: int) -> None:
    """Report to nobody."""
