"""Backups and what follows them in a night, as tasks: one for each thing that can fail by itself."""

import asyncio
from typing import Any

from prefect import get_run_logger, task

from reanimate.clock import utcnow
from reanimate.errors import Damaged
from reanimate.protection import backups as protection
from reanimate.protection import databases
from reanimate.protection.copies import copy_backups, due_for_copying
from reanimate.protection.keeping import carry_marks
from reanimate.protection.rereading import reread
from reanimate.protection.retention import Action, retain
from tasks.reporting import to_the_log
from tasks.retrying import BACKUP
from tasks.wiring import get_services

__all__ = [
    "back_up",
    "back_up_database",
    "collections_to_back_up",
    "copy_to",
    "databases_to_back_up",
    "repositories",
    "reread_share",
    "retain_in",
    "seed_replicas",
]

_A_NIGHT: dict[str, Any] = {"timeout_seconds": 12 * 3600, **BACKUP}


@task(name="choose collections", timeout_seconds=60, **BACKUP)
async def collections_to_back_up(target: str, named: list[str], everything: bool) -> list[str]:
    """Return the names: those given, else those of the settings, else all."""
    return await protection.names_to_back_up(await get_services(), target, named=named, everything=everything)


@task(name="choose databases", timeout_seconds=60, **BACKUP)
async def databases_to_back_up() -> list[str]:
    """Return the databases that are backed up."""
    return databases.databases_to_back_up(await get_services())


@task(name="repositories", timeout_seconds=60, **BACKUP)
async def repositories() -> list[str]:
    """Return the names of all repositories, first the one that backups are taken into."""
    return [*(await get_services()).repositories]


@task(name="back up", task_run_name="back up {collection}", **_A_NIGHT)
async def back_up(collection: str, target: str, partial: bool = False, point: str | None = None) -> str:
    """Take and publish one backup, and return its id."""
    services, report = await get_services(), to_the_log(collection)
    manifest = await protection.back_up(
        services,
        collection,
        target=target,
        trigger="flow",
        partial=partial,
        recovery_point=point,
        on_progress=report,
    )
    return manifest.id


@task(name="back up database", task_run_name="back up database {database}", **_A_NIGHT)
async def back_up_database(database: str, point: str | None = None) -> str:
    """Dump and publish one database, and return the backup's id."""
    services, report = await get_services(), to_the_log(database)
    published = await databases.back_up_database(
        services, database, trigger="flow", recovery_point=point, on_progress=report
    )
    return published.manifest.id


@task(name="seed replicas", task_run_name="seed replicas with {backup_id}", **_A_NIGHT)
async def seed_replicas(backup_id: str) -> dict[str, str]:
    """Load a backup into every replica and verify it there; return the names of the copies."""
    services = await get_services()
    manifest = await asyncio.to_thread(services.catalog.get, backup_id)
    return await protection.seed_replicas(services, manifest, on_progress=to_the_log(manifest.collection))


@task(name="copy", task_run_name="copy to {repository}", **_A_NIGHT)
async def copy_to(repository: str) -> list[str]:
    """Copy the full backups that another repository should have and lacks; return their ids.

    Raises:
        Damaged: some could not be copied; the others have been.
    """
    services = await get_services()
    first, other = services.repositories[next(iter(services.repositories))], services.repositories[repository]
    came = await copy_backups(
        services.repositories,
        await asyncio.to_thread(due_for_copying, first, other, utcnow()),
        to=repository,
        parallel=services.settings.backups.parallel,
        on_progress=to_the_log("copy"),
    )
    if came.failed:
        why = "; ".join(f"{name}: {reason}" for name, reason in came.failed.items())
        raise Damaged(f"{len(came.failed)} of {len(came.failed) + len(came.copied)} were not copied: {why}")
    return [one.id for one in came.copied]


@task(name="read back", task_run_name="read back a share of {repository}", **_A_NIGHT)
async def reread_share(repository: str) -> int:
    """Read tonight's share of the stored parts again; return how many parts that were.

    Raises:
        Damaged: some are not what their manifests say, or could not be read.
    """
    services = await get_services()
    found = await reread(
        services.repositories[repository],
        services.sessions,
        "share",
        parallel=services.settings.backups.parallel,
        on_progress=to_the_log(repository),
    )
    if not found.ok:
        bad = [*found.damaged, *found.unread, *(one.id for one in found.unusable)]
        raise Damaged(f"{len(bad)} in {repository} are damaged or could not be read: {', '.join(bad)}")
    return len(found.reads)


@task(name="retain", task_run_name="retain in {repository}", **_A_NIGHT)
async def retain_in(repository: str, dry_run: bool = False) -> dict[str, int]:
    """Delete what the rule no longer keeps; return how many were kept, deleted, removed…, and log each with its why."""
    services = await get_services()
    first, this = services.catalog, services.repositories[repository]
    if this.catalog is not first and not dry_run:
        await carry_marks(first, this.catalog)
    outcomes = await retain(this, zone=services.settings.backups.timezone, now=utcnow(), dry_run=dry_run)
    logger, counts = get_run_logger(), {}
    for one in outcomes:
        counts[str(one.action)] = counts.get(str(one.action), 0) + 1
        if one.action is not Action.KEPT:
            why = "; ".join([*one.verdict.reasons, *filter(None, [one.detail])])
            logger.info("%s %s: %s", one.verdict.backup.id, one.action, why)
    return counts
