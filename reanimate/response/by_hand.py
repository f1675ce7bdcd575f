"""Opening an incident because a person says so."""

from collections.abc import Sequence

from reanimate.alerts.components import KINDS, UNKNOWN, is_component, scope_of
from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.errors import InputInvalid
from reanimate.incidents.faults import Fault
from reanimate.incidents.record import open_incident
from reanimate.incidents.triage import Finding

__all__ = ["open_by_hand"]


async def open_by_hand(
    services: Services, *, fault: Fault, component: str, summary: str, collections: Sequence[str] = (), actor: str
) -> str:
    """Open an incident with one fault, taken as certain, and return its id; its response starts as for any other.

    Raises:
        InputInvalid: the component is neither kind:name (vector:primary) nor `unknown`.
    """
    if component != UNKNOWN and not is_component(component):
        kinds = ", ".join(KINDS)
        raise InputInvalid(
            f"{component!r} is not a component", hint=f"write kind:name with one of {kinds}, or {UNKNOWN}"
        )
    now = utcnow()
    evidence = {"check": "opened by hand", "found": summary, "by": actor}
    async with services.sessions.begin() as session:
        incident = await open_incident(
            session,
            title=summary,
            component=component,
            agent=services.settings.agent.name,
            fault_at=now,
            now=now,
            actor=actor,
            scope=scope_of(component, {}) | ({"collections": list(collections)} if collections else {}),
            findings=[Finding(fault, component, 1.0, (evidence,))],
        )
        return incident.id
