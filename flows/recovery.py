"""Recovery: bring it back, prove it, let the traffic in again."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.endings import leave_to_a_person, or_a_person
from flows.forms import IncidentId
from tasks.incidents import recover, return_traffic, verify

__all__ = ["recovery"]


@flow(name="recovery", flow_run_name="recovery-{incident_id}", on_cancellation=[leave_to_a_person])
async def recovery(incident_id: IncidentId) -> State | None:
    """Bring back what was lost, hold it against its backup, return the traffic in steps.

    Args:
        incident_id: The incident; it must be contained.
    """
    async with or_a_person(incident_id) as ending:
        await recover(incident_id)
        await verify(incident_id)
        await return_traffic(incident_id)
    return ending.state
