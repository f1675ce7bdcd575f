"""Backups of vector collections: every few minutes what has changed, or by hand."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.forms import BackupScope, CollectionName, ScheduleName, TargetName
from flows.together import results_of, together
from tasks.backups import back_up, collections_to_back_up, seed_replicas
from tasks.slots import SKIPPED, end_slots, slot_of_this_run
from tasks.spreading import spread

__all__ = ["backup"]


@flow(name="backup", flow_run_name="backup-{scope}", on_cancellation=[end_slots])
async def backup(
    scope: BackupScope = BackupScope.PROTECTED,
    collections: list[CollectionName] | None = None,
    target: TargetName = "primary",
    partial: bool = False,
    schedule: ScheduleName | None = None,
) -> State[Any]:
    """Back up collections, several at once. One that fails does not keep the others.

    Args:
        scope: `protected` takes those that the settings name, `all` every one on the server.
        collections: Exactly these (names, aliases or globs), whatever the scope says.
        target: From which vector server.
        partial: Only what has changed since the last full backup, where that is worth it; replicas are not seeded.
        schedule: Left empty by people; a schedule names itself here, and each of its slots is run once.
    """
    async with slot_of_this_run(schedule) as slot:
        if slot is None:
            return SKIPPED
        names = await collections_to_back_up(target, collections or [], scope is BackupScope.ALL)
        outcomes = await spread(
            {name: (back_up, {"collection": name, "target": target, "partial": partial}) for name in names}
        )
        if not partial:
            taken = await results_of(outcomes)
            outcomes |= await spread(
                {f"replicas of {name}": (seed_replicas, {"backup_id": id_}) for name, id_ in taken.items()}
            )
        return await together(outcomes, slot, busy_is_fine=partial)
