"""Retention carried out: what the rule says of each backup of a repository, and what was done about it."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

from reanimate.backups.catalog import MANIFEST, ROOTS, Catalog, DamagedBackup, Published
from reanimate.backups.deletion import Deletion, deletion_of, mark_deleted, marks_among, remains, remove, take_back
from reanimate.backups.manifest import Manifest
from reanimate.backups.marks import Mark
from reanimate.backups.repositories import Repository, named
from reanimate.backups.retention import Policy, Stored, Verdict, judge_retention
from reanimate.backups.use import is_in_use
from reanimate.errors import Busy, ReanimateError, Refused
from reanimate.protection.keeping import carry_marks
from reanimate.storage.object_lock import lock_of

__all__ = ["RULE", "Action", "Outcome", "retain", "retain_everywhere"]

RULE = "retention"
"""Who has deleted what the rule deletes."""

Progress = Callable[[str, int, int], None]
"""Called with the repository's name, the backups done and the backups in all."""

_KIND = {"backups": "vector", "dumps": "postgres", "configs": "config"}


class Action(StrEnum):
    KEPT = "kept"
    DELETED = "deleted"  # marked now: hidden, and to be had back until its grace is over
    WAITING = "waiting"  # marked before, and its grace is not over
    REMOVED = "removed"
    TAKEN_BACK = "taken back"  # marked before, and now the rule says that it stays
    REFUSED = "refused"  # it should go and cannot


@dataclass(frozen=True)
class Outcome:
    """One backup: what the rule says, and what was done about it, or, with a dry run, would be."""

    verdict: Verdict
    action: Action
    until: datetime | None = None
    """As long it can be had back."""
    detail: str = ""


async def retain(
    repository: Repository,
    *,
    zone: str,
    now: datetime,
    dry_run: bool = False,
    on_progress: Progress | None = None,
) -> tuple[Outcome, ...]:
    """Judge every backup of a repository by its policy and act on it; by kind and subject, the newest first.

    May be cut anywhere and begun again. What the store does not let go of is an outcome, not an error.

    Raises:
        Unreachable: the store could not be read or written.
    """
    own = repository.settings.retention
    catalog = repository.catalog
    survey = await _survey(catalog, now)
    acting = _Acting(catalog, survey, timedelta(days=own.grace_days), now, dry_run)
    verdicts = judge_retention(survey.backups, now, Policy(own.days, own.weekly, own.monthly, ZoneInfo(zone)))
    outcomes = {}
    # What builds on another goes before it, so that a kill in between leaves nothing without its base.
    for verdict in sorted(verdicts, key=lambda verdict: verdict.backup.base is None):
        outcomes[verdict] = await acting.on(verdict)
        if on_progress:
            on_progress(repository.name, len(outcomes), len(verdicts))
    cut = [await acting.on_remains(folder, deletion) for folder, deletion in survey.remains.items()]
    return (*(outcomes[verdict] for verdict in verdicts), *cut)


async def retain_everywhere(
    repositories: dict[str, Repository],
    *,
    zone: str,
    now: datetime,
    dry_run: bool = False,
    only: str | None = None,
    on_progress: Progress | None = None,
) -> dict[str, tuple[Outcome, ...]]:
    """Do so in every repository, or only in one; what was proven of a backup holds for its copies in the others.

    Raises:
        NotFound: no repository is called `only`.
        Unreachable: a repository could not be read or written; those before it in the settings are done.
    """
    wanted = [named(repositories, only)] if only else list(repositories.values())
    first = named(repositories, None)
    outcomes = {}
    for repository in wanted:
        if repository is not first and not dry_run:
            await carry_marks(first.catalog, repository.catalog)
        outcomes[repository.name] = await retain(
            repository, zone=zone, now=now, dry_run=dry_run, on_progress=on_progress
        )
    return outcomes


@dataclass(frozen=True)
class _Survey:
    """What a repository holds."""

    backups: tuple[Stored, ...]
    folders: Mapping[str, str]
    """By id."""
    marks: Mapping[str, tuple[Mark, ...]]
    """By folder."""
    deletions: Mapping[str, Deletion]
    """By folder, what somebody who is trusted has said."""
    remains: Mapping[str, Deletion]
    """By folder, where a removal was cut."""
    manifests: frozenset[str]
    damage: Mapping[str, str]
    """By id, what is wrong with those that cannot be used."""


async def _survey(catalog: Catalog, now: datetime) -> _Survey:
    def read() -> tuple[Sequence[Published[Any]], Mapping[str, DamagedBackup], list[str]]:
        # The keys first: a backup published in between is not among them, and stops a removal beside it.
        keys = [key for root in ROOTS for key in catalog.keys(root)]
        published = catalog.published(Manifest)
        there = set(keys)  # a damaged backup may also be one that has vanished
        return published, {one.key: one for one in catalog.damaged() if one.key in there}, keys

    published, damaged, keys = await asyncio.to_thread(read)
    marks: dict[str, list[Mark]] = {}
    for mark in marks_among(keys):
        marks.setdefault(str(PurePosixPath(mark.key).parent), []).append(mark)
    deletions = {}
    for folder, some in marks.items():
        if deletion := await deletion_of(catalog, some):
            deletions[folder] = deletion
    backups = [_stored(one, deletions.get(one.folder), now) for one in published]
    backups += [_broken(key, marks.get(_folder(key), []), deletions.get(_folder(key)), now) for key in damaged]
    return _Survey(
        tuple(backups),
        {one.manifest.id: one.folder for one in published} | {one.id: _folder(key) for key, one in damaged.items()},
        {folder: tuple(some) for folder, some in marks.items()},
        deletions,
        {folder: deletions[folder] for folder in sorted(remains(keys) & deletions.keys())},
        frozenset(key for key in keys if PurePosixPath(key).name == MANIFEST),
        {one.id: one.reason for one in damaged.values()},
    )


