"""The night: everything is backed up, copied, proven and read again, and what is no longer kept goes."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.forms import BackupScope, ScheduleName, TargetName
from flows.prove import proven
from flows.retain import forgotten
from flows.together import Outcomes, results_of, together
from tasks.backups import (
    back_up,
    back_up_database,
    collections_to_back_up,
    copy_to,
    databases_to_back_up,
    repositories,
    reread_share,
    retain_in,
    seed_replicas,
)
from tasks.config_history import keep_config
from tasks.recovery_points import begin_point, group_point
from tasks.slots import SKIPPED, end_slots, slot_of_this_run
from tasks.spreading import spread

__all__ = ["night"]

CONFIGURATION = "the configuration"


@flow(name="night", flow_run_name="night-{scope}", on_cancellation=[end_slots])
async def night(
    scope: BackupScope = BackupScope.PROTECTED,
    target: TargetName = "primary",
    copies: bool = True,
    schedule: ScheduleName | None = None,
) -> State[Any]:
    """Back up collections, databases and configuration in full, copy, prove, read a share again, and retain.

    What fails stops only what needs it; the run's state tells what that was.

    Args:
        scope: `protected` takes those collections that the settings name, `all` every one on the server.
        target: From which vector server.
        copies: Bring what is new to the further repositories.
        schedule: Left empty by people; a schedule names itself here, and each of its slots is run once.
    """
    async with slot_of_this_run(schedule) as slot:
        if slot is None:
            return SKIPPED
        outcomes = await _taken(target, scope)
        first, *others = await repositories()
        if copies:
            outcomes |= await spread({f"copies in {name}": (copy_to, {"repository": name}) for name in others})
        outcomes |= await proven()
        outcomes |= await spread(
            {f"share of {name}": (reread_share, {"repository": name}) for name in (first, *others)}
        )
        outcomes |= await spread(
            {f"retention in {name}": (retain_in, {"repository": name}) for name in (first, *others)}
        )
        outcomes |= await forgotten()
        return await together(outcomes, slot)


async def _taken(target: str, scope: BackupScope) -> Outcomes:
    """Take everything in full as one recovery point, and seed the replicas with it.

    Databases and configuration go side by side with the collections, so that the point's parts are close in time.
    """
    named = {
        "collections": await collections_to_back_up(target, [], scope is BackupScope.ALL, return_state=True),
        "databases": await databases_to_back_up(return_state=True),
    }
    known = await results_of(named)
    collections, databases = known.get("collections", []), known.get("databases", [])
    outcomes = {f"choosing {what}": state for what, state in named.items() if not state.is_completed()}
    point = await begin_point()
    taken = await spread(
        {
            **{name: (back_up, {"collection": name, "target": target, "point": point}) for name in collections},
            **{f"database {name}": (back_up_database, {"database": name, "point": point}) for name in databases},
            CONFIGURATION: (keep_config, {}),
        }
    )
    outcomes |= taken
    outcomes["recovery point"] = await _grouped(point, taken, collections, databases)
    ids = await results_of({name: taken[name] for name in collections})
    seeds = {f"replicas of {name}": (seed_replicas, {"backup_id": id_}) for name, id_ in ids.items()}
    return {**outcomes, **await spread(seeds)}


async def _grouped(point: str, taken: Outcomes, collections: list[str], databases: list[str]) -> State[Any]:
    """Group what was taken; what was not is named in the point."""
    results = await results_of(taken)
    failed: dict[str, dict[str, str]] = {"vector": {}, "postgres": {}, "config": {}}
    for kind, names in (
        ("vector", {name: name for name in collections}),
        ("postgres", {f"database {name}": name for name in databases}),
        ("config", {CONFIGURATION: CONFIGURATION}),
    ):
        for task_name, name in names.items():
            if not taken[task_name].is_completed():
                error = await taken[task_name].aresult(raise_on_failure=False)
                failed[kind][name] = str(error) or str(taken[task_name].message)
    state: State[Any] = await group_point(
        point,
        {name: results[name] for name in collections if name in results},
        {name: results[f"database {name}"] for name in databases if f"database {name}" in results},
        results.get(CONFIGURATION),
        failed,
        return_state=True,
    )
    return state
