"""The three steps of detection: which fault, how bad, by when."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import select

from reanimate.alerts.components import component_of
from reanimate.bootstrap import Services
from reanimate.db.tables import Alert, Incident, IncidentFault
from reanimate.errors import CheckFailed
from reanimate.incidents import record, timeline
from reanimate.incidents.faults import Fault
from reanimate.incidents.severity import RTO, Impact, Severity, Users, severity_of
from reanimate.incidents.triage import Claim, Finding, TargetProbe, impact_of, triage, users_of
from reanimate.runbooks.action import Action, ActionContext, Evidence, NoParams
from reanimate.runbooks.llm_look import look_at_providers
from reanimate.runbooks.look import expected_manifests, look, names_of
from reanimate.switches.gateways import gateway_figures

__all__ = ["AssessImpact", "IdentifyFault", "SetPriority", "claims_of", "findings_of"]


async def claims_of(services: Services, incident_id: str) -> list[Claim]:
    """Return what every firing alert of the incident says."""
    async with services.sessions() as session:
        alerts = await session.scalars(
            select(Alert).where(Alert.incident_id == incident_id, Alert.status == "firing").order_by(Alert.id)
        )
        return [
            Claim(
                alert.fingerprint,
                component_of(alert.labels, services.settings, services.addresses),
                alert.labels,
                alert.annotations,
            )
            for alert in alerts
        ]


async def findings_of(services: Services, incident_id: str) -> list[Finding]:
    """Return the faults that the record holds for an incident."""
    async with services.sessions() as session:
        rows = await session.scalars(
            select(IncidentFault).where(IncidentFault.incident_id == incident_id).order_by(IncidentFault.id)
        )
        return [Finding(Fault(row.fault), row.component, row.confidence, tuple(row.evidence)) for row in rows]


def _scope_of(context: ActionContext[Any], lead: Finding, probes: list[TargetProbe]) -> dict[str, Any]:
    """What exactly the incident is about: the target, and every name of the collections that are damaged on it."""
    kind, _, name = lead.component.partition(":")
    if kind != "vector":
        return dict(context.incident.scope)
    damaged = {found for probe in probes if probe.target == name for found in probe.problems}
    said = set(context.incident.scope.get("collections") or ())
    names = {
        alias
        for manifest in expected_manifests(context.services)
        if (damaged | said) & set(names_of(manifest))
        for alias in names_of(manifest)
    }
    return {"target": name, "collections": sorted(names | damaged | said)}


class IdentifyFault(Action[NoParams]):
    """Hold what the alerts say against a fresh look of our own."""

    name = "identify_fault"
    time_limit_s = 30.0

    def said(self, evidence: Evidence) -> str:
        return ", ".join(f"{item['fault']} at {item['component']}" for item in evidence["faults"])

    async def act(self, context: ActionContext[NoParams]) -> dict[str, Any]:
        probes = await look(context.services)
        known = await findings_of(context.services, context.incident.id)
        by_hand = [finding for finding in known if finding.confidence >= 1.0]
        providers = await look_at_providers(context.services)
        claims = await claims_of(context.services, context.incident.id)
        seen = triage(claims, probes, providers=providers)
        said = {finding.fault for finding in by_hand}
        findings = by_hand + [f for f in seen if f.fault not in said and not (by_hand and f.fault is Fault.UNKNOWN)]
        lead = findings[0]
        async with context.services.sessions.begin() as session:
            for finding in findings:
                await record.add_finding(session, context.incident.id, finding, actor=context.actor, now=context.now())
            incident = await record.load(session, context.incident.id)
            if lead.component != "unknown":
                incident.component = lead.component
            incident.scope = _scope_of(context, lead, probes)
        return {
            "faults": [{"fault": f.fault, "component": f.component, "confidence": f.confidence} for f in findings],
            "probes": [asdict(probe) for probe in probes],
            "providers": [asdict(look) for look in providers],
        }


class AssessImpact(Action[NoParams]):
    """Find out how badly the agent is hit, and whom."""

    name = "assess_impact"
    time_limit_s = 30.0

    def said(self, evidence: Evidence) -> str:
        return f"{evidence['impact']} for {evidence['users']} users: {evidence['why']}"

    async def act(self, context: ActionContext[NoParams]) -> dict[str, Any]:
        findings = sorted(
            await findings_of(context.services, context.incident.id), key=lambda finding: -finding.confidence
        )
        believed = [finding for finding in findings if finding.confidence >= 0.5] or findings[:1]
        if not believed:
            raise CheckFailed(
                f"incident {context.incident.id} has no fault to assess", hint="identify_fault comes first"
            )
        probes = await look(context.services)
        providers = await look_at_providers(context.services)
        impacts = [impact_of(finding, probes, providers) for finding in believed]
        impact, why = min(impacts, key=lambda pair: list(Impact).index(pair[0]))
        users = users_of(believed, Users(context.services.settings.agent.users))
        figures = await gateway_figures(context.services, context.incident.fault_at or context.incident.opened_at)
        async with context.services.sessions.begin() as session:
            incident = await record.load(session, context.incident.id)
            incident.impact, incident.users = impact, users
            await timeline.append(
                session,
                incident.id,
                "figures",
                "what the gateways counted since the fault",
                actor=context.actor,
                now=context.now(),
                data={"moment": "opened", "gateways": figures},
            )
        return {"impact": impact, "users": users, "why": why}


class SetPriority(Action[NoParams]):
    """Set the severity from impact and users, and with it the recovery time objective."""

    name = "set_priority"
    time_limit_s = 15.0

    def said(self, evidence: Evidence) -> str:
        return f"{evidence['severity']}, {evidence['rto_s']:.0f} s to recover"

    async def act(self, context: ActionContext[NoParams]) -> dict[str, Any]:
        async with context.services.sessions.begin() as session:
            incident = await record.load(session, context.incident.id)
            severity = _severity(incident)
            incident.severity = severity
            incident.rto_s = RTO[severity].total_seconds()
            incident.rto_deadline = incident.opened_at + RTO[severity]
            await timeline.append(
                session,
                incident.id,
                "incident.severity",
                f"{severity}: {incident.impact} for {incident.users} users; "
                f"recover by {incident.rto_deadline:%Y-%m-%d %H:%M:%S} UTC",
                actor=context.actor,
                now=context.now(),
                data={"severity": severity, "rto_s": incident.rto_s, "deadline": incident.rto_deadline.isoformat()},
            )
            return {"severity": severity, "rto_s": incident.rto_s, "deadline": incident.rto_deadline.isoformat()}


def _severity(incident: Incident) -> Severity:
    if incident.impact is None or incident.users is None:
        raise CheckFailed(f"incident {incident.id} has no impact yet", hint="assess_impact comes first")
    return severity_of(Impact(incident.impact), Users(incident.users))
