"""Postmortem: why it happened, written down, and what would have shown it sooner."""

from prefect import flow

from flows.forms import IncidentId
from tasks.incidents import analyse_cause, improve_monitoring, update_documents

__all__ = ["postmortem"]


@flow(name="postmortem", flow_run_name="postmortem-{incident_id}")
async def postmortem(incident_id: IncidentId) -> None:
    """Draft the postmortem of an incident from its timeline.

    Args:
        incident_id: The incident; it must be over, or in a person's hands.
    """
    await analyse_cause(incident_id)
    await update_documents(incident_id)
    await improve_monitoring(incident_id)
