"""Stored parts are read again and hashed, a share each night: a disk that forgets is found before the bad day."""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import Manifest
from reanimate.backups.marks import newest, parse_mark, remove_mark, write_mark
from reanimate.backups.published import Published
from reanimate.errors import Damaged, NotFound
from reanimate.storage.belts import Stop, Stopped, run_stoppable
from reanimate.storage.transport import hash_object, object_size

__all__ = [
    "DAYS",
    "PartRead",
    "StoredPart",
    "choose_share",
    "judge",
    "look_at_part",
    "marked_damaged",
    "read_part",
    "stored_parts",
]

DAYS = 28
"""Within so many days every part is read once."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class StoredPart:
    """An object that backups are made of: usually of one, of several where the same content is stored once."""

    key: str
    size: int
    sha256: str
    written_at: datetime
    """When it was hashed on its way in."""
    backup_ids: tuple[str, ...]


@dataclass(frozen=True)
class PartRead:
    """What came of reading a part: `problem` is empty when it is what the manifest says."""

    part: StoredPart
    read_at: datetime
    problem: str

    @property
    def ok(self) -> bool:
        return not self.problem


def stored_parts(backups: Iterable[Published[Manifest]]) -> tuple[StoredPart, ...]:
    """Return every object of some backups once, with the backups that need it."""
    found: dict[tuple[str, str], StoredPart] = {}
    for backup in backups:
        manifest = backup.manifest
        for part in manifest.parts:
            # Two manifests that disagree about an object make two rows: one of them will turn out damaged.
            known = found.get((part.blob, part.stored_sha256))
            found[part.blob, part.stored_sha256] = StoredPart(
                key=part.blob,
                size=part.stored_size,
                sha256=part.stored_sha256,
                written_at=min(manifest.taken_at, known.written_at) if known else manifest.taken_at,
                backup_ids=(*(known.backup_ids if known else ()), manifest.id),
            )
    return tuple(found.values())


def choose_share(
    parts: Sequence[StoredPart], last_read: Mapping[str, datetime], now: datetime, days: int = DAYS
) -> tuple[StoredPart, ...]:
    """Return the parts to read tonight, those not read for the longest first.

    A share is the bytes of all by the number of nights; more where a part would otherwise go unread for longer than
    that. A part counts as read when it was written, for it was hashed then.
    """

    def age(part: StoredPart) -> tuple[datetime, str]:
        return max(part.written_at, last_read.get(part.key, part.written_at)), part.key

    left = math.ceil(sum(part.size for part in parts) / days)
    # One night may be missed or begin late.
    due = now - timedelta(days=days - 2)
    chosen = []
    for part in sorted(parts, key=age):
        if left <= 0 and age(part)[0] > due:
            break
        chosen.append(part)
        left -= part.size
    return tuple(chosen)


async def read_part(catalog: Catalog, part: StoredPart, now: datetime, on_progress: Progress | None = None) -> PartRead:
    """Read one part whole and hold it against the manifest.

    Raises:
        Unreachable, Refused: the store could not be read, which says nothing about the part.
    """
    loop = asyncio.get_running_loop()

    def work(stop: Stop) -> str:
        def report(done: int, total: int) -> None:
            if stop.is_set():
                raise Stopped
            if on_progress:
                loop.call_soon_threadsafe(on_progress, done, total)

        return _problem(catalog, part, report)

    return PartRead(part, now, await run_stoppable(work))


async def look_at_part(catalog: Catalog, part: StoredPart, now: datetime) -> PartRead:
    """See whether a part is there and has its size, without reading it.

    Raises:
        Unreachable, Refused: the store could not be asked.
    """
    return PartRead(part, now, await asyncio.to_thread(_problem, catalog, part, None))


def _problem(catalog: Catalog, part: StoredPart, report: Progress | None) -> str:
    try:
        found = object_size(catalog.store, part.key)
        if found != part.size:
            return f"it has {found} bytes, the manifest says {part.size}"
        if report is None:
            return ""
        _, sha256 = hash_object(catalog.store, part.key, report)
    except NotFound:
        return "it is gone"
    except Damaged as error:
        return str(error)
    return "" if sha256 == part.sha256 else f"it has SHA-256 {sha256}, the manifest says {part.sha256}"


def marked_damaged(catalog: Catalog) -> list[Published[Manifest]]:
    """Return the backups that only an earlier reading keeps from use: a later one may find them mended.

    Raises:
        Unreachable: the store could not be read.
    """
    found = []
    for one in catalog.damaged():
        folder = str(PurePosixPath(one.key).parent)
        marks = tuple(filter(None, map(parse_mark, catalog.keys(folder))))
        if newest(marks, "damaged"):
            try:
                found.append(replace(catalog.at(one.key, Manifest), marks=marks))
            except (Damaged, NotFound):
                continue
    return found


async def judge(
    catalog: Catalog, backups: Iterable[Published[Manifest]], reads: Sequence[PartRead], now: datetime
) -> tuple[list[str], list[str]]:
    """Mark the backups whose parts turned out damaged, and take the mark back from those of which all are right again.

    Returns the ids of both. A mark keeps a backup out of every plan.

    Raises:
        Unreachable: the store could not be written.
    """
    right = {(read.part.key, read.part.sha256) for read in reads if read.ok}
    wrong = {(read.part.key, read.part.sha256): read.problem for read in reads if not read.ok}
    marked, cleared = [], []
    for backup in backups:
        parts = [(part.blob, part.stored_sha256) for part in backup.manifest.parts]
        old = [mark for mark in backup.marks if mark.what == "damaged"]
        if bad := [f"{part[0]}: {wrong[part]}" for part in parts if part in wrong]:
            if not await _is_there(catalog, backup):
                continue  # it was removed while it was read
            if not old:
                content = {"by": "verify", "reason": "; ".join(bad)}
                await write_mark(catalog.store, backup.folder, "damaged", content, catalog.keyring, now=now)
            marked.append(backup.manifest.id)
        elif old and right.issuperset(parts):
            for mark in old:
                await remove_mark(catalog.store, mark)
            cleared.append(backup.manifest.id)
    return marked, cleared


async def _is_there(catalog: Catalog, backup: Published[Manifest]) -> bool:
    try:
        await asyncio.to_thread(object_size, catalog.store, backup.key)
    except NotFound:
        return False
    return True
