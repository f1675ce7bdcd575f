"""Opening an incident by hand."""

from prefect import flow

from flows.forms import CollectionName, Component, Summary
from reanimate.incidents.faults import Fault
from tasks import incidents

__all__ = ["open_incident"]


@flow(name="open-incident", flow_run_name="open-{fault}")
async def open_incident(
    fault: Fault,
    summary: Summary,
    component: Component = "vector:primary",
    collections: list[CollectionName] | None = None,
) -> str:
    """Open an incident because you say so. Its response starts by itself, as a run of its own.

    Args:
        fault: What is wrong. It is taken as certain; `unknown` gathers evidence and calls a person.
        summary: One sentence for the incident's title.
        component: What is concerned, as kind:name.
        collections: Which collections, if only some; none means all that the target has.
    """
    return await incidents.open_incident(fault, component, summary, collections or [])
