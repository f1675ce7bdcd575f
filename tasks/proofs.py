"""Proofs as tasks: what is due, one for each backup, and then the offline standbys."""

from prefect import task

from reanimate.protection import offline, proving
from tasks.reporting import to_the_log
from tasks.retrying import BACKUP
from tasks.wiring import get_services

__all__ = ["proofs_due", "prove_backup", "refresh_offline"]


@task(name="proofs due", timeout_seconds=600, **BACKUP)
async def proofs_due(repository: str | None = None) -> list[tuple[str, str, str]]:
    """Return what is to be proven: repository, backup, why."""
    due = await proving.proofs_due(await get_services(), repository=repository)
    return [(each.repository, each.backup.manifest.id, each.why) for each in due]


@task(name="prove", task_run_name="prove {backup_id}", timeout_seconds=6 * 3600, **BACKUP)
async def prove_backup(backup_id: str, repository: str | None = None) -> str:
    """Prove one backup and return what came of it; fails when it is not right, or when that could not be found out."""
    services = await get_services()
    chosen = await proving.one_to_prove(services, backup_id, repository=repository)
    proof = await proving.prove(services, chosen, trigger="flow", on_progress=to_the_log(backup_id))
    return proving.require_passed(proof)


@task(name="refresh offline standbys", timeout_seconds=6 * 3600, **BACKUP)
async def refresh_offline() -> list[str]:
    """Make the offline standbys serve the newest proven backups; fails when one keeps what it holds."""
    attempts = await offline.refresh_standbys(await get_services(), on_progress=to_the_log("offline standbys"))
    return offline.require_served(attempts)
