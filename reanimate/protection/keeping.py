"""What people say of a backup: keep it, hold it by law, delete it, have it back. In every repository that has it."""

import asyncio
import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from reanimate.backups.catalog import Catalog, Published
from reanimate.backups.deletion import mark_deleted, marks_among, take_back
from reanimate.backups.manifest import Manifest
from reanimate.backups.marks import Mark, What, remove_mark, write_mark
from reanimate.backups.repositories import Repository
from reanimate.errors import NotFound, Refused
from reanimate.storage.blobs import create_object, read_object

__all__ = ["by_hand", "carry_marks", "delete", "mark", "take_mark_back", "undelete"]

_CARRIED = ("proof-passed", "proof-failed", "pinned", "held")


def by_hand() -> str:
    """Return who sits at this terminal."""
    return f"by hand: {getpass.getuser()}"


@dataclass(frozen=True)
class _Place:
    """One repository's copy of a backup; `manifest` is None when it is damaged there."""

    repository: Repository
    folder: str
    marks: tuple[Mark, ...]
    manifest: Manifest | None


async def mark(
    repositories: Mapping[str, Repository], backup_id: str, what: What, *, by: str, reason: str, now: datetime
) -> list[str]:
    """Pin a backup or hold it; return the names of the repositories that have it.

    Raises:
        NotFound: no repository has it.
        Unreachable: a repository could not be read or written; those before it in the settings are done.
    """
    places = await asyncio.to_thread(_places, repositories, backup_id)
    content = {"backup": backup_id, "by": by, "reason": reason}
    for place in places:
        catalog = place.repository.catalog
        await write_mark(catalog.store, place.folder, what, content, catalog.keyring, now=now)
    return [place.repository.name for place in places]


async def take_mark_back(repositories: Mapping[str, Repository], backup_id: str, what: What) -> list[str]:
    """Unpin a backup or release it; return the names of the repositories where it was.

    Raises:
        NotFound: no repository has it, or it is not marked so.
        Unreachable: as `mark`.
    """
    done = []
    for place in await asyncio.to_thread(_places, repositories, backup_id):
        if mine := [mark for mark in place.marks if mark.what == what]:
            for one in mine:
                await remove_mark(place.repository.catalog.store, one)
            done.append(place.repository.name)
    if not done:
        raise NotFound(f"{backup_id} is not {what}")
    return done


async def delete(
    repositories: Mapping[str, Repository], backup_id: str, *, by: str, reason: str, now: datetime, force: bool = False
) -> dict[str, datetime]:
    """Hide a backup everywhere; return, by repository, until when it can be had back. Retention then removes it.

    Raises:
        NotFound: no repository has it.
        Refused: it is held or pinned; or it is the only proven one, or others build on it, and nobody insists.
        Unreachable: as `mark`.
    """
    places = await asyncio.to_thread(_places, repositories, backup_id)
    for place in places:
        if why := await asyncio.to_thread(_needed, place, force):
            raise Refused(f"{backup_id} is not deleted: {why[0]}", hint=why[1])
    until = {}
    for place in places:
        settings, catalog = place.repository.settings, place.repository.catalog
        end = now + timedelta(days=settings.retention.grace_days)
        await mark_deleted(catalog, place.folder, by=by, reason=reason, until=end, now=now)
        until[place.repository.name] = end
    return until


async def undelete(
    repositories: Mapping[str, Repository], backup_id: str, *, by: str, reason: str, now: datetime
) -> list[str]:
    """Have a deleted backup back, and pin it, or the next retention would delete it again.

    Raises:
        NotFound: no repository has it (any more), or it is not deleted.
        Unreachable: as `mark`.
    """
    places = await asyncio.to_thread(_places, repositories, backup_id)
    deleted = [place for place in places if any(mark.what == "deleted" for mark in place.marks)]
    if not deleted:
        raise NotFound(f"{backup_id} is not deleted", hint="`reanimate backup list` shows it")
    content = {"backup": backup_id, "by": by, "reason": reason}
    for place in deleted:
        catalog = place.repository.catalog
        await write_mark(catalog.store, place.folder, "pinned", content, catalog.keyring, now=now)
        await take_back(catalog, place.marks)
    return [place.repository.name for place in deleted]


async def carry_marks(source: Catalog, to: Catalog) -> int:
    """Bring proofs, pins and holds to the copies that another repository has; return how many marks that were.

    What was proven of one copy holds for the other as long as both consist of the same bytes.

    Raises:
        Unreachable: one of them could not be read or written.
    """
    theirs = {one.manifest.id: one for one in await asyncio.to_thread(to.published, Manifest)}
    carried = 0
    for one in await asyncio.to_thread(source.published, Manifest):
        copy = theirs.get(one.manifest.id)
        if copy is None or _bytes_of(copy) != _bytes_of(one):
            continue
        there = {PurePosixPath(mark.key).name for mark in copy.marks}
        for mark in one.marks:
            name = PurePosixPath(mark.key).name
            if mark.what in _CARRIED and name not in there:
                await create_object(to.store, f"{copy.folder}/{name}", await read_object(source.store, mark.key))
                carried += 1
    return carried


def _bytes_of(one: Published[Manifest]) -> set[tuple[str, str]]:
    return {(part.name, part.sha256) for part in one.manifest.parts}


def _places(repositories: Mapping[str, Repository], backup_id: str) -> list[_Place]:
    found = []
    for repository in repositories.values():
        catalog = repository.catalog
        for one in catalog.published(Manifest):
            if one.manifest.id == backup_id:
                found.append(_Place(repository, one.folder, one.marks, one.manifest))
        for damaged in catalog.damaged():
            if damaged.id == backup_id:
                folder = str(PurePosixPath(damaged.key).parent)
                found.append(_Place(repository, folder, marks_among(catalog.keys(folder)), None))
    if not found:
        raise NotFound(
            f"no published backup is called {backup_id!r}", hint="`reanimate backup list` shows those there are"
        )
    return found


def _needed(place: _Place, force: bool) -> tuple[str, str] | None:
    """Return why a backup should not be deleted, and what to do instead."""
    whats = {mark.what for mark in place.marks}
    if "held" in whats:
        return "it is under legal hold", "`reanimate backup release` ends that"
    if "pinned" in whats:
        return "it is pinned", "`reanimate backup unpin` ends that"
    if force or place.manifest is None:
        return None
    others = [
        one
        for one in place.repository.catalog.published(Manifest)
        if not one.deleted and one.manifest.id != place.manifest.id
    ]
    if builders := [one.manifest.id for one in others if one.manifest.base == place.manifest.id]:
        return f"{len(builders)} others build on it, such as {builders[0]}", "delete those first"
    same = [one for one in others if (one.manifest.kind, one.manifest.subject) == _subject(place.manifest)]
    if not any(one.proven_at for one in same):
        return f"no other backup of {place.manifest.subject} is proven", "insist with --force"
    return None


def _subject(manifest: Manifest) -> tuple[str, str]:
    return manifest.kind, manifest.subject
