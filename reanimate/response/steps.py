"""Running one step of an incident: in its turn, one driver at a time, each action once, whatever is killed when."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import stamina
from sqlalchemy import select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.db.tables import Incident, StepRecord
from reanimate.errors import Permanent, Refused, Unreachable, is_transient
from reanimate.incidents import record, timeline
from reanimate.incidents.lifecycle import STEPS, Phase, State, Step
from reanimate.response.lock import driving
from reanimate.runbooks.action import Action, ActionContext, Outcome
from reanimate.runbooks.actions.detection import findings_of
from reanimate.runbooks.choice import books_of, choose
from reanimate.runbooks.model import ActionCall, Planned, joined_steps
from reanimate.runbooks.registry import ACTIONS
from reanimate.switches.gateways import gateway_figures

__all__ = ["StepFailed", "StepResult", "phase_of", "run_step"]

log = logging.getLogger(__name__)

_ATTEMPTS = 3
_FINISHED = ("done", "skipped")

_STATE_OF: dict[Phase, State] = {
    Phase.DETECTION: State.DETECTING,
    Phase.CONTAINMENT: State.CONTAINING,
    Phase.RECOVERY: State.RECOVERING,
}
_REVIEWABLE = frozenset({State.RECOVERED, State.ESCALATED, State.CLOSED})


class StepFailed(Permanent):
    """A step did not reach its end; retrying it unchanged will not help."""


@dataclass(frozen=True)
class StepResult:
    """What a step came to: how many actions ran now, were skipped, or had been done before."""

    step: Step
    ran: int
    skipped: int
    before: int


def phase_of(step: Step) -> Phase:
    """Return the phase that a step belongs to."""
    return next(phase for phase, steps in STEPS.items() if step in steps)


def planned_steps(incident: Incident) -> Planned:
    """Return the actions of every step, from the runbook text that the incident keeps."""
    return joined_steps(books_of(incident.runbook_text) if incident.runbook_text else [])


async def run_step(services: Services, incident_id: str, step: Step, *, actor: str) -> StepResult:
    """Run one step of an incident, or what is left of it.

    Waits while another process drives the incident. What was done is not done again; what was cut is resumed.

    Raises:
        StepFailed: an action failed for good; it is recorded, nothing else was done about it.
        Refused: the step's turn has not come, or the incident has ended.
        Unreachable: the record's database does not answer; trying again may help.
        NotFound: there is no such incident.
    """
    try:
        async with driving(services.engine, incident_id):
            return await _run_step(services, incident_id, step, actor)
    except (DBAPIError, PoolExhausted, psycopg.OperationalError) as error:
        raise Unreachable(
            f"step {step} of {incident_id}: the record does not answer ({type(error).__name__})"
        ) from error


async def _run_step(services: Services, incident_id: str, step: Step, actor: str) -> StepResult:
    phase = phase_of(step)
    async with services.sessions() as session:
        incident = await record.load(session, incident_id)
        states = await _states(session, incident_id)
    calls = planned_steps(incident)[phase][step]
    if _is_finished(states, phase, step, calls) and _has_left(incident, step):
        return StepResult(step, 0, 0, len(calls))
    _ensure_turn(incident, states, step)
    await _enter(services, incident_id, phase, actor)
    ran = skipped = before = 0
    if not calls and (phase, step, 0) not in states:
        await _nothing_to_do(services, incident_id, phase, step, actor)
        skipped = 1
    for ordinal, call in enumerate(calls):
        if states.get((phase, step, ordinal)) in _FINISHED:
            before += 1
        elif await _run_action(services, incident_id, phase, step, ordinal, call, actor):
            ran += 1
        else:
            skipped += 1
    await _leave(services, incident_id, step, actor)
    return StepResult(step, ran, skipped, before)


States = dict[tuple[str, str, int], str]


async def _states(session: AsyncSession, incident_id: str) -> States:
    rows = await session.execute(
        select(StepRecord.phase, StepRecord.step, StepRecord.ordinal, StepRecord.state).where(
            StepRecord.incident_id == incident_id
        )
    )
    return {(row.phase, row.step, row.ordinal): row.state for row in rows}


def _is_finished(states: States, phase: Phase, step: Step, calls: Sequence[ActionCall]) -> bool:
    return all(states.get((phase, step, ordinal)) in _FINISHED for ordinal in range(max(1, len(calls))))


def _has_left(incident: Incident, step: Step) -> bool:
    """Say whether the end of the step's phase was recorded; a kill can fall between the last action and that."""
    return {
        Step.SET_PRIORITY: incident.runbook_text is not None,
        Step.NOTIFY: incident.contained_at is not None,
        Step.RETURN_TRAFFIC: incident.recovered_at is not None,
    }.get(step, True)


