"""What a restore would do, with everything that can be known of it: repositories, proofs, the target, the gateways."""

import asyncio
import logging
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from reanimate.backups.comparison import count_points
from reanimate.backups.manifest import VectorManifest, base_name
from reanimate.backups.repositories import Repository, named
from reanimate.backups.sealed import closed_problem, sealed_part
from reanimate.backups.stored_parts import identities_of
from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.errors import ConfigInvalid, NotFound, Refused, Unreachable
from reanimate.restores import record
from reanimate.restores.candidates import Rules, Wish
from reanimate.restores.outlook import Earlier, Outlook, expected_time, room_needed, whole_bytes
from reanimate.restores.plan import RestorePlan, Sight, plan_restore
from reanimate.restores.survey import Survey, survey
from reanimate.switches.gateways import acknowledged_writes
from reanimate.vector.server import VectorServer

__all__ = ["Planned", "look_for", "plan_for", "plan_in_a_hurry"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planned:
    """A plan, and what is needed to do it."""

    plan: RestorePlan
    manifest: VectorManifest
    repository: Repository
    wish: Wish
    only: str | None = None
    """The repository that the choice was limited to."""


async def plan_for(
    services: Services,
    wish: Wish,
    *,
    target: str | None = None,
    repository: str | None = None,
    by_engine: bool = False,
) -> Planned:
    """Plan a restore: look at every repository, or one, at the target and at the gateways. Touches nothing.

    With `by_engine` the backup is loaded by the engine of our own, and the target only gets points of it.

    Raises:
        NotFound, Refused: as `plan_restore`; or no repository has that name.
        ConfigInvalid: no target has that name.
        Unreachable, ServerFailed: the target does not answer, or no repository can be read.
    """
    server = services.vector(target or services.settings.vector.primary.name)
    now = utcnow()
    found, sight, rules, earlier = await asyncio.gather(
        look_for(services, wish.collection, repository=repository, now=now),
        _sight(services, server, wish.collection),
        _rules(services, server, now, by_engine=by_engine),
        _earlier(services, server.name),
    )
    return await asyncio.to_thread(_planned, services, found, wish, rules, sight, earlier, repository)


async def look_for(services: Services, collection: str, *, repository: str | None = None, now: datetime) -> Survey:
    """Return what the repositories, or one of them, have of a collection.

    Raises:
        NotFound: no repository has that name.
        Unreachable: none of them can be read.
    """
    chosen = services.repositories
    if repository is not None:
        chosen = {repository: named(services.repositories, repository)}
    expires = timedelta(days=services.settings.backups.proof_expires_days)
    catalogs = {name: one.catalog for name, one in chosen.items()}
    return await asyncio.to_thread(survey, catalogs, collection, now=now, expires=expires)


async def plan_in_a_hurry(services: Services, wish: Wish, *, target: str) -> Planned:
    """Plan for an incident: from the repository that backups are taken into, and only without one there from others.

    The target is asked for no more than its version, the gateways and the record for nothing.

    Raises:
        NotFound, Refused: as `plan_restore`.
        Unreachable, ServerFailed: the target does not answer, or no repository can be read.
    """
    rules = await _rules(services, services.vector(target), utcnow())
    first = next(iter(services.repositories))
    for only in (first, None) if len(services.repositories) > 1 else (first,):
        try:
            found = await look_for(services, wish.collection, repository=only, now=rules.now)
            return await asyncio.to_thread(_planned, services, found, wish, rules, Sight(target), None, None)
        except (NotFound, Refused, Unreachable):
            if only is None or len(services.repositories) == 1:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _planned(
    services: Services,
    found: Survey,
    wish: Wish,
    rules: Rules,
    sight: Sight,
    earlier: list[Earlier] | None,
    only: str | None,
) -> Planned:
    sight = replace(sight, unread=dict(found.unread))
    plan = plan_restore(found.copies, wish, rules, sight, damaged=found.damaged)
    while why := _closed(services, found, plan):  # told before anything is done, and another may open
        found = found.without(plan.repository, plan.backup_id, why)
        plan = plan_restore(found.copies, wish, rules, sight, damaged=found.damaged)
    copy = found.copy(plan.repository, plan.backup_id)
    assert copy is not None  # the plan has chosen it from there
    outlook = _outlook(copy.manifest, earlier, services.repositories[copy.repository].catalog.scratch)
    return Planned(plan.foreseeing(outlook), copy.manifest, services.repositories[copy.repository], wish, only)


def _closed(services: Services, found: Survey, plan: RestorePlan) -> str | None:
    """Say why the backup of a plan, or the full one below it, cannot be opened with the identities here, or None."""
    catalog = services.repositories[plan.repository].catalog
    for backup_id in filter(None, (plan.base, plan.backup_id)):
        copy = found.copy(plan.repository, backup_id)
        part = sealed_part(copy.manifest) if copy else None
        if part is None:
            continue
        try:
            problem = closed_problem(catalog, part, identities_of(catalog.keyring))
        except ConfigInvalid as error:
            problem = str(error.args[0])
        if problem:
            return f"{'it' if backup_id == plan.backup_id else backup_id} is encrypted, and {problem}"
    return None


async def _sight(services: Services, server: VectorServer, collection: str) -> Sight:
    totals = asyncio.ensure_future(acknowledged_writes(services))
    try:
        live: int | None = None
        with suppress(NotFound):
            live, _ = await count_points(server, collection)
        return Sight(server.name, live, tuple(await server.collections()), await totals)
    finally:
        totals.cancel()


async def _rules(services: Services, server: VectorServer, now: datetime, *, by_engine: bool = False) -> Rules:
    settings = services.settings
    return Rules(await server.version(), now, settings.vector.models, settings.watch.min_count_ratio, by_engine)


async def _earlier(services: Services, target: str) -> list[Earlier] | None:
    """Return earlier restores; None while the record is away."""
    try:
        async with asyncio.timeout(3.0), services.sessions() as session:
            return await record.earlier(session, target)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        log.info("how long restores took cannot be read: %s", error)
        return None


def _outlook(manifest: VectorManifest, earlier: list[Earlier] | None, scratch: Path) -> Outlook:
    here, there = room_needed(manifest)
    said, expected = expected_time(base_name(manifest.collection), whole_bytes(manifest), earlier)
    return Outlook(said, expected, here, _free(scratch), there, None)


def _free(folder: Path) -> int | None:
    """Return the free bytes of the disk on which a folder is, or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
