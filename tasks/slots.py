"""Which slot of a schedule this run is for, and whether it is ours."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from prefect import Flow, get_run_logger
from prefect.client.schemas.objects import FlowRun, State
from prefect.runtime import flow_run
from prefect.states import Completed

from reanimate.clock import utcnow
from reanimate.protection import slots
from reanimate.protection.slots import Held
from tasks.schedules import schedules
from tasks.wiring import get_services

__all__ = ["SKIPPED", "end_slots", "slot_of_this_run"]

SKIPPED: State[Any] = Completed(name="Skipped", message="another run has had this slot")


@asynccontextmanager
async def slot_of_this_run(schedule: str | None) -> AsyncIterator[Held | None]:
    """Have the newest slot of a schedule for the block, or None when another run has it or has had it.

    A run that a person started names no schedule, and needs no slot. One that comes late, after an outage, is for the
    newest slot that was missed, and so catches up for all of them.
    """
    services = await get_services()
    known = schedules(services.settings).get(schedule or "")
    if known is None:
        yield Held(utcnow())
        return
    # A responder may begin a moment early; and what was ordered for later is not begun before.
    moment = max(utcnow(), flow_run.scheduled_start_time or utcnow())
    due_at = known.slot_at(moment)
    async with slots.holding(services.sessions, known.name, due_at, str(flow_run.id)) as held:
        if held is None:
            get_run_logger().info("the slot %s of %s is another run's", due_at.isoformat(), known.name)
        yield held


async def end_slots(flow: Flow[..., Any], run: FlowRun, state: State[Any]) -> None:
    """Hook for a cancelled run: a person has stopped it, and nobody is to take its slot over."""
    services = await get_services()
    async with services.sessions.begin() as session:
        await slots.end(session, str(run.id), now=utcnow(), error=f"{flow.name} was cancelled in Prefect")
