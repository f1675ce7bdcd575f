"""Retention by hand; at night it is the last step of the night."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.forms import RepositoryName
from flows.together import Outcomes, results_of, together
from reanimate.clock import utcnow
from reanimate.protection.slots import Held
from tasks.backups import repositories, retain_in
from tasks.restores import forget_old, restored_targets
from tasks.spreading import spread

__all__ = ["forgotten", "retain"]


@flow(name="retain", flow_run_name="retain")
async def retain(repository: RepositoryName | None = None, dry_run: bool = False) -> State[Any]:
    """Delete the backups that the rule no longer keeps, and collections from before a restore; the log tells each why.

    Args:
        repository: Only in this one; else in all.
        dry_run: Only say what would be done.
    """
    names = [repository] if repository else await repositories()
    outcomes = await spread({name: (retain_in, {"repository": name, "dry_run": dry_run}) for name in names})
    outcomes |= await forgotten(dry_run=dry_run)
    return await together(outcomes, Held(utcnow()))


async def forgotten(*, dry_run: bool = False) -> Outcomes:
    """Let go of collections that were live before a restore, on each target; what fails is told with the rest."""
    name = "choosing where restores were made"
    chosen = {name: await restored_targets(return_state=True)}
    targets = (await results_of(chosen)).get(name, [])
    outcomes = await spread(
        {f"old collections on {one}": (forget_old, {"target": one, "dry_run": dry_run}) for one in targets}
    )
    return {**outcomes, **{what: state for what, state in chosen.items() if not state.is_completed()}}
