"""Proofs by hand; at night they are a step of the night."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.forms import BackupId, RepositoryName
from flows.together import Outcomes, together
from reanimate.clock import utcnow
from reanimate.protection.slots import Held
from tasks.proofs import proofs_due, prove_backup, refresh_offline
from tasks.spreading import spread

__all__ = ["prove", "proven"]


@flow(name="prove", flow_run_name="prove")
async def prove(backups: list[BackupId] | None = None, repository: RepositoryName | None = None) -> State[Any]:
    """Restore backups to scratch, hold them against their manifests, and let the offline standbys have the newest.

    Args:
        backups: Exactly these; else what is due: never proven, expired, and an older one each week.
        repository: In this one; else what is due in all, and named ones in the first.
    """
    if backups:
        outcomes = await spread(
            {f"proof of {one}": (prove_backup, {"backup_id": one, "repository": repository}) for one in backups}
        )
        outcomes["offline standbys"] = await refresh_offline(return_state=True)
    else:
        outcomes = await proven(repository)
    return await together(outcomes, Held(utcnow()))


async def proven(repository: str | None = None) -> Outcomes:
    """Prove what is due, and refresh the offline standbys with what was found right."""
    due = await proofs_due(repository, return_state=True)
    if not due.is_completed():
        return {"choosing what to prove": due}
    calls = {
        f"proof of {backup_id} in {place}": (prove_backup, {"backup_id": backup_id, "repository": place})
        for place, backup_id, _ in await due.aresult()
    }
    return {**await spread(calls), "offline standbys": await refresh_offline(return_state=True)}
