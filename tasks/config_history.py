"""Keeping configuration as a task."""

from prefect import get_run_logger, task

from reanimate.protection.configuration import history_of
from tasks.retrying import BACKUP
from tasks.wiring import get_services

__all__ = ["keep_config"]


@task(name="keep configuration", timeout_seconds=1800, **BACKUP)
async def keep_config() -> dict[str, object]:
    """Keep a version of every named file and setting that has changed, and return which and what could not be kept."""
    kept = await history_of(await get_services()).keep()
    for problem in kept.problems:
        get_run_logger().warning("%s", problem)
    return {
        "manifest": kept.manifest.id if kept.manifest else None,
        "at": kept.at.isoformat(),
        "watched": kept.watched,
        "changes": [f"{version.subject} by {version.author}" for version in kept.changes],
        "problems": list(kept.problems),
    }
