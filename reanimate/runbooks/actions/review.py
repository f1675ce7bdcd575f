"""The three steps of the postmortem. They read what happened and write it up; they can spoil nothing."""

from typing import Any

from sqlalchemy import select

from reanimate.db.tables import Alert, Incident
from reanimate.incidents import record, timeline
from reanimate.incidents.postmortem import render
from reanimate.incidents.views import incident_view
from reanimate.runbooks.action import Action, ActionContext, Evidence, NoParams
from reanimate.switches.gateways import gateway_figures

__all__ = ["AnalyseCause", "ImproveMonitoring", "UpdateDocuments"]


def _key(incident: Incident) -> str:
    return f"postmortems/{incident.id}.md"


async def _write_postmortem(context: ActionContext[Any]) -> dict[str, Any]:
    """Draft the postmortem from the timeline and put it into the blob store; a later draft replaces an earlier one."""
    text = render(await incident_view(context.services, context.incident.id))
    key = _key(context.incident)
    await context.services.catalog.store.put_async(key, text.encode())
    async with context.services.sessions.begin() as session:
        incident = await record.load(session, context.incident.id)
        incident.postmortem_key = key
    return {"key": key, "characters": len(text)}


class AnalyseCause(Action[NoParams]):
    """Put together what the gateways counted and which evidence speaks for which cause."""

    name = "analyse_cause"
    time_limit_s = 30.0

    def said(self, evidence: Evidence) -> str:
        return f"most likely {evidence['most_likely']}"

    async def act(self, context: ActionContext[NoParams]) -> dict[str, Any]:
        since = context.incident.fault_at or context.incident.opened_at
        figures = await gateway_figures(context.services, since)
        view = await incident_view(context.services, context.incident.id)
        await context.note(
            "figures", "what the gateways counted from the fault to the end", moment="ended", gateways=figures
        )
        faults = sorted(view["faults"], key=lambda fault: -fault["confidence"])
        return {
            "most_likely": faults[0]["fault"] if faults else "unknown",
            "considered": [{"fault": f["fault"], "confidence": f["confidence"]} for f in faults],
        }


class UpdateDocuments(Action[NoParams]):
    """Write the postmortem."""

    name = "update_documents"
    time_limit_s = 30.0

    def said(self, evidence: Evidence) -> str:
        return f"written to {evidence['key']}"

    async def act(self, context: ActionContext[NoParams]) -> dict[str, Any]:
        written = await _write_postmortem(context)
        async with context.services.sessions.begin() as session:
            await timeline.append(
                session,
                context.incident.id,
                "postmortem.written",
                f"postmortem written to {written['key']}",
                actor=context.actor,
                now=context.now(),
                data=written,
            )
        return written


class ImproveMonitoring(Action[NoParams]):
    """Say which sender saw the fault first and which never did, and complete the postmortem with it."""

    name = "improve_monitoring"
    time_limit_s = 30.0

    def said(self, evidence: Evidence) -> str:
        return f"first seen by {evidence['first_seen_by']}; {len(evidence['proposals'])} proposals"

    async def act(self, context: ActionContext[NoParams]) -> dict[str, Any]:
        async with context.services.sessions() as session:
            rows = await session.execute(
                select(Alert.source, Alert.fingerprint, Alert.received_at)
                .where(Alert.incident_id == context.incident.id, Alert.status == "firing")
                .order_by(Alert.received_at)
            )
            seen = [(row.source, row.fingerprint, row.received_at) for row in rows]
        sources = {source for source, _, _ in seen}
        proposals = []
        if "alertmanager" not in sources:
            proposals.append(
                "Alertmanager said nothing: connect it or add a rule for this fault, as a second pair of eyes"
            )
        if not any(fingerprint.startswith("watch:") for _, fingerprint, _ in seen):
            proposals.append("our own watch said nothing: check that the component is among its dependencies")
        await context.note(
            "note", "monitoring reviewed", proposals=proposals, first_seen_by=seen[0][0] if seen else None
        )
        return {"first_seen_by": seen[0][0] if seen else "a person", "proposals": proposals} | await _write_postmortem(
            context
        )
