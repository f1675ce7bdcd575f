"""Restores as tasks: the plan, doing it, and clearing up at night what is kept from before."""

from prefect import get_run_logger, task
from prefect.runtime import flow_run

from reanimate.clock import utcnow
from reanimate.orchestrator.artifacts import plan_document, publish
from reanimate.orchestrator.launcher import Launcher
from reanimate.protection import clearing, restoring
from reanimate.protection.restore_plans import plan_for
from reanimate.restores.candidates import Wish
from reanimate.restores.carrying import Carry
from tasks.reporting import to_the_log
from tasks.retrying import BACKUP, ONCE
from tasks.wiring import get_services

__all__ = ["forget_old", "plan_restore", "restored_targets", "run_restore"]


@task(name="plan", task_run_name="plan a restore of {collection}", timeout_seconds=120, **BACKUP)
async def plan_restore(collection: str, choice: str, backup_id: str | None, target: str) -> str:
    """Choose a backup, show the plan on the run, and return the backup's id."""
    services = await get_services()
    wish = Wish(collection, backup_id, newest_proven=choice == "newest-proven")
    plan = (await plan_for(services, wish, target=target)).plan
    await publish(Launcher(services.http, services.addresses.prefect_api), flow_run.id, [plan_document(plan)])
    return plan.backup_id


@task(name="restore", task_run_name="restore {collection} from {backup_id}", timeout_seconds=12 * 3600, **ONCE)
async def run_restore(collection: str, backup_id: str, target: str, carry_over: bool) -> str:
    """Restore, verify and switch; return the name of the collection that is live now."""
    services, report = await get_services(), to_the_log(collection)
    planned = await plan_for(services, Wish(collection, backup_id), target=target)
    carry = Carry(added=True) if carry_over else None
    return (
        await restoring.run_restore(services, planned, trigger="flow", carry=carry, on_progress=report)
    ).restored.name


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
