"""Copies of backups in another repository: the stored bytes as they are, held against the manifest on the way.

Parts go first and the manifest last, so that a copy exists whole or not at all; what a cut copy left is used by the
next one. Nothing is unpacked or sealed anew: who could not open the original cannot open the copy.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Collection, Generator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from reanimate.backups.catalog import MANIFEST, ROOTS, Catalog
from reanimate.backups.manifest import Manifest, Part
from reanimate.backups.marks import Mark
from reanimate.backups.published import Published
from reanimate.backups.use import in_use
from reanimate.clock import utcnow
from reanimate.errors import Damaged, NotFound, ReanimateError, Refused
from reanimate.storage.belts import Chunk, Stop, Stopped, ahead, run_stoppable
from reanimate.storage.blobs import create_object, read_object, remove_objects
from reanimate.storage.transport import hash_object, object_ranges, object_size, put_stream, sweep_staging

__all__ = ["ABANDONED_AFTER", "Copied", "copy_backup", "sweep_copies", "to_copy"]

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

NOTE = "copying.json"
ABANDONED_AFTER = timedelta(days=7)
"""What a cut copy left is kept this long for the next attempt, then swept up."""
_CARRIED = ("pinned", "held", "proof-passed", "proof-failed")
"""Marks that are as true of the same bytes elsewhere."""


@dataclass(frozen=True)
class Copied:
    """What a copy came to. `sent` are bytes; what was there already, whole and right, was not sent again."""

    id: str
    sent: int
    there: int
    new: bool
    """False when the other repository had this backup already."""


def to_copy(source: Catalog, target: Catalog, backup_ids: Collection[str] | None = None) -> list[Published[Manifest]]:
    """Return what a copy of some backups (None: all of them) has to bring over, in an order that keeps it usable.

    What a backup builds on comes along and comes first, however it was called for; then by age, oldest first. Of all,
    those that are marked as deleted, and those that cannot be used, are left out; of named ones they are an error.

    Raises:
        NotFound: there is none of that name.
        Damaged: one that is named cannot be used.
        Refused: one that is named is marked as deleted.
        Unreachable: a repository could not be read.
    """
    usable = {one.manifest.id: one for one in source.published(Manifest)}
    if backup_ids is None:
        wanted = [one for one in usable.values() if not one.deleted]
    else:
        wanted = [usable[each] if each in usable else source.find(each, Manifest) for each in backup_ids]
        for one in wanted:
            if one.deleted:
                raise Refused(f"{one.manifest.id} is marked as deleted", hint="take that back first")
    chosen: dict[str, Published[Manifest]] = {}
    for one in sorted(wanted, key=lambda one: (one.manifest.taken_at, one.manifest.id)):
        if one.manifest.base is not None:  # usable, or this one would not be
            chosen.setdefault(one.manifest.base, usable[one.manifest.base])
        chosen.setdefault(one.manifest.id, one)
    there = {one.key: one.sha256 for one in target.published(Manifest)}
    return [one for one in chosen.values() if there.get(one.key) != one.sha256]


async def copy_backup(
    source: Catalog, target: Catalog, backup: Published[Manifest], on_progress: Progress | None = None
) -> Copied:
    """Copy one backup; what it builds on must be there already. May be cut anywhere and begun again.

    Raises:
        Damaged: a part is not what the manifest says; nothing is published.
        Refused: the other repository holds another backup by that id, or does not allow it.
        NotFound: the backup was removed meanwhile.
        Unreachable: a repository could not be read or written.
    """
    manifest = backup.manifest
    content = await read_object(source.store, backup.key)
    if hashlib.sha256(content).hexdigest() != backup.sha256:
        raise Damaged(f"copying {manifest.id}: its manifest changed since it was read")
    if await _has_manifest(target, backup.key, content):
        await _carry_marks(source, target, backup)
        return Copied(manifest.id, 0, manifest.stored_bytes, new=False)
    report = on_progress or (lambda done, total: None)
    note = f"{backup.folder}/{NOTE}"
    sent = there = 0
    async with in_use(source, manifest, "copy", folder=backup.folder):
        await _note(target, note, utcnow())
        for part in manifest.parts:
            if await _copy_part(source, target, part, _after(sent + there, manifest.stored_bytes, report)):
                sent += part.stored_size
            else:
                there += part.stored_size
            report(sent + there, manifest.stored_bytes)
        await create_object(target.store, backup.key, content)
    await remove_objects(target.store, [note])
    await _carry_marks(source, target, backup)
    return Copied(manifest.id, sent, there, new=True)


def _after(before: int, total: int, report: Progress) -> Callable[[int], None]:
    """Return what reports of one part as of the whole, from any thread."""
    loop = asyncio.get_running_loop()

    def tell(done: int) -> None:
        loop.call_soon_threadsafe(report, before + done, total)

    return tell


async def _has_manifest(target: Catalog, key: str, content: bytes) -> bool:
    try:
        held = await read_object(target.store, key)
    except NotFound:
        return False
    if held != content:
        raise Refused(
            f"copying {PurePosixPath(key).parent.name}: the other repository holds another manifest by that id",
            hint="see which of the two is right; nothing was changed",
        )
    return True


async def _copy_part(source: Catalog, target: Catalog, part: Part, report: Callable[[int], None]) -> bool:
    """Copy a part and return True; False when it was there already, whole and right."""
    return await run_stoppable(lambda stop: _copy_bytes(source, target, part, report, stop))


def _copy_bytes(source: Catalog, target: Catalog, part: Part, report: Callable[[int], None], stop: Stop) -> bool:
    try:
        if object_size(target.store, part.blob) == part.stored_size:
            _, held = hash_object(target.store, part.blob)
            if held == part.stored_sha256:
                return False
    except NotFound:
        pass
    found = object_size(source.store, part.blob)
    if found != part.stored_size:
        raise Damaged(f"copying {part.blob}: it has {found} bytes, the manifest says {part.stored_size}")
    digest = hashlib.sha256()
    stream = ahead(_hashed(object_ranges(source.store, part.blob, found), digest.update, report, stop))
    with closing(stream):
        put_stream(target.store, part.blob, stream, at_most=found)
    if digest.hexdigest() != part.stored_sha256:
        raise Damaged(
            f"copying {part.blob}: it has SHA-256 {digest.hexdigest()}, the manifest says {part.stored_sha256}",
            hint="this backup is damaged; copy another",
        )
    return True


def _hashed(
    chunks: Generator[Chunk, None, None], update: Callable[[Chunk], None], report: Callable[[int], None], stop: Stop
) -> Generator[Chunk, None, None]:
    done = 0
    with closing(chunks):
        for chunk in chunks:
            if stop.is_set():
                raise Stopped
            update(chunk)
            done += len(chunk)
            yield chunk
            report(done)


async def _carry_marks(source: Catalog, target: Catalog, backup: Published[Manifest]) -> None:
    """Bring over what is as true there. A copy without them is a copy all the same."""
    for mark in backup.marks:
        if mark.what in _CARRIED:
            await _carry(source, target, mark)


async def _carry(source: Catalog, target: Catalog, mark: Mark) -> None:
    try:
        await create_object(target.store, mark.key, await read_object(source.store, mark.key))
    except ReanimateError as error:
        log.warning("the mark %s was not copied: %s", mark.key, error)


async def _note(target: Catalog, key: str, now: datetime) -> None:
    """Note that parts without a manifest are on their way, for whoever sweeps up."""
    try:
        await create_object(target.store, key, json.dumps({"began": now.isoformat()}).encode())
    except Refused:
        return  # an earlier attempt's


async def sweep_copies(target: Catalog, now: datetime, *, keep: Collection[str] = ()) -> list[str]:
    """Remove what abandoned copies left in a repository and return their ids; `keep` are about to be copied again.

    Raises:
        Unreachable, Refused: the repository could not be read or written.
    """
    await asyncio.to_thread(sweep_staging, target.store, now - ABANDONED_AFTER)
    swept = []
    for root in ROOTS:
        keys = await asyncio.to_thread(target.keys, root)
        for key in keys:
            folder = PurePosixPath(key).parent
            if PurePosixPath(key).name != NOTE or folder.name in keep:
                continue
            published = f"{folder}/{MANIFEST}" in keys
            if not published and now - await _began(target, key, now) < ABANDONED_AFTER:
                continue
            crumbs = [] if published else [each for each in keys if each.startswith(f"{folder}/") and each != key]
            await remove_objects(target.store, [*crumbs, key])
            swept.append(folder.name)
    return swept


async def _began(target: Catalog, key: str, now: datetime) -> datetime:
    try:
        return datetime.fromisoformat(json.loads(await read_object(target.store, key))["began"])
    except (ReanimateError, ValueError, KeyError, TypeError):
        return now  # unreadable: for a person to look at
