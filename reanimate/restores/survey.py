"""What every repository has of a collection, each copy with its proof and with whether its bytes are there."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from reanimate.backups.catalog import ROOTS, Catalog, DamagedBackup, Listing, Published, backup_prefix
from reanimate.backups.manifest import VectorManifest, base_name
from reanimate.backups.marks import newest
from reanimate.errors import Unreachable
from reanimate.restores.candidates import Copy, Proof, proof_of

__all__ = ["Survey", "survey"]


@dataclass(frozen=True)
class Survey:
    """All copies, newest first and by repository; what cannot be used at all; repositories that cannot be read."""

    copies: tuple[Copy, ...]
    damaged: tuple[tuple[str, DamagedBackup], ...]
    unread: Mapping[str, str]

    def copy(self, repository: str, backup_id: str) -> Copy | None:
        """Return one copy, if it is there."""
        named = (copy for copy in self.copies if (copy.repository, copy.manifest.id) == (repository, backup_id))
        return next(named, None)

    def without(self, repository: str, backup_id: str, why: str) -> "Survey":
        """Return it with one copy that cannot be had, and why."""
        copies = (
            replace(copy, missing=why) if (copy.repository, copy.manifest.id) == (repository, backup_id) else copy
            for copy in self.copies
        )
        return replace(self, copies=tuple(copies))


def survey(catalogs: Mapping[str, Catalog], collection: str, *, now: datetime, expires: timedelta) -> Survey:
    """Look into every repository, in their order. Blocks.

    Raises:
        Unreachable: none of them can be read.
    """
    copies: list[Copy] = []
    damaged: list[tuple[str, DamagedBackup]] = []
    unread: dict[str, str] = {}
    with ThreadPoolExecutor(len(catalogs)) as pool:  # one that hangs must not make the others wait their turn
        looks = {name: pool.submit(_look, catalog) for name, catalog in catalogs.items()}
    for name, look in looks.items():
        try:
            listing, sizes = look.result()
        except Unreachable as error:
            unread[name] = str(error)
            continue
        ours = [one for one in listing.published if one.manifest.answers_to(collection)]
        copies += [
            Copy(name, one.manifest, _proof(one, now, expires), _missing(one.manifest, listing, sizes, name))
            for one in ours
        ]
        damaged += [(name, one) for one in _of_this(listing.damaged, collection, (one.manifest for one in ours))]
    if unread and len(unread) == len(catalogs):
        raise Unreachable("; ".join(unread.values()))
    copies.sort(key=lambda copy: (copy.manifest.taken_at, copy.manifest.id), reverse=True)  # stable: repositories stay
    return Survey(tuple(copies), tuple(damaged), unread)


def _look(catalog: Catalog) -> tuple[Listing, dict[str, int]]:
    return catalog.listing(), catalog.sizes(ROOTS[0])


def _proof(one: Published[VectorManifest], now: datetime, expires: timedelta) -> Proof:
    passed, failed = newest(one.marks, "proof-passed"), newest(one.marks, "proof-failed")
    return proof_of(passed.at if passed else None, failed.at if failed else None, now, expires)


def _missing(manifest: VectorManifest, listing: Listing, sizes: Mapping[str, int], repository: str) -> str | None:
    """Say why a backup's bytes cannot be had from a repository, as far as a listing shows."""
    if lacking := _lacking(manifest, sizes):
        return f"{lacking} in {repository}"
    if manifest.base is None:
        return None
    for one in (*listing.published, *listing.deleted):
        if one.manifest.id == manifest.base:
            lacking = _lacking(one.manifest, sizes)
            return (
                f"of the full backup {manifest.base} that it builds on, {lacking} in {repository}" if lacking else None
            )
    return f"the full backup {manifest.base} that it builds on is not in {repository}"


def _lacking(manifest: VectorManifest, sizes: Mapping[str, int]) -> str | None:
    for part in manifest.parts:
        if part.blob not in sizes:
            return f"{part.name} is missing"
        if sizes[part.blob] != part.stored_size:
            return f"{part.name} has {sizes[part.blob]} bytes instead of {part.stored_size}"
    return None


def _of_this(
    damaged: Iterable[DamagedBackup], collection: str, manifests: Iterable[VectorManifest]
) -> list[DamagedBackup]:
    """Return those that lie where this collection's backups do; what they are cannot be read from themselves."""
    subjects = {collection, base_name(collection), *(manifest.subject for manifest in manifests)}
    folders = {str(PurePosixPath(backup_prefix(subject, "x")).parent) for subject in subjects}
    return [one for one in damaged if str(PurePosixPath(one.key).parent.parent) in folders]
