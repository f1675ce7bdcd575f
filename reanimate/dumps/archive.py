"""A dump looked at without a server: can it be read to its last byte, and does it hold the tables that were counted?"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reanimate.dumps.facts import DatabaseFacts
from reanimate.dumps.programs import Programs
from reanimate.dumps.running import Sink, run_program
from reanimate.errors import ConfigInvalid, Damaged, ReanimateError

__all__ = ["Contents", "check_archive", "list_archive"]

_ENTRY = re.compile(r"^\d+; (\d+) (\d+) (TABLE DATA|LARGE OBJECTS|BLOBS|[A-Z ]+?) ")


@dataclass(frozen=True)
class Contents:
    """What `pg_restore --list` says: how many entries, whose tables' rows, and whether there are large objects."""

    entries: int
    tables: frozenset[int]
    """The tables' oids, which no name with spaces can confuse."""
    large_objects: bool


async def list_archive(file: Path, programs: Programs) -> Contents:
    """Return the dump's table of contents.

    Raises:
        Damaged: it cannot be read.
    """
    lines: list[bytes] = []

    async def sink(chunk: bytes) -> None:
        lines.append(chunk)

    await _run([programs.pg_restore, "--list", str(file)], file, sink)
    return _contents(b"".join(lines).decode(errors="replace").splitlines())


async def check_archive(file: Path, programs: Programs, facts: DatabaseFacts) -> Contents:
    """Read the whole dump, as a restore would, and hold its tables against those that were counted.

    The list alone is at the file's beginning: it reads well when the end is missing.

    Raises:
        Damaged: it cannot be read, or its tables are others.
    """
    contents = await list_archive(file, programs)
    counted = {table.oid: table.label for table in facts.tables}
    if missing := sorted(label for oid, label in counted.items() if oid not in contents.tables):
        raise Damaged(f"the dump {file.name} lacks the rows of {', '.join(missing[:5])}")
    if unknown := contents.tables - counted.keys() - set(facts.extension_tables):
        raise Damaged(f"the dump {file.name} holds the rows of {len(unknown)} table(s) that were not counted")
    if facts.large_objects.count and not contents.large_objects:
        raise Damaged(f"the dump {file.name} lacks the {facts.large_objects.count} large objects")
    await _run([programs.pg_restore, "--file=/dev/null", str(file)], file, None)
    return contents


def _contents(lines: Iterable[str]) -> Contents:
    entries = [found for line in lines if (found := _ENTRY.match(line))]
    return Contents(
        len(entries),
        frozenset(int(found[2]) for found in entries if (found[1], found[3]) == ("0", "TABLE DATA")),
        any(found[3] in ("LARGE OBJECTS", "BLOBS") for found in entries),
    )


async def _run(argv: list[str], file: Path, sink: Sink | None) -> None:
    try:
        await run_program(argv, sink=sink, about=f"reading the dump {file.name}")
    except ConfigInvalid:
        raise
    except ReanimateError as error:
        raise Damaged(str(error), hint="this backup cannot be used; take another") from error
