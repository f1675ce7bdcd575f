"""Retention by hand; at night it is the last step of the night."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.forms import RepositoryName
from flows.together import together
from reanimate.clock import utcnow
from reanimate.protection.slots import Held
from tasks.backups import repositories, retain_in
from tasks.spreading import spread

__all__ = ["retain"]


@flow(name="retain", flow_run_name="retain")
async def retain(repository: RepositoryName | None = None, dry_run: bool = False) -> State[Any]:
    """Delete the backups that the rule no longer keeps; the log tells the reason for each.

    Args:
        repository: Only in this one; else in all.
        dry_run: Only say what would be done.
    """
    names = [repository] if repository else await repositories()
    outcomes = await spread({name: (retain_in, {"repository": name, "dry_run": dry_run}) for name in names})
    return await together(outcomes, Held(utcnow()))
