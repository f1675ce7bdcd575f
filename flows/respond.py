"""One incident, from alert to written-up recovery."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.containment import containment
from flows.detection import detection
from flows.endings import ended_before, leave_to_a_person, over_all
from flows.forms import IncidentId
from flows.postmortem import postmortem
from flows.recovery import recovery
from tasks.artifacts import write_artifacts
from tasks.incidents import read_state

__all__ = ["respond"]


@flow(name="respond", flow_run_name="respond-{incident_id}", on_cancellation=[leave_to_a_person])
async def respond(incident_id: IncidentId, retry_escalated: bool = False) -> State:
    """Walk an incident through its four phases. What was done before, in this run or another, is not done again.

    Args:
        incident_id: The incident, as its page and `reanimate incident list` name it.
        retry_escalated: An incident that called a person is left to that person; tick this to let the steps that
            failed run again.
    """
    walked = ended_before(await read_state(incident_id), retry_escalated=retry_escalated)
    for phase in () if walked else (detection, containment, recovery):
        walked = await phase(incident_id, return_state=True)
        if not walked.is_completed():
            break
    reviewed = await postmortem(incident_id, return_state=True)
    await write_artifacts(incident_id, return_state=True)
    return over_all(walked, reviewed)
