"""Take a dump of a database, and the facts of the very snapshot that it was taken in."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from reanimate.backups.scratch import require_room
from reanimate.clock import utcnow
from reanimate.dumps.archive import check_archive
from reanimate.dumps.content import HowToRead, read_large_objects, read_sequences, read_tables, sequence_facts
from reanimate.dumps.facts import DatabaseFacts, SequenceFacts, TableFacts
from reanimate.dumps.login import Login
from reanimate.dumps.programs import Programs, programs_for_dump
from reanimate.dumps.properties import (
    read_extension_tables,
    read_extensions,
    read_not_dumped,
    read_properties,
    read_roles,
    read_system_id,
    read_tablespaces,
)
from reanimate.dumps.running import run_program, together
from reanimate.dumps.schema import read_rights, read_schema
from reanimate.dumps.snapshot import Snapshot, open_snapshot
from reanimate.errors import Busy

__all__ = ["HASH_LIMIT", "Dumped", "Progress", "dump_database"]

Progress = Callable[[str, int, int], None]
"""Called with the stage, how much of it is done, and the total, in bytes."""

HASH_LIMIT = 4 << 30
"""A table larger than this is hashed by a sample of about this size."""

_LOCK_WAIT = "1s"
"""The snapshot's session has the locks already: pg_dump waits for nobody but one who is waiting for us."""


@dataclass(frozen=True)
class Dumped:
    """A dump on our disk, checked, and what was in the database."""

    file: Path
    size: int
    sha256: str
    facts: DatabaseFacts
    made_by: str
    """pg_dump's version."""
    taken_at: datetime
    """When the snapshot was taken, by our clock."""


async def dump_database(
    login: Login,
    file: Path,
    found: Sequence[Programs],
    *,
    hash_limit: int = HASH_LIMIT,
    on_progress: Progress | None = None,
) -> Dumped:
    """Dump a database into `file`, while the facts are read in the same snapshot, and check the file.

    Stages of progress: dump (bytes written, of what the tables take now), hash (bytes of tables), check.

    Raises:
        NotFound: no such database.
        ConfigInvalid: no pg_dump fits the server, the login is refused, or there is no room.
        Refused: a right is missing.
        Busy: a table is held exclusively by somebody.
        Damaged: the file is not whole, or does not hold the tables that the snapshot has.
        Unreachable, ServerFailed: the server went away or failed.
    """
    for last in (False, False, False, True):
        try:
            return await _dump(login, file, found, hash_limit, on_progress or _silent)
        except _Overtaken as error:
            if last:
                raise Busy(str(error), hint="somebody changes tables again and again; try later") from error
    raise AssertionError("unreachable: the last attempt returns or raises")


class _Overtaken(Exception):
    """Somebody wants a table exclusively, waits for us, and pg_dump waits for them: we must give way."""


async def _dump(login: Login, file: Path, found: Sequence[Programs], hash_limit: int, progress: Progress) -> Dumped:
    async with open_snapshot(login) as snapshot:
        taken_at = utcnow()
        programs = programs_for_dump(found, snapshot.server_major)
        size = sum(table.size for table in snapshot.tables)
        require_room(file.parent, size, f"the dump of {login.database!r}")
        written = _Written()
        sequences = await read_sequences(snapshot.connection)
        tables: list[TableFacts] = []
        await together(
            _write(login, snapshot, programs, file, size, written, progress),
            _read_tables(snapshot, hash_limit, tables, progress),
        )
        moved = sequence_facts(sequences, await read_sequences(snapshot.connection))
        facts = await _describe(snapshot, login, tables, moved)
    progress("check", 0, written.size)
    await check_archive(file, programs, facts)
    progress("check", written.size, written.size)
    return Dumped(file, written.size, written.digest.hexdigest(), facts, programs.version, taken_at)


class _Written:
    """What pg_dump has said so far."""

    def __init__(self) -> None:
        self.size = 0
        self.digest = hashlib.sha256()

    def keep(self, target: BinaryIO, chunk: bytes) -> None:
        target.write(chunk)
        self.digest.update(chunk)
        self.size += len(chunk)


async def _write(
    login: Login,
    snapshot: Snapshot,
    programs: Programs,
    file: Path,
    expected: int,
    written: _Written,
    progress: Progress,
) -> None:
    with await asyncio.to_thread(file.open, "wb") as target:

        async def sink(chunk: bytes) -> None:
            await asyncio.to_thread(written.keep, target, chunk)
            progress("dump", written.size, max(written.size, expected))

        try:
            await run_program(
                _command(login, snapshot, programs),
                login,
                sink=sink,
                about=f"pg_dump of database {login.database!r} on {login.where}",
            )
        except Busy as error:
            raise _Overtaken(error.args[0]) from error
    progress("dump", written.size, written.size)


def _command(login: Login, snapshot: Snapshot, programs: Programs) -> list[str]:
    return [
        programs.pg_dump,
        "--format=custom",
        "--compress=0",
        f"--snapshot={snapshot.name}",
        f"--lock-wait-timeout={_LOCK_WAIT}",
        "--no-subscriptions",
        "--no-password",
        f"--dbname={login.address}",
    ]


async def _read_tables(snapshot: Snapshot, hash_limit: int, into: list[TableFacts], progress: Progress) -> None:
    """Count and hash on the snapshot's own connection: it has its locks, another would wait behind who wants them."""
    wanted = [HowToRead(table, table.one_in(hash_limit), table.key) for table in snapshot.tables]
    into += await read_tables(snapshot.connection, wanted, lambda done, total: progress("hash", done, total))


async def _describe(
    snapshot: Snapshot, login: Login, tables: list[TableFacts], sequences: list[SequenceFacts]
) -> DatabaseFacts:
    connection = snapshot.connection
    row = await (await connection.execute("SELECT pg_database_size(current_database())")).fetchone()
    return DatabaseFacts(
        database=login.database,
        server_version=snapshot.server_version,
        server_major=snapshot.server_major,
        system_id=await read_system_id(connection),
        properties=await read_properties(connection, snapshot.server_major),
        size_bytes=row[0] if row else 0,
        table_bytes=sum(table.size for table in snapshot.tables),
        tables=tables,
        sequences=sequences,
        large_objects=await read_large_objects(connection),
        extensions=await read_extensions(connection),
        extension_tables=await read_extension_tables(connection),
        roles=await read_roles(connection),
        tablespaces=await read_tablespaces(connection),
        schema_objects=await read_schema(connection, snapshot.server_major),
        rights=await read_rights(connection),
        not_dumped=await read_not_dumped(connection),
    )


def _silent(stage: str, done: int, total: int) -> None:
    """Report to nobody."""
