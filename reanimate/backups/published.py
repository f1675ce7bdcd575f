"""What a repository says it holds: backups that exist, and those that cannot be used, and why."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Generic, TypeVar

from reanimate.backups.manifest import Manifest, VectorManifest
from reanimate.backups.marks import Mark, newest
from reanimate.backups.memory import Seen

__all__ = ["DamagedBackup", "Listing", "Published", "doubted", "seen_of"]

M_co = TypeVar("M_co", bound=Manifest, covariant=True)


@dataclass(frozen=True)
class DamagedBackup:
    """A backup that cannot be used, and why."""

    id: str
    key: str
    reason: str


@dataclass(frozen=True)
class Published(Generic[M_co]):
    """A backup that exists: its manifest, the hash of that as it is stored, and the marks beside it."""

    manifest: M_co
    key: str
    sha256: str
    marks: tuple[Mark, ...] = ()

    @property
    def folder(self) -> str:
        return str(PurePosixPath(self.key).parent)

    @property
    def deleted(self) -> Mark | None:
        """The mark of one that is to be removed after its grace."""
        return newest(self.marks, "deleted")

    @property
    def last_proof(self) -> Mark | None:
        """The newest proof, passed or failed."""
        return newest(self.marks, "proof-passed", "proof-failed")

    @property
    def proven_at(self) -> datetime | None:
        """When it was last proven, if the newest proof passed."""
        proof = self.last_proof
        return proof.at if proof and proof.what == "proof-passed" else None


@dataclass(frozen=True)
class Listing:
    """Everything that calls itself a vector backup: newest first, and those that cannot be used."""

    published: tuple[Published[VectorManifest], ...]
    damaged: tuple[DamagedBackup, ...]
    deleted: tuple[Published[VectorManifest], ...] = ()
    """Marked as deleted: not offered, and there until the grace is over."""

    @property
    def manifests(self) -> tuple[VectorManifest, ...]:
        return tuple(one.manifest for one in self.published)


def seen_of(entry: Published[Any]) -> Seen:
    """Return what to remember of a backup."""
    taken_at = entry.manifest.taken_at.astimezone(UTC).isoformat(timespec="microseconds")
    return Seen(entry.key, entry.manifest.id, entry.sha256, taken_at)


def doubted(
    found: Mapping[str, Published[Any]], damaged: Collection[DamagedBackup], remembered: Iterable[Seen]
) -> list[DamagedBackup]:
    """Return the backups that cannot be used although each manifest by itself is right, and those that are gone.

    `found` are the right ones by key, `damaged` what is known already, `remembered` what was once the newest here.
    """
    doubts = {one.key: one for one in (*_replaced(found.values()), *_rolled_back(found, damaged, remembered))}
    broken = {one.id: one for one in (*damaged, *doubts.values())}
    usable = {entry.manifest.id for key, entry in found.items() if key not in doubts}
    for key, entry in found.items():
        base = entry.manifest.base
        if base is not None and base not in usable and key not in doubts:
            why = broken[base].reason if base in broken else "it is not in this repository"
            reason = f"it holds only what changed since {base}, which cannot be used: {why}"
            doubts[key] = DamagedBackup(entry.manifest.id, key, reason)
    return [*doubts.values()]


def _replaced(entries: Iterable[Published[Any]]) -> list[DamagedBackup]:
    """Find manifests that are not those which their successors were linked to: rightly signed, and put there since."""
    by_id = {entry.manifest.id: entry for entry in entries}
    found = []
    for entry in by_id.values():
        link = entry.manifest.previous
        before = by_id.get(link.id) if link else None
        if link and before and before.sha256 != link.sha256:
            reason = f"the manifest {before.key} is not the one that was there when {entry.manifest.id} was published"
            found.append(DamagedBackup(before.manifest.id, before.key, reason))
    return found


def _rolled_back(
    found: Mapping[str, Published[Any]], damaged: Collection[DamagedBackup], remembered: Iterable[Seen]
) -> list[DamagedBackup]:
    """Find what was once the newest here and is now another or gone: the repository was put back to an older state."""
    known = {one.key for one in damaged}
    doubts = []
    for seen in remembered:
        there = found.get(seen.key)
        if seen.key in known or (there and there.sha256 == seen.sha256):
            continue
        if there:
            reason = f"the manifest {seen.key} is another than when it was the newest here"
        else:
            reason = (
                f"it was the newest in {PurePosixPath(seen.subject)} and is gone: somebody removed it or put the "
                "repository back to an older state; if that was meant, `reanimate backup forget` it"
            )
        doubts.append(DamagedBackup(seen.id, seen.key, reason))
    return doubts
