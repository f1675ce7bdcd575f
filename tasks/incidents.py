"""The twelve steps of an incident, and calling a person, as tasks."""

from prefect import task

from reanimate.incidents.faults import Fault
from reanimate.incidents.lifecycle import State, Step
from reanimate.incidents.record import load
from reanimate.response import by_hand
from reanimate.response.escalate import escalate
from reanimate.response.steps import run_step
from tasks.retrying import ONCE, PATIENT
from tasks.wiring import get_services

__all__ = [
    "analyse_cause",
    "assess_impact",
    "call_person",
    "degrade",
    "identify_fault",
    "improve_monitoring",
    "isolate",
    "notify",
    "open_incident",
    "read_state",
    "recover",
    "return_traffic",
    "set_priority",
    "update_documents",
    "verify",
]

ACTOR = "prefect"

# Each action has its own, shorter limit in the library; these end a task that hangs outside of one. In seconds.
SHORT, LONG = 900, 6 * 3600


async def _step(incident_id: str, step: Step) -> str:
    """Run the step and say in one line what it came to."""
    result = await run_step(await get_services(), incident_id, step, actor=ACTOR)
    return f"{result.ran} done, {result.skipped} skipped, {result.before} done before"


@task(name="identify fault", timeout_seconds=SHORT, **PATIENT)
async def identify_fault(incident_id: str) -> str:
    """Which of the thirteen faults is it, by alerts and fresh probes?"""
    return await _step(incident_id, Step.IDENTIFY_FAULT)


@task(name="assess impact", timeout_seconds=SHORT, **PATIENT)
async def assess_impact(incident_id: str) -> str:
    """What do the agent's users notice, by the gateways' counts?"""
    return await _step(incident_id, Step.ASSESS_IMPACT)


@task(name="set priority", timeout_seconds=SHORT, **PATIENT)
async def set_priority(incident_id: str) -> str:
    """Give it a severity, and with it the moment by which it must be over."""
    return await _step(incident_id, Step.SET_PRIORITY)


@task(name="isolate", timeout_seconds=SHORT, **PATIENT)
async def isolate(incident_id: str) -> str:
    """Take the traffic off what is broken."""
    return await _step(incident_id, Step.ISOLATE)


@task(name="degrade", timeout_seconds=SHORT, **PATIENT)
async def degrade(incident_id: str) -> str:
    """Keep the agent answering with less."""
    return await _step(incident_id, Step.DEGRADE)


@task(name="notify", timeout_seconds=SHORT, **PATIENT)
async def notify(incident_id: str) -> str:
    """Tell the people concerned."""
    return await _step(incident_id, Step.NOTIFY)


@task(name="recover", timeout_seconds=LONG, **PATIENT)
async def recover(incident_id: str) -> str:
    """Bring back what was lost, beside what is live."""
    return await _step(incident_id, Step.RECOVER)


@task(name="verify", timeout_seconds=LONG, **PATIENT)
async def verify(incident_id: str) -> str:
    """Hold what was brought back against what was backed up."""
    return await _step(incident_id, Step.VERIFY)


@task(name="return traffic", timeout_seconds=LONG, **PATIENT)
async def return_traffic(incident_id: str) -> str:
    """Let the traffic back in steps."""
    return await _step(incident_id, Step.RETURN_TRAFFIC)


@task(name="analyse cause", timeout_seconds=SHORT, **PATIENT)
async def analyse_cause(incident_id: str) -> str:
    """Gather what the record says about why it happened."""
    return await _step(incident_id, Step.ANALYSE_CAUSE)


@task(name="update documents", timeout_seconds=SHORT, **PATIENT)
async def update_documents(incident_id: str) -> str:
    """Write the postmortem."""
    return await _step(incident_id, Step.UPDATE_DOCUMENTS)


@task(name="improve monitoring", timeout_seconds=SHORT, **PATIENT)
async def improve_monitoring(incident_id: str) -> str:
    """Say what would have shown it sooner."""
    return await _step(incident_id, Step.IMPROVE_MONITORING)


@task(name="call a person", timeout_seconds=SHORT, **PATIENT)
async def call_person(incident_id: str, reason: str) -> State:
    """Undo what can be undone, keep the containment, call a person; return the state it is in then."""
    return await escalate(await get_services(), incident_id, reason, actor=ACTOR)


@task(name="read state", timeout_seconds=SHORT, **PATIENT)
async def read_state(incident_id: str) -> State:
    """Return the state that the incident is in."""
    async with (await get_services()).sessions() as session:
        return State((await load(session, incident_id)).state)


@task(name="open incident", timeout_seconds=60, **ONCE)
async def open_incident(fault: Fault, component: str, summary: str, collections: list[str]) -> str:
    """Open an incident by hand and return its id; the relay starts its response."""
    return await by_hand.open_by_hand(
        await get_services(), fault=fault, component=component, summary=summary, collections=collections, actor=ACTOR
    )
