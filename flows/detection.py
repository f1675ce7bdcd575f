"""Detection: what is it, how bad is it, by when must it be over."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.endings import leave_to_a_person, or_a_person
from flows.forms import IncidentId
from tasks.incidents import assess_impact, identify_fault, set_priority

__all__ = ["detection"]


@flow(name="detection", flow_run_name="detection-{incident_id}", on_cancellation=[leave_to_a_person])
async def detection(incident_id: IncidentId) -> State | None:
    """Find out what an incident is about, what it does to the agent, and its deadline.

    Args:
        incident_id: The incident, as its page and `reanimate incident list` name it.
    """
    async with or_a_person(incident_id) as ending:
        await identify_fault(incident_id)
        await assess_impact(incident_id)
        await set_priority(incident_id)
    return ending.state
