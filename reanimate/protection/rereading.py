"""Reading stored backups again: what is due tonight or what a person asks for; each part has a row in the record."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Literal

from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from reanimate.backups.catalog import Catalog
from reanimate.backups.copying import NOTE as COPYING
from reanimate.backups.manifest import Manifest
from reanimate.backups.marks import parse_mark
from reanimate.backups.published import DamagedBackup, Published
from reanimate.backups.repositories import Repository
from reanimate.backups.rereading import (
    PartRead,
    StoredPart,
    choose_share,
    judge,
    look_at_part,
    marked_damaged,
    read_part,
    stored_parts,
)
from reanimate.backups.unfinished import NOTE as UNFINISHED
from reanimate.clock import utcnow
from reanimate.db.tables import PartRead as Row
from reanimate.errors import ReanimateError

__all__ = ["Rereading", "reread"]

log = logging.getLogger(__name__)

_NOTES = {COPYING, UNFINISHED}
"""What a kill between the last two steps of a backup or a copy leaves beside a manifest until the next sweep."""

Progress = Callable[[str, int, int], None]
Scope = Literal["share", "all"] | Collection[str]
"""What is due tonight, everything, or the backups of some ids with what they build on."""


@dataclass(frozen=True)
class Rereading:
    """What came of reading a repository again."""

    repository: str
    reads: tuple[PartRead, ...]
    of: int
    """How many parts there are in all."""
    unusable: tuple[DamagedBackup, ...]
    """Backups that cannot be used whatever their parts are."""
    damaged: tuple[str, ...]
    """Ids of backups that were found damaged now; no plan takes them any more."""
    mended: tuple[str, ...]
    """Ids of backups that an earlier reading had found damaged and that are right again."""
    unread: Mapping[str, str]
    """Keys that could not be read now, and why: nothing is known about them."""
    strangers: tuple[str, ...] = ()
    """Objects in the folders of these backups that no manifest knows. Nothing ever reads them."""

    @property
    def ok(self) -> bool:
        return not (self.unusable or self.damaged or self.unread)


async def reread(
    repository: Repository,
    sessions: async_sessionmaker[AsyncSession] | None,
    scope: Scope,
    *,
    read_data: bool = True,
    parallel: int = 2,
    on_progress: Progress | None = None,
) -> Rereading:
    """Hold stored parts against their manifests, byte for byte, or with `read_data` false only whether they are there.

    Damage marks the backup as unusable, in the repository itself; a record that cannot be written is logged.

    Raises:
        NotFound: no backup has that id.
        Unreachable: the repository could not be read or written.
    """
    catalog = repository.catalog
    backups, unusable = await asyncio.to_thread(_backups, catalog, scope)
    everything = stored_parts(backups)
    if scope == "share":
        chosen = choose_share(everything, await _last_read(sessions, repository.name), utcnow())
    else:
        chosen = everything
    reads, unread = await _read(catalog, chosen, parallel, on_progress, read_data=read_data)
    damaged, mended = await judge(catalog, backups, reads if read_data else _bad(reads), utcnow())
    if read_data:
        await _remember(sessions, repository.name, reads)
    for read in _bad(reads):
        log.error("%s in %s is damaged: %s", read.part.key, repository.name, read.problem)
    return Rereading(
        repository.name,
        tuple(reads),
        len(everything),
        tuple(one for one in unusable if one.id not in {*damaged, *mended}),
        tuple(damaged),
        tuple(mended),
        unread,
        await asyncio.to_thread(_strangers, catalog, backups, everything),
    )


def _strangers(
    catalog: Catalog, backups: Iterable[Published[Manifest]], parts: Iterable[StoredPart]
) -> tuple[str, ...]:
    known = {part.key for part in parts} | {backup.key for backup in backups}
    folders = {backup.folder for backup in backups}
    roots = sorted({folder.split("/", 1)[0] for folder in folders})
    return tuple(
        key
        for root in roots
        for key in catalog.keys(root)
        if str(PurePosixPath(key).parent) in folders
        and key not in known
        and PurePosixPath(key).name not in _NOTES
        and parse_mark(key) is None
    )


def _backups(catalog: Catalog, scope: Scope) -> tuple[list[Published[Manifest]], list[DamagedBackup]]:
    usable, marked, unusable = [*catalog.published(Manifest)], marked_damaged(catalog), [*catalog.damaged()]
    if scope in ("share", "all"):
        return [*usable, *marked], unusable
    known = {one.manifest.id: one for one in (*usable, *marked)}
    wanted: dict[str, Published[Manifest]] = {}
    for each in scope:
        one = known[each] if each in known else catalog.find(each, Manifest)
        wanted[each] = one
        if one.manifest.base in known:
            wanted[one.manifest.base] = known[one.manifest.base]
    return [*wanted.values()], [one for one in unusable if one.id in wanted]


async def _read(
    catalog: Catalog, parts: Sequence[StoredPart], parallel: int, on_progress: Progress | None, *, read_data: bool
) -> tuple[list[PartRead], dict[str, str]]:
    total = sum(part.size for part in parts)
    done: dict[str, int] = {}
    unread: dict[str, str] = {}
    slots = asyncio.Semaphore(parallel)

    def report(part: StoredPart, read: int) -> None:
        done[part.key] = read
        if on_progress:
            on_progress("read", sum(done.values()), total)

    async def one(part: StoredPart) -> PartRead | None:
        async with slots:
            try:
                if not read_data:
                    return await look_at_part(catalog, part, utcnow())
                return await read_part(catalog, part, utcnow(), lambda read, _: report(part, read))
            except ReanimateError as error:
                unread[part.key] = str(error)
                return None
            finally:
                report(part, part.size)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(part)) for part in parts]
    return [read for task in tasks if (read := task.result())], unread


def _bad(reads: Iterable[PartRead]) -> list[PartRead]:
    return [read for read in reads if not read.ok]


async def _last_read(sessions: async_sessionmaker[AsyncSession] | None, repository: str) -> dict[str, datetime]:
    if sessions is None:
        return {}
    try:
        async with sessions() as session:
            rows = await session.execute(select(Row.key, Row.read_at).where(Row.repository == repository))
            return {row.key: row.read_at for row in rows}
    except (SQLAlchemyError, OSError) as error:
        log.warning("which parts were read when is not known, the record is away: %s", error)
        return {}


async def _remember(
    sessions: async_sessionmaker[AsyncSession] | None, repository: str, reads: Sequence[PartRead]
) -> None:
    if sessions is None or not reads:
        return
    rows = {
        read.part.key: Row(
            repository=repository, key=read.part.key, read_at=read.read_at, ok=read.ok, found=read.problem or None
        )
        for read in sorted(reads, key=lambda read: not read.ok)
    }
    try:
        async with sessions() as session, session.begin():
            await session.execute(delete(Row).where(Row.repository == repository, Row.key.in_(rows)))
            session.add_all(rows.values())
    except (SQLAlchemyError, OSError) as error:
        log.warning("what was read could not be recorded: %s", error)
