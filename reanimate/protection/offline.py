"""The offline standbys as schedules and commands see them: what they hold, and which backup they should."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reanimate.backups.catalog import Published
from reanimate.backups.manifest import VectorManifest, base_name
from reanimate.backups.repositories import named as repository_named
from reanimate.bootstrap import Services
from reanimate.errors import NotFound, ReanimateError, VerificationFailed
from reanimate.protection.locks import Purpose, Thing, exclusively
from reanimate.restores.offline import Refreshed, refresh
from reanimate.restores.restore import Progress
from reanimate.vector.held import HeldCopy, held_copies

__all__ = ["Attempt", "Standby", "look_at_standbys", "newest_proven", "refresh_standbys", "require_served"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Standby:
    """One offline standby: its copies, or why it does not say."""

    name: str
    url: str
    copies: tuple[HeldCopy, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class Attempt:
    """One collection on one offline standby: what became of it."""

    standby: str
    collection: str
    backup_id: str
    refreshed: Refreshed | None = None
    problem: str | None = None


def newest_proven(backups: Iterable[Published[VectorManifest]]) -> list[Published[VectorManifest]]:
    """Return for every collection the newest backup whose last proof passed; an empty one only for want of others."""
    best: dict[str, Published[VectorManifest]] = {}
    for backup in backups:
        if backup.proven_at is None or backup.deleted:
            continue
        lineage = base_name(backup.manifest.collection)
        known = best.get(lineage)
        if known is None or _worth(backup) > _worth(known):
            best[lineage] = backup
    return [best[lineage] for lineage in sorted(best)]


def _worth(backup: Published[VectorManifest]) -> tuple[bool, object, str]:
    manifest = backup.manifest
    return (manifest.exact_count > 0, manifest.taken_at, manifest.id)


async def look_at_standbys(services: Services) -> list[Standby]:
    """Ask every offline standby what it holds. One that does not answer says so in its place."""

    async def look(name: str) -> Standby:
        url = services.addresses.vector.get(name, "")
        try:
            return Standby(name, url, tuple(await held_copies(services.vector(name))))
        except ReanimateError as error:
            return Standby(name, url, problem=str(error))

    names = [target.name for target in services.settings.vector.offline_standbys]
    return list(await asyncio.gather(*(look(name) for name in names)))


async def refresh_standbys(
    services: Services,
    *,
    collections: Sequence[str] = (),
    backup_id: str | None = None,
    repository: str | None = None,
    on_progress: Progress | None = None,
) -> list[Attempt]:
    """Make every offline standby serve the newest proven backup of every collection, or of those named, or this one.

    One that fails does not keep the others; what it served it goes on serving.

    Raises:
        NotFound: no such backup or repository, or nothing that was asked for is proven.
        Unreachable: the repository could not be read.
    """
    standbys = [
        target.name
        for target in services.settings.vector.offline_standbys
        if target.url or target.name in services.addresses.vector
    ]
    if not standbys:
        return []  # none is wanted, or the system has not been started since there are any
    place = repository_named(services.repositories, repository)
    if backup_id is not None:
        chosen = [await asyncio.to_thread(place.catalog.find, backup_id, VectorManifest)]
    else:
        listed = await asyncio.to_thread(place.catalog.listing)
        chosen = newest_proven(listed.published)
        if collections:
            chosen = [one for one in chosen if any(one.manifest.answers_to(name) for name in collections)]
        if not chosen and (collections or listed.published):
            of = f" of {', '.join(collections)}" if collections else ""
            raise NotFound(
                f"no backup{of} in {place.name} is proven, and an offline standby takes no other by itself",
                hint="`reanimate prove` proves them; `reanimate offline refresh --backup ID` takes one as it is",
            )
    return [
        await _attempt(services, standby, place.name, backup, on_progress) for standby in standbys for backup in chosen
    ]


def require_served(attempts: Sequence[Attempt]) -> list[str]:
    """Say in a line each what is served.

    Raises:
        VerificationFailed: some standby keeps what it holds; the message says which, and why.
    """
    if problems := [f"{one.standby}, {one.collection}: {one.problem}" for one in attempts if one.problem]:
        raise VerificationFailed(f"what was served is served: {'; '.join(problems)}")
    return [f"{one.standby}: {one.backup_id}" for one in attempts]


async def _attempt(
    services: Services,
    standby: str,
    repository: str,
    backup: Published[VectorManifest],
    on_progress: Progress | None,
) -> Attempt:
    manifest = backup.manifest
    thing = Thing("offline", standby, base_name(manifest.collection))
    try:
        async with exclusively(services.engine, services.settings.home, thing, Purpose.RESTORE):
            refreshed = await refresh(
                services.vector(standby), services.repositories[repository].catalog, backup, on_progress
            )
    except ReanimateError as error:
        log.warning("%s keeps what it holds of %s: %s", standby, manifest.collection, error)
        return Attempt(standby, manifest.collection, manifest.id, problem=str(error))
    return Attempt(standby, manifest.collection, manifest.id, refreshed)
