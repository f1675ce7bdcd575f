"""Backups as tasks, one for each collection."""

import asyncio
import time
from collections.abc import Callable

from prefect import get_run_logger, task

from reanimate.protection import backups as protection
from tasks.retrying import BACKUP
from tasks.wiring import get_services

__all__ = ["back_up", "collections_to_back_up", "seed_replicas"]

_REPORT_S = 2.0


@task(name="choose collections", timeout_seconds=60, **BACKUP)
async def collections_to_back_up(target: str, named: list[str], everything: bool) -> list[str]:
    """Return the names: those given, else those of the settings, else all."""
    return await protection.names_to_back_up(await get_services(), target, named=named, everything=everything)


@task(name="back up", task_run_name="back up {collection}", timeout_seconds=12 * 3600, **BACKUP)
async def back_up(collection: str, target: str) -> str:
    """Take and publish one backup, and return its id."""
    services, report = await get_services(), _to_the_log(collection)
    return (await protection.back_up(services, collection, target=target, trigger="flow", on_progress=report)).id


@task(name="seed replicas", task_run_name="seed replicas with {backup_id}", timeout_seconds=12 * 3600, **BACKUP)
async def seed_replicas(backup_id: str) -> dict[str, str]:
    """Load a backup into every replica and verify it there; return the names of the copies."""
    services = await get_services()
    manifest = await asyncio.to_thread(services.catalog.get, backup_id)
    return await protection.seed_replicas(services, manifest, on_progress=_to_the_log(manifest.collection))


def _to_the_log(collection: str) -> Callable[[str, int, int], None]:
    """Return a reporter that writes to the run's log every two seconds at most, and at the end of each stage."""
    logger, last = get_run_logger(), [0.0]

    def report(stage: str, done: int, total: int) -> None:
        if done == total or time.monotonic() - last[0] > _REPORT_S:
            last[0] = time.monotonic()
            logger.info("%s: %s %d of %d", collection, stage, done, total)

    return report
