"""What restores leave behind, cleared up at night."""

from prefect import get_run_logger, task

from reanimate.clock import utcnow
from reanimate.protection import clearing
from tasks.retrying import BACKUP
from tasks.wiring import get_services

__all__ = ["forget_old", "restored_targets"]


@task(name="restored targets", timeout_seconds=60, **BACKUP)
async def restored_targets() -> list[str]:
    """Return the vector targets that collections are kept on from before a restore."""
    return await clearing.restored_targets(await get_services())


@task(name="forget old collections", task_run_name="forget old collections on {target}", timeout_seconds=600, **BACKUP)
async def forget_old(target: str, dry_run: bool = False) -> dict[str, int]:
    """Announce or remove what was live before a restore and is not needed any more; the log has each with its why."""
    found = await clearing.forget_old(await get_services(), target, now=utcnow(), dry_run=dry_run)
    counts: dict[str, int] = {}
    for old in found:
        counts[str(old.fate)] = counts.get(str(old.fate), 0) + 1
        get_run_logger().info("%s on %s %s: %s", old.name, target, old.fate, old.why)
    return counts
