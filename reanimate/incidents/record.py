"""Opening, loading and moving incidents in the record."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.db.tables import Incident, IncidentFault, Outbox, StepRecord
from reanimate.errors import NotFound, Refused
from reanimate.incidents import timeline
from reanimate.incidents.lifecycle import OPEN_STATES, Phase, State, Step, ensure_transition
from reanimate.incidents.triage import Finding

__all__ = ["add_finding", "change_state", "close", "load", "new_incident_id", "open_incident", "open_incidents"]


def new_incident_id(now: datetime) -> str:
    """Return a new id that sorts by time and is unique beyond one database, since Prefect remembers it for ever."""
    return f"inc-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


async def open_incident(
    session: AsyncSession,
    *,
    title: str,
    component: str,
    agent: str,
    fault_at: datetime,
    now: datetime,
    actor: str,
    scope: dict[str, Any],
    findings: Sequence[Finding] = (),
) -> Incident:
    """Write a new incident, its first timeline entry and the order to start its flow, in the caller's transaction.

    `findings` are faults that are known already, as when a person opens it by hand.
    """
    incident = Incident(
        id=new_incident_id(now),
        title=title,
        agent=agent,
        state=State.DETECTING,
        phase=Phase.DETECTION,
        component=component,
        scope=scope,
        fault_at=fault_at,
        opened_at=now,
        last_alert_at=now,
        timeline_length=0,
        timeline_head="",
    )
    session.add(incident)
    await session.flush()
    await timeline.append(
        session,
        incident.id,
        "incident.opened",
        f"{title} ({component})",
        actor=actor,
        now=now,
        data={"component": component, "scope": scope, "fault_at": fault_at.isoformat()},
    )
    for finding in findings:
        await add_finding(session, incident.id, finding, actor=actor, now=now)
    session.add(
        Outbox(
            kind="start_flow",
            key=incident.id,
            incident_id=incident.id,
            payload={"incident_id": incident.id},
            created_at=now,
            due_at=now,
        )
    )
    await session.flush()
    return incident


async def load(session: AsyncSession, incident_id: str) -> Incident:
    """Return the incident.

    Raises:
        NotFound: there is none of that id.
    """
    incident = await session.get(Incident, incident_id, populate_existing=True)
    if incident is None:
        raise NotFound(f"there is no incident {incident_id}", hint="`reanimate incident list` shows those there are")
    return incident


async def open_incidents(session: AsyncSession) -> Sequence[Incident]:
    """Return the incidents that have not ended, oldest first."""
    found = await session.scalars(
        select(Incident).where(Incident.state.in_(sorted(OPEN_STATES))).order_by(Incident.opened_at)
    )
    return found.all()


async def add_finding(session: AsyncSession, incident_id: str, finding: Finding, *, actor: str, now: datetime) -> bool:
    """Record a fault of an incident, once per fault and component; say whether it is new or surer than before."""
    known = await session.scalar(
        select(IncidentFault).where(
            IncidentFault.incident_id == incident_id,
            IncidentFault.fault == finding.fault,
            IncidentFault.component == finding.component,
        )
    )
    if known is not None and known.confidence >= finding.confidence:
        return False
    statement = insert(IncidentFault).values(
        incident_id=incident_id,
        fault=finding.fault,
        component=finding.component,
        confidence=finding.confidence,
        evidence=list(finding.evidence),
        found_at=now,
    )
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["incident_id", "fault", "component"],
            set_={"confidence": statement.excluded.confidence, "evidence": statement.excluded.evidence},
        )
    )
    await timeline.append(
        session,
        incident_id,
        "incident.fault",
        f"{finding.fault} at {finding.component}, confidence {finding.confidence:.0%}",
        actor=actor,
        now=now,
        data={
            "fault": finding.fault,
            "component": finding.component,
            "confidence": finding.confidence,
            "evidence": list(finding.evidence),
        },
    )
    return True


async def change_state(
    session: AsyncSession, incident: Incident, wanted: State, *, now: datetime, actor: str, reason: str
) -> None:
    """Move an incident along the table of transitions, and write it down.

    Raises:
        Refused: the table does not allow the move, or `recovered` is asked for without a passed verification.
    """
    current = State(incident.state)
    ensure_transition(current, wanted)
    if wanted is State.RECOVERED:
        await _ensure_verified(session, incident.id)
    incident.state = wanted
    moments = {
        State.RECOVERED: "recovered_at",
        State.ESCALATED: "escalated_at",
        State.CLOSED: "closed_at",
    }
    if wanted in moments:
        setattr(incident, moments[wanted], now)
    await timeline.append(
        session,
        incident.id,
        "incident.state",
        f"{current} → {wanted}: {reason}",
        actor=actor,
        now=now,
        data={"from": current, "to": wanted, "reason": reason},
    )


async def _ensure_verified(session: AsyncSession, incident_id: str) -> None:
    """Nothing but a passed verification of this incident makes it recovered."""
    found = await session.execute(
        select(StepRecord.state, StepRecord.evidence).where(
            StepRecord.incident_id == incident_id,
            StepRecord.phase == Phase.RECOVERY,
            StepRecord.step == Step.VERIFY,
        )
    )
    rows = found.all()
    if not any(row.state == "done" and row.evidence.get("passed") is True for row in rows) or any(
        row.state in ("running", "failed", "undone") for row in rows
    ):
        raise Refused(
            f"incident {incident_id} cannot become recovered: no verification of it has passed",
            hint=f"`reanimate respond {incident_id}` runs the recovery and its verification",
        )


async def close(session: AsyncSession, incident_id: str, *, reason: str, by: str, now: datetime) -> Incident:
    """Let a person end an incident.

    Holds stay: they are lifted by name, since closing the papers does not mend a server.

    Raises:
        NotFound: there is none of that id.
        Refused: it is closed already.
    """
    incident = await load(session, incident_id)
    await change_state(session, incident, State.CLOSED, now=now, actor=by, reason=reason)
    return incident
