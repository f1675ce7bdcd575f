"""Containment: keep the damage small, and the agent answering."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.endings import leave_to_a_person, or_a_person
from flows.forms import IncidentId
from tasks.incidents import degrade, isolate, notify

__all__ = ["containment"]


@flow(name="containment", flow_run_name="containment-{incident_id}", on_cancellation=[leave_to_a_person])
async def containment(incident_id: IncidentId) -> State | None:
    """Take the agent's traffic off what is broken, let it answer with less, tell the people concerned.

    Args:
        incident_id: The incident; its detection must be finished.
    """
    async with or_a_person(incident_id) as ending:
        await isolate(incident_id)
        await degrade(incident_id)
        await notify(incident_id)
    return ending.state
