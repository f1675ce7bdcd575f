"""When a step fails for good: undo what can be undone, stay contained, call a person."""

import asyncio
import logging

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.db.tables import Incident, Outbox, StepRecord
from reanimate.incidents import record, timeline
from reanimate.incidents.lifecycle import Phase, State, Step
from reanimate.response.lock import driving
from reanimate.runbooks.action import ActionContext
from reanimate.runbooks.actions.people import CallPerson
from reanimate.runbooks.registry import ACTIONS

__all__ = ["escalate"]

log = logging.getLogger(__name__)

_UNDO_LIMIT_S = 60.0
_ENDED = frozenset({State.ESCALATED, State.RECOVERED, State.CLOSED})


async def escalate(services: Services, incident_id: str, reason: str, *, actor: str) -> State:
    """Undo the recovery as far as it was not verified, keep the containment, and call a person.

    An incident that has ended meanwhile is left as it is. Returns the state it is in afterwards.
    """
    async with driving(services.engine, incident_id):
        async with services.sessions() as session:
            incident = await record.load(session, incident_id)
            if State(incident.state) in _ENDED:
                return State(incident.state)
            to_undo = await _to_undo(services, incident_id)
        for step in to_undo:
            await _undo(services, incident, step, actor)
        return await _call(services, incident_id, reason, actor)


async def _to_undo(services: Services, incident_id: str) -> list[StepRecord]:
    """Return the recovery's actions to undo, newest first.

    What a passed verification vouches for is kept: only the return of the traffic is undone then. When the runbook
    itself asked for a person nothing failed, so nothing is undone.
    """
    async with services.sessions() as session:
        rows = (
            await session.scalars(
                select(StepRecord)
                .where(StepRecord.incident_id == incident_id, StepRecord.phase == Phase.RECOVERY)
                .order_by(StepRecord.id.desc())
            )
        ).all()
    if any(row.action == CallPerson.name for row in rows):
        return []
    verified = any(row.step == Step.VERIFY and row.state == "done" and row.evidence.get("passed") for row in rows)
    kept = {Step.RECOVER} if verified else set()
    return [row for row in rows if row.step not in kept and row.state in ("done", "failed", "running")]


async def _undo(services: Services, incident: Incident, step: StepRecord, actor: str) -> None:
    """Undo one action and mark it as to be run again; a failing undo is written down, and the next one goes on."""
    action = ACTIONS[step.action]
    context = ActionContext(
        services=services,
        incident=incident,
        params=action.params.model_validate(step.params),
        actor=actor,
        record_id=step.id,
        progress=dict(step.progress),
    )
    kind, said, evidence = "step.undone", f"{step.step}: {step.action} undone", None
    try:
        async with asyncio.timeout(_UNDO_LIMIT_S):
            evidence = await action.undo(context)
    except Exception as error:  # noqa: BLE001 - whatever it was, the other undos must still run
        log.warning("undo of %s in %s failed: %s", step.action, incident.id, error)
        kind, said = "note", f"{step.step}: undo of {step.action} failed: {error}"
    async with services.sessions.begin() as session:
        await session.execute(update(StepRecord).where(StepRecord.id == step.id).values(state="undone"))
        if evidence is not None or kind == "note":
            data = {"phase": step.phase, "step": step.step, "action": step.action, "ordinal": step.ordinal}
            data |= {"evidence": evidence or {}}
            await timeline.append(session, incident.id, kind, said, actor=actor, now=utcnow(), data=data)


async def _call(services: Services, incident_id: str, reason: str, actor: str) -> State:
    async with services.sessions.begin() as session:
        incident = await record.load(session, incident_id)
        now = utcnow()
        await record.change_state(session, incident, State.ESCALATED, now=now, actor=actor, reason=reason)
        body = (
            f"{incident.title} ({incident.component}) needs a person: {reason}\n"
            f"Containment stays in place. {services.addresses.web}/incidents/{incident_id}"
        )
        await session.execute(
            insert(Outbox)
            .values(
                kind="notify",
                key=f"{incident_id}:escalated:{now.timestamp():.0f}",
                incident_id=incident_id,
                payload={"title": f"[{incident.severity or '?'}] a person is needed: {incident.title}", "body": body},
                created_at=now,
                due_at=now,
            )
            .on_conflict_do_nothing(index_elements=["kind", "key"])
        )
        await timeline.append(
            session,
            incident_id,
            "person.called",
            reason,
            actor=actor,
            now=now,
            data={"receivers": len(services.settings.notify.urls)},
        )
        return State.ESCALATED
