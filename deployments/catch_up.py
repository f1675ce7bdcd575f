"""Slots that Prefect left out are run all the same: missed while the system was down, or left by an owner that died.

Prefect forgets the runs of a schedule when it is deployed anew, and in the night when clocks are put on it comes an
hour early. So the responder asks the record which slots nobody has had, and orders one run for the newest of each.
"""

import logging
from datetime import datetime

from deployments.catalogue import deployments
from reanimate.bootstrap import Services
from reanimate.orchestrator.launcher import Launcher
from reanimate.protection.schedules import Schedule, missed
from reanimate.protection.slots import left_over, newest_claims
from tasks.schedules import schedules

__all__ = ["catch_up"]

log = logging.getLogger(__name__)


async def catch_up(services: Services, launcher: Launcher, *, now: datetime) -> list[str]:
    """Order a run for each slot that was missed or left; return the names of the runs.

    However many responders order it, it is one run: the order's key is the slot.

    Raises:
        Unreachable, ServerFailed, NotFound: Prefect cannot be asked now.
        SQLAlchemyError: the record cannot be asked now.
    """
    async with services.sessions() as session:
        claimed, left = await newest_claims(session), await left_over(session, now=now)
    ordered = []
    for schedule in schedules(services.settings).values():
        if slot := missed(schedule, claimed.get(schedule.name), now):
            ordered += await _order(launcher, schedule, slot, why="was missed", again="")
        for one in left:
            if one.schedule == schedule.name and one.due_at == schedule.slot_at(now):
                why = f"was left by {one.owner}, which died"
                ordered += await _order(launcher, schedule, one.due_at, why=why, again=f"-{one.attempts + 1}")
    return ordered


async def _order(launcher: Launcher, schedule: Schedule, slot: datetime, *, why: str, again: str) -> list[str]:
    """Order a run, unless the schedule was switched off in Prefect."""
    deployment = next(one.full_name for one in deployments() if one.entrypoint == schedule.entrypoint)
    if schedule.name not in await launcher.active_schedules(deployment):
        return []
    key = f"{schedule.name}-{slot:%Y%m%dT%H%MZ}{again}"
    run = await launcher.create_run(deployment, key=key, parameters=schedule.parameters)
    if not run.is_over:
        log.warning("the slot %s of %s %s: it is run as %s", slot, schedule.name, why, run.name)
    return [run.name]