def _stored(one: Published[Any], deletion: Deletion | None, now: datetime) -> Stored:
    manifest = one.manifest
    whats = {mark.what for mark in one.marks}
    return Stored(
        id=manifest.id,
        kind=manifest.kind,
        subject=manifest.subject,
        taken_at=manifest.taken_at,
        size=manifest.stored_bytes,
        empty=getattr(manifest, "exact_count", None) == 0,
        base=manifest.base,
        proven_at=one.proven_at,
        pinned="pinned" in whats,
        held="held" in whats,
        in_use=is_in_use(one.marks, now),
        damaged=one.last_proof is not None and one.proven_at is None,
        unwanted=_unwanted(deletion),
        parts_in=frozenset(PurePosixPath(part.blob).parent.name for part in manifest.parts) - {manifest.id},
    )


def _broken(key: str, marks: Iterable[Mark], deletion: Deletion | None, now: datetime) -> Stored:
    """Describe a backup whose manifest cannot be used, by where it lies."""
    root, subject, id_, _ = PurePosixPath(key).parts
    whats = {mark.what for mark in marks}
    return Stored(
        id=id_,
        kind=_KIND[root],
        subject=subject,
        taken_at=_taken_at(id_, now),
        size=0,
        pinned="pinned" in whats,
        held="held" in whats,
        in_use=is_in_use(marks, now),
        damaged=True,
        unwanted=_unwanted(deletion),
    )


def _taken_at(backup_id: str, else_: datetime) -> datetime:
    """Return when a backup was taken, as its id says."""
    try:
        return datetime.strptime(backup_id.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return else_


def _unwanted(deletion: Deletion | None) -> str:
    return f"deleted by {deletion.by}: {deletion.reason}" if deletion and deletion.by != RULE else ""


def _folder(key: str) -> str:
    return str(PurePosixPath(key).parent)


@dataclass(frozen=True)
class _Acting:
    """One round of carrying verdicts out."""

    catalog: Catalog
    survey: _Survey
    grace: timedelta
    now: datetime
    dry_run: bool

    async def on(self, verdict: Verdict) -> Outcome:
        folder = self.survey.folders[verdict.backup.id]
        marks = self.survey.marks.get(folder, ())
        deletion = self.survey.deletions.get(folder)
        if verdict.keep:
            return await self._keep(verdict, marks, deletion)
        if deletion is None:
            if not self.dry_run:
                reason = "; ".join(verdict.reasons)
                await mark_deleted(
                    self.catalog, folder, by=RULE, reason=reason, until=self.now + self.grace, now=self.now
                )
            return Outcome(verdict, Action.DELETED, self.now + self.grace)
        if self.now < deletion.until:
            return Outcome(verdict, Action.WAITING, deletion.until)
        return await self._remove(verdict, folder)

    async def _keep(self, verdict: Verdict, marks: Sequence[Mark], deletion: Deletion | None) -> Outcome:
        if verdict.backup.unwanted:
            return Outcome(verdict, Action.REFUSED, detail=verdict.backup.unwanted)
        if not any(mark.what == "deleted" for mark in marks):
            return Outcome(verdict, Action.KEPT, detail=self.survey.damage.get(verdict.backup.id, ""))
        if not self.dry_run:
            await take_back(self.catalog, marks)
        why = "the rule had deleted it" if deletion else "nobody who is trusted had deleted it"
        return Outcome(verdict, Action.TAKEN_BACK, detail=why)

    async def on_remains(self, folder: str, deletion: Deletion) -> Outcome:
        """Go on where a removal was cut."""
        root, subject, id_ = PurePosixPath(folder).parts
        gone = Stored(id=id_, kind=_KIND[root], subject=subject, taken_at=deletion.mark.at, size=0)
        reasons = (deletion.reason, "its removal was cut before")
        return await self._remove(Verdict(gone, False, reasons), folder)

    async def _remove(self, verdict: Verdict, folder: str) -> Outcome:
        locked = await self._locked(folder)
        if not self.dry_run:
            try:
                await remove(self.catalog, folder, known=self.survey.manifests, now=self.now)
            except (Busy, Refused) as error:
                return Outcome(verdict, Action.REFUSED, detail=str(error))
        return Outcome(verdict, Action.REMOVED, detail=locked)

    async def _locked(self, folder: str) -> str:
        """Say what an object lock of the bucket makes of a removal, if it has one."""
        try:
            lock = await lock_of(self.catalog.store, f"{folder}/{MANIFEST}")
        except ReanimateError:
            return ""  # the removal itself says what is wrong
        return lock.told if lock and lock.holds(self.now) else ""
