"""Recovery points as tasks: an id to take backups for, and the point that groups them."""

from datetime import datetime
from typing import Any

from prefect import task

from reanimate.backups.recovery_points import new_point_id
from reanimate.clock import utcnow
from reanimate.protection.recovery_points import group_backups
from tasks.retrying import BACKUP
from tasks.wiring import get_services

__all__ = ["begin_point", "group_point"]


@task(name="begin recovery point")
async def begin_point() -> str:
    """Return the id of a recovery point; it exists once `group_point` has written it."""
    return new_point_id(utcnow())


@task(name="recovery point", task_run_name="recovery point {point}", timeout_seconds=600, **BACKUP)
async def group_point(
    point: str,
    collections: dict[str, str],
    databases: dict[str, str],
    configuration: dict[str, Any] | None,
    failed: dict[str, dict[str, str]],
) -> str:
    """Group what was taken for a point; what failed, by kind and name, is named in it. Return its id."""
    config = None
    if configuration and configuration["manifest"]:
        config = (configuration["manifest"], datetime.fromisoformat(configuration["at"]))
    grouped = await group_backups(
        await get_services(),
        point,
        collections=collections,
        databases=databases,
        config=config,
        failed={
            (kind, name): reason  # type: ignore[misc]  # the flow knows the kinds
            for kind, names in failed.items()
            for name, reason in names.items()
        },
    )
    return grouped.id
