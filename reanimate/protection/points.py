"""Recovery points: every backup that any repository holds, with what has been said of it, as people look at them."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, Literal

from reanimate.backups.catalog import Catalog, DamagedBackup, Published, backup_prefix
from reanimate.backups.deletion import deletion_of
from reanimate.backups.manifest import Manifest, VectorManifest, base_name
from reanimate.backups.marks import newest
from reanimate.backups.repositories import Repository
from reanimate.backups.use import is_in_use
from reanimate.config_history.versions import ConfigManifest
from reanimate.dumps.manifest import PostgresManifest
from reanimate.errors import ReanimateError

__all__ = ["KINDS", "ProofState", "RecoveryPoint", "read_points", "thing_of"]

KINDS: dict[str, type[Manifest]] = {"vector": VectorManifest, "postgres": PostgresManifest, "config": ConfigManifest}
"""Every kind of backup, by its name in manifests."""

ProofState = Literal["proven", "expired", "unproven", "failed", "damaged"]
"""expired: it was proven, too long ago. failed: its newest proof says that it is not right. damaged: cannot be used."""

_WITHOUT_PROOF: ProofState = "unproven"


@dataclass(frozen=True)
class RecoveryPoint:
    """One backup, wherever copies of it are."""

    id: str
    kind: str
    subject: str
    """The thing that it is a backup of; see `thing_of`."""
    names: tuple[str, ...]
    """Every name by which somebody may ask for it: the subject, its aliases."""
    taken_at: datetime
    repositories: tuple[str, ...]
    base: str | None = None
    """Of one that holds changes only: the full backup that it builds on."""
    holds: int | None = None
    """Points, rows, or files and settings."""
    size_bytes: int = 0
    """As it is stored."""
    recovery_point: str | None = None
    proof: ProofState = _WITHOUT_PROOF
    proof_at: datetime | None = None
    proof_expires_at: datetime | None = None
    marks: tuple[str, ...] = ()
    """Of: pinned, held, in use."""
    deleted_until: datetime | None = None
    """It is deleted, everywhere; until then it can be had back."""
    trouble: str = ""
    """Why it cannot be used, or what its manifest warns of."""

    @property
    def full(self) -> bool:
        return self.base is None

    def answers_to(self, name: str) -> bool:
        """Say whether somebody who asks for `name` means it."""
        return name in self.names or thing_of(self.kind, name) == self.subject

    @property
    def usable(self) -> bool:
        return self.deleted_until is None and self.proof not in ("damaged", "failed")


def thing_of(kind: str, subject: str) -> str:
    """Return what people call a subject: a restore gives a collection another name, and it stays the same thing."""
    return base_name(subject) if kind == "vector" else subject


async def read_points(
    repositories: Mapping[str, Repository], *, proofs_last: timedelta, now: datetime
) -> tuple[tuple[RecoveryPoint, ...], dict[str, str]]:
    """Return the recovery points of all repositories, newest first, and by repository why one could not be read."""
    found: dict[str, RecoveryPoint] = {}
    unread: dict[str, str] = {}
    for name, repository in repositories.items():
        try:
            some = await _points_in(name, repository.catalog, proofs_last, now)
        except ReanimateError as error:
            unread[name] = str(error)
            continue
        for point in some:
            found[point.id] = _together(found[point.id], point) if point.id in found else point
    return tuple(sorted(found.values(), key=lambda point: (point.taken_at, point.id), reverse=True)), unread


async def _points_in(name: str, catalog: Catalog, proofs_last: timedelta, now: datetime) -> list[RecoveryPoint]:
    def read() -> list[tuple[str, tuple[Published[Any], ...], tuple[DamagedBackup, ...]]]:
        return [(kind, catalog.published(of), catalog.damaged(of)) for kind, of in KINDS.items()]

    points = []
    for kind, published, damaged in await asyncio.to_thread(read):
        subjects = {_folder(one.manifest.subject): one.manifest.subject for one in published}
        points += [_damaged(kind, name, one, subjects, now) for one in damaged]
        for one in published:
            deletion = await deletion_of(catalog, one.marks) if one.deleted else None
            points.append(_point(name, one, proofs_last, now, deletion.until if deletion else None))
    return points


def _point(
    repository: str, one: Published[Any], proofs_last: timedelta, now: datetime, deleted_until: datetime | None
) -> RecoveryPoint:
    manifest = one.manifest
    proof = one.last_proof
    expires_at = proof.at + proofs_last if proof else None
    return RecoveryPoint(
        id=manifest.id,
        kind=manifest.kind,
        subject=thing_of(manifest.kind, manifest.subject),
        names=tuple(dict.fromkeys([manifest.subject, *_other_names(manifest)])),
        taken_at=manifest.taken_at.astimezone(UTC),
        repositories=(repository,),
        base=manifest.base,
        holds=_holds(manifest),
        size_bytes=manifest.stored_bytes,
        recovery_point=manifest.recovery_point,
        proof=_proof_state(proof is not None, one.proven_at is not None, expires_at, now),
        proof_at=proof.at if proof else None,
        proof_expires_at=expires_at if one.proven_at else None,
        marks=tuple(
            word
            for word, there in (
                ("pinned", newest(one.marks, "pinned") is not None),
                ("held", newest(one.marks, "held") is not None),
                ("in use", is_in_use(one.marks, now)),
            )
            if there
        ),
        deleted_until=deleted_until,
        trouble="; ".join(manifest.warnings),
    )


def _proof_state(tried: bool, passed: bool, expires_at: datetime | None, now: datetime) -> ProofState:
    if not tried:
        return _WITHOUT_PROOF
    if not passed:
        return "failed"
    return "proven" if expires_at is None or now < expires_at else "expired"


def _other_names(manifest: Manifest) -> Iterable[str]:
    return (manifest.asked_as, *manifest.aliases) if isinstance(manifest, VectorManifest) else ()


def _holds(manifest: Manifest) -> int | None:
    if isinstance(manifest, VectorManifest):
        return manifest.exact_count
    if isinstance(manifest, PostgresManifest):
        return sum(table.rows for table in manifest.facts.tables)
    return len(manifest.versions) if isinstance(manifest, ConfigManifest) else None


def _damaged(
    kind: str, repository: str, one: DamagedBackup, subjects: Mapping[str, str], now: datetime
) -> RecoveryPoint:
    """Describe what cannot be used by where it lies, since what it says of itself is not to be trusted."""
    folder = PurePosixPath(one.key).parts[1]
    subject = thing_of(kind, subjects.get(folder, folder))
    return RecoveryPoint(
        id=one.id,
        kind=kind,
        subject=subject,
        names=(subject,),
        taken_at=_taken_at(one.id) or now,
        repositories=(repository,),
        proof="damaged",
        trouble=one.reason,
    )


def _folder(subject: str) -> str:
    return PurePosixPath(backup_prefix(subject, "id")).parts[1]


def _taken_at(backup_id: str) -> datetime | None:
    try:
        return datetime.strptime(backup_id.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


_TRUST: tuple[ProofState, ...] = ("proven", "expired", "unproven", "failed", "damaged")


def _together(one: RecoveryPoint, other: RecoveryPoint) -> RecoveryPoint:
    """Say as one what two repositories say of their copies: it is as good as the better of them."""
    better, worse = sorted((one, other), key=lambda point: (_TRUST.index(point.proof), point is other))
    both = (one.deleted_until, other.deleted_until)
    return RecoveryPoint(
        **{
            **better.__dict__,
            "repositories": (*one.repositories, *other.repositories),
            "marks": tuple(dict.fromkeys((*one.marks, *other.marks))),
            "deleted_until": None if None in both else max(filter(None, both)),
            "trouble": better.trouble or (f"{worse.repositories[0]}: {worse.trouble}" if worse.trouble else ""),
        }
    )
