"""Deleting a backup, in two steps: a mark that hides it and can be taken back, and after a grace, the bytes.

The bytes go in an order that can be cut anywhere and begun again: the manifest first, from then on the backup does not
exist; then its parts; the marks last, for they say that the rest may go.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

from reanimate.backups.catalog import MANIFEST, Catalog
from reanimate.backups.marks import Mark, newest, parse_mark, read_mark, remove_mark, write_mark
from reanimate.backups.use import is_in_use
from reanimate.errors import Busy, Damaged, NotFound
from reanimate.storage.blobs import remove_objects

__all__ = ["Deletion", "deletion_of", "mark_deleted", "marks_among", "remains", "remove", "take_back"]


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deletion:
    """What a `deleted` mark says."""

    mark: Mark
    by: str
    reason: str
    until: datetime
    """From then on the bytes may go."""


async def mark_deleted(
    catalog: Catalog, folder: str, *, by: str, reason: str, until: datetime, now: datetime
) -> Deletion:
    """Hide a backup from every listing; until `until`, nothing else happens.

    Raises:
        Unreachable: the store could not be written.
    """
    content = {"backup": PurePosixPath(folder).name, "by": by, "reason": reason, "until": until.isoformat()}
    mark = await write_mark(catalog.store, folder, "deleted", content, catalog.keyring, now=now)
    return Deletion(mark, by, reason, until)


async def deletion_of(catalog: Catalog, marks: Iterable[Mark]) -> Deletion | None:
    """Return the newest deletion among a backup's marks that somebody who is trusted has signed for it, if any.

    Raises:
        Unreachable: the store could not be read.
    """
    for mark in sorted(marks, key=lambda mark: mark.at, reverse=True):
        if mark.what == "deleted":
            try:
                said = await read_mark(catalog.store, mark, catalog.keyring)
                if said["backup"] != PurePosixPath(mark.key).parent.name:
                    raise Damaged(f"it is that of another backup, {said['backup']}")
                return Deletion(mark, said["by"], said["reason"], datetime.fromisoformat(said["until"]))
            except NotFound:
                continue  # taken back just now
            except (Damaged, KeyError, TypeError, ValueError) as error:
                log.warning("the mark %s deletes nothing: %s", mark.key, error)
    return None


async def take_back(catalog: Catalog, marks: Iterable[Mark]) -> None:
    """Take every `deleted` mark among these back: the backup is listed again.

    Raises:
        Unreachable: the store could not be written.
    """
    for mark in marks:
        if mark.what == "deleted":
            await remove_mark(catalog.store, mark)


async def remove(catalog: Catalog, folder: str, *, known: frozenset[str], now: datetime) -> int:
    """Remove the bytes of a backup that is marked as deleted, or what an earlier attempt left; return how many objects.

    `known` are the manifests that were there when it was judged: a new one beside it may build on it.

    Raises:
        Busy: since it was judged, somebody began to read it, pinned it, holds it, or took another backup beside it.
        Refused: the store does not let go of it, for example because its objects are locked for a time.
        Unreachable: the store could not be read or written.
    """
    manifest = f"{folder}/{MANIFEST}"
    beside = await asyncio.to_thread(catalog.keys, str(PurePosixPath(folder).parent))
    if new := [key for key in beside if PurePosixPath(key).name == MANIFEST and key not in known]:
        raise Busy(f"{folder} was not removed: {new[0]} has just been published beside it")
    mine = [key for key in beside if key.startswith(f"{folder}/")]
    removed = 0
    if manifest in mine:
        _refuse_if(folder, _kept(mine))
        _refuse_if(folder, _read(mine, now))
        catalog.memory.forget(PurePosixPath(folder).name)  # or its absence would look like an attack
        await remove_objects(catalog.store, [manifest])
        removed += 1
        # A reader marks first and looks for the manifest then; so whoever found it is seen here.
        mine = await asyncio.to_thread(catalog.keys, folder)
    await asyncio.to_thread(catalog.memory.forget, PurePosixPath(folder).name)
    _refuse_if(folder, _read(mine, now))
    marks = [key for key in mine if _is_deleted_mark(key)]
    rest = [*(key for key in mine if key not in marks and key != manifest), *marks]
    await remove_objects(catalog.store, rest)
    return removed + len(rest)


def marks_among(keys: Iterable[str]) -> tuple[Mark, ...]:
    """Return the marks among some keys."""
    return tuple(mark for key in keys if (mark := parse_mark(key)))


def remains(keys: Iterable[str]) -> set[str]:
    """Return the folders whose manifest is gone and whose `deleted` mark is not: a removal was cut there."""
    keys = list(keys)
    whole = {str(PurePosixPath(key).parent) for key in keys if PurePosixPath(key).name == MANIFEST}
    return {str(PurePosixPath(mark.key).parent) for mark in marks_among(keys) if mark.what == "deleted"} - whole


def _kept(keys: Sequence[str]) -> str:
    kept = newest(marks_among(keys), "pinned", "held")
    return f"it is {kept.what}" if kept else ""


def _read(keys: Sequence[str], now: datetime) -> str:
    return "somebody reads it" if is_in_use(marks_among(keys), now) else ""


def _refuse_if(folder: str, why: str) -> None:
    if why:
        raise Busy(f"{folder} was not removed: {why}")


def _is_deleted_mark(key: str) -> bool:
    mark = parse_mark(key)
    return mark is not None and mark.what == "deleted"
