"""Walking an incident through all its phases without an orchestrator: what the flows do, in this process."""

import logging

import stamina

from reanimate.bootstrap import Services
from reanimate.errors import ReanimateError, Refused, Unreachable
from reanimate.incidents import record
from reanimate.incidents.lifecycle import STEPS, Phase, State, Step
from reanimate.response.escalate import escalate
from reanimate.response.steps import StepFailed, run_step

__all__ = ["respond", "review"]

log = logging.getLogger(__name__)


async def respond(services: Services, incident_id: str, *, actor: str) -> State:
    """Walk an incident through all its phases without an orchestrator; return the state it ended in.

    A failure before the end escalates it. The postmortem is drafted in either case, and spoils neither.
    """
    try:
        for phase in (Phase.DETECTION, Phase.CONTAINMENT, Phase.RECOVERY):
            for step in STEPS[phase]:
                await _patiently(services, incident_id, step, actor)
    except (StepFailed, Refused) as error:
        await escalate(services, incident_id, str(error), actor=actor)
    await review(services, incident_id, actor=actor)
    async with services.sessions() as session:
        return State((await record.load(session, incident_id)).state)


async def _patiently(services: Services, incident_id: str, step: Step, actor: str) -> None:
    """Run a step; while the record is away, wait for it: an incident is not given up because its papers are."""
    async for attempt in stamina.retry_context(
        on=Unreachable, attempts=None, wait_initial=0.5, wait_max=5.0, timeout=900.0
    ):
        with attempt:
            await run_step(services, incident_id, step, actor=actor)


async def review(services: Services, incident_id: str, *, actor: str) -> bool:
    """Run the postmortem; a failure is written down and changes nothing else. Say whether it was written."""
    try:
        for step in STEPS[Phase.POSTMORTEM]:
            await run_step(services, incident_id, step, actor=actor)
    except ReanimateError as error:
        log.warning("postmortem of %s: %s", incident_id, error)
        return False
    return True