def _ensure_turn(incident: Incident, states: States, step: Step) -> None:
    """Let a step run only when everything before it is finished; the postmortem, when the incident has ended."""
    phase = phase_of(step)
    planned = planned_steps(incident)
    if phase is Phase.POSTMORTEM:
        if State(incident.state) not in _REVIEWABLE:
            raise Refused(f"the postmortem of {incident.id} comes when it has ended; it is {incident.state}")
        earlier = list(STEPS[phase])
    else:
        if State(incident.state) is State.CLOSED:
            raise Refused(f"incident {incident.id} is closed: nothing more is done about it")
        earlier = [item for each in (Phase.DETECTION, Phase.CONTAINMENT, Phase.RECOVERY) for item in STEPS[each]]
    for before in earlier[: earlier.index(step)]:
        if not _is_finished(states, phase_of(before), before, planned[phase_of(before)][before]):
            raise Refused(f"{step} of {incident.id} must wait: {before} is not finished", hint=f"run {before} first")


async def _enter(services: Services, incident_id: str, phase: Phase, actor: str) -> None:
    """Move the incident into the phase's state, if it is not there yet."""
    async with services.sessions.begin() as session:
        incident = await record.load(session, incident_id)
        incident.phase = phase
        wanted = _STATE_OF.get(phase)
        if wanted is not None and incident.state != wanted:
            if incident.state == State.ESCALATED:
                await _write_up_anew(session, incident_id)
            await record.change_state(session, incident, wanted, now=utcnow(), actor=actor, reason=f"{phase} begins")


async def _write_up_anew(session: AsyncSession, incident_id: str) -> None:
    """Let the postmortem be run again at the end: the one written when it was escalated tells half of the story."""
    await session.execute(
        update(StepRecord)
        .where(StepRecord.incident_id == incident_id, StepRecord.phase == Phase.POSTMORTEM)
        .values(state="undone")
    )


async def _leave(services: Services, incident_id: str, step: Step, actor: str) -> None:
    """Record what the end of a phase means: a runbook is chosen, the damage is contained, the incident recovered."""
    if step is Step.SET_PRIORITY:
        await _choose_runbook(services, incident_id, actor)
    elif step is Step.NOTIFY:
        await _count(services, incident_id, "contained", actor)
    elif step is Step.RETURN_TRAFFIC:
        await _count(services, incident_id, "recovered", actor)


async def _choose_runbook(services: Services, incident_id: str, actor: str) -> None:
    """Keep the exact text of the runbooks that the faults call for: a later edit does not change this incident."""
    books, text = choose(await findings_of(services, incident_id))
    names = ", ".join(book.fault for book in books)
    async with services.sessions.begin() as session:
        incident = await record.load(session, incident_id)
        incident.runbook, incident.runbook_text = names, text
        await timeline.append(
            session, incident_id, "note", f"runbook: {names}", actor=actor, now=utcnow(), data={"runbook": names}
        )


async def _count(services: Services, incident_id: str, moment: str, actor: str) -> None:
    """Mark the moment, with what the gateways counted until then."""
    async with services.sessions() as session:
        incident = await record.load(session, incident_id)
    figures = await gateway_figures(services, incident.fault_at or incident.opened_at)
    async with services.sessions.begin() as session:
        incident = await record.load(session, incident_id)
        now = utcnow()
        if moment == "contained":
            incident.contained_at = incident.contained_at or now
        elif incident.state != State.RECOVERED:
            why = "verified, and traffic is back"
            await record.change_state(session, incident, State.RECOVERED, now=now, actor=actor, reason=why)
        await timeline.append(
            session,
            incident_id,
            "figures",
            f"what the gateways counted until it was {moment}",
            actor=actor,
            now=now,
            data={"moment": moment, "gateways": figures},
        )


async def _nothing_to_do(services: Services, incident_id: str, phase: Phase, step: Step, actor: str) -> None:
    now = utcnow()
    why = "the runbook asks for nothing here"
    async with services.sessions.begin() as session:
        session.add(
            StepRecord(
                incident_id=incident_id,
                phase=phase,
                step=step,
                ordinal=0,
                action="none",
                state="skipped",
                attempts=0,
                started_at=now,
                ended_at=now,
                evidence={"skipped": why},
            )
        )
        data = {"phase": phase, "step": step, "action": "none", "ordinal": 0, "duration_s": 0.0, "evidence": {}}
        await timeline.append(session, incident_id, "step.skipped", f"{step}: {why}", actor=actor, now=now, data=data)


