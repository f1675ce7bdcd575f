"""Restoring a collection by hand, from Prefect: first the plan, and only when that is wanted, the restore."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.forms import BackupChoice, BackupId, CollectionName, TargetName
from tasks.restores import plan_restore, run_restore

__all__ = ["restore"]


@flow(name="restore", flow_run_name="restore-{collection}")
async def restore(
    collection: CollectionName,
    choice: BackupChoice = BackupChoice.NEWEST,
    backup_id: BackupId | None = None,
    target: TargetName = "primary",
    carry_over: bool = False,
    dry_run: bool = True,
) -> State[Any]:
    """Restore a collection beside the live one, verify it, and only then switch its aliases. The old one is kept.

    Args:
        collection: The collection, or an alias of one.
        choice: Which backup, when none is named: the newest that can be used, or the newest that is proven.
        backup_id: Exactly this backup.
        target: On which vector server.
        carry_over: Also write the points that only the live collection has into the restored one.
        dry_run: Only show the plan, as an artifact of this run. Untick it to restore.
    """
    plan = await plan_restore(collection, choice, backup_id, target)
    if dry_run:
        return Completed(name="Planned", message=f"nothing was touched; it would restore {plan}")
    done = await run_restore(collection, plan, target, carry_over)
    return Completed(message=f"{plan} is live as {done}; `reanimate restore undo --collection {collection}` goes back")
