"""Backups of vector collections: on schedule, or by hand."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.forms import BackupScope, CollectionName, TargetName
from tasks.backups import back_up, collections_to_back_up, seed_replicas

__all__ = ["backup"]


@flow(name="backup", flow_run_name="backup-{scope}")
async def backup(
    scope: BackupScope = BackupScope.PROTECTED,
    collections: list[CollectionName] | None = None,
    target: TargetName = "primary",
) -> State[Any]:
    """Back up collections and seed the replicas, one after the other. One that fails does not keep the others.

    Args:
        scope: `protected` takes those that the settings name, `all` every one on the server.
        collections: Exactly these (names or aliases), whatever the scope says.
        target: From which vector server.
    """
    names = await collections_to_back_up(target, collections or [], scope is BackupScope.ALL)
    outcomes: dict[str, State[Any]] = {}
    for name in names:
        outcomes[name] = taken = await back_up(name, target, return_state=True)
        if taken.is_completed():
            outcomes[f"replicas of {name}"] = await seed_replicas(await taken.aresult(), return_state=True)
    return _together(outcomes)


def _together(outcomes: dict[str, State[Any]]) -> State[Any]:
    failed = {name: state.message for name, state in outcomes.items() if not state.is_completed()}
    if failed:
        story = "; ".join(f"{name}: {message}" for name, message in failed.items())
        return Failed(name="Incomplete", message=f"{len(failed)} of {len(outcomes)} failed: {story}")
    return Completed(message=f"done: {', '.join(outcomes) or 'nothing, there are no collections'}")