async def _run_action(
    services: Services, incident_id: str, phase: Phase, step: Step, ordinal: int, call: ActionCall, actor: str
) -> bool:
    """Run one action to its end; say whether it did something (False: it was skipped).

    Raises:
        StepFailed: it failed, and that is recorded.
    """
    action = ACTIONS[call.action]
    context = await _begin_action(services, incident_id, phase, step, ordinal, call, actor)
    began = time.monotonic()
    try:
        outcome = await _with_retries(action, context)
    except (DBAPIError, PoolExhausted):
        raise  # the record itself is away: nothing can be written down, and nothing is decided
    except Exception as error:
        await _end_action(context, phase, step, ordinal, call, "failed", {}, time.monotonic() - began, error)
        raise StepFailed(f"{step} of {incident_id} failed in {call.action}: {error}") from error
    state = "skipped" if outcome.skipped else "done"
    evidence = outcome.evidence | ({"skipped": outcome.skipped} if outcome.skipped else {})
    await _end_action(context, phase, step, ordinal, call, state, evidence, time.monotonic() - began, None)
    return state == "done"


async def _with_retries(action: Action[Any], context: ActionContext[Any]) -> Outcome:
    """Check, act, check; again when the trouble may pass; never longer than the action's limit."""
    limit = action.limit_s(context.params)
    try:
        async with asyncio.timeout(limit):
            async for attempt in stamina.retry_context(
                on=is_transient, attempts=_ATTEMPTS, wait_initial=0.3, wait_max=3.0, timeout=None
            ):
                with attempt:
                    before = await action.check_before(context)
                    if before is not None and before.skipped:
                        return before
                    evidence = await action.act(context)
                    return Outcome(evidence | await action.check_after(context, evidence))
    except TimeoutError as error:
        raise StepFailed(f"{action.name} did not end within {limit:g} s") from error
    raise AssertionError("unreachable: the retry loop returns or raises")


async def _begin_action(
    services: Services, incident_id: str, phase: Phase, step: Step, ordinal: int, call: ActionCall, actor: str
) -> ActionContext[Any]:
    """Write down that an action starts, or goes on after a kill, and return what it may use."""
    now = utcnow()
    async with services.sessions.begin() as session:
        incident = await record.load(session, incident_id)
        known = await session.scalar(
            select(StepRecord).where(
                StepRecord.incident_id == incident_id,
                StepRecord.phase == phase,
                StepRecord.step == step,
                StepRecord.ordinal == ordinal,
            )
        )
        resumed = known is not None and known.state == "running"
        if known is None:
            known = StepRecord(
                incident_id=incident_id,
                phase=phase,
                step=step,
                ordinal=ordinal,
                action=call.action,
                params=call.params,
                attempts=0,
                started_at=now,
                progress={},
                evidence={},
            )
            session.add(known)
        known.state, known.error, known.ended_at = "running", None, None
        known.attempts += 1
        await timeline.append(
            session,
            incident_id,
            "step.resumed" if resumed else "step.started",
            f"{step}: {call.action}" + (" goes on where it was cut" if resumed else ""),
            actor=actor,
            now=now,
            data={
                "phase": phase,
                "step": step,
                "action": call.action,
                "ordinal": ordinal,
                "attempt": known.attempts,
                "params": call.params,
            },
        )
        action = ACTIONS[call.action]
        return ActionContext(
            services=services,
            incident=incident,
            params=action.params.model_validate(call.params),
            actor=actor,
            record_id=known.id,
            progress=dict(known.progress),
        )


async def _end_action(
    context: ActionContext[Any],
    phase: Phase,
    step: Step,
    ordinal: int,
    call: ActionCall,
    state: str,
    evidence: dict[str, Any],
    duration_s: float,
    error: Exception | None,
) -> None:
    now = utcnow()
    async with context.services.sessions.begin() as session:
        await session.execute(
            update(StepRecord)
            .where(StepRecord.id == context.record_id)
            .values(state=state, ended_at=now, evidence=evidence, error=str(error) if error else None)
        )
        said = {
            "done": ACTIONS[call.action].said(evidence) if state == "done" else "",
            "skipped": f"{call.action} skipped: {evidence.get('skipped')}",
            "failed": f"{call.action} failed: {error}",
        }[state]
        await timeline.append(
            session,
            context.incident.id,
            f"step.{state}",
            f"{step}: {said}",
            actor=context.actor,
            now=now,
            data={
                "phase": phase,
                "step": step,
                "action": call.action,
                "ordinal": ordinal,
                "duration_s": round(duration_s, 3),
                "evidence": evidence,
                "error": str(error) if error else None,
            },
        )
