"""How a run of an incident ends: under which state people see it in Prefect, and who is called when it ends badly."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled, Completed, Failed

from reanimate.errors import ReanimateError
from reanimate.incidents.lifecycle import State as IncidentState
from tasks.incidents import call_person

__all__ = ["Ending", "ended_before", "leave_to_a_person", "or_a_person", "over_all"]

RunState = State[Any]


@dataclass
class Ending:
    """The state that a flow returns; None is an ordinary Completed."""

    state: RunState | None = None


@asynccontextmanager
async def or_a_person(incident_id: str) -> AsyncIterator[Ending]:
    """Do the steps of the block, or, when one fails for good, call a person and end there.

    Only what the library says of a step counts. Trouble of the orchestrator itself is passed on: whoever runs the
    flow then has the same steps run without it.
    """
    ending = Ending()
    try:
        yield ending
    except (ReanimateError, TimeoutError) as error:
        came_to = await call_person(incident_id, str(error))
        ending.state = _of(came_to, str(error))


def ended_before(state: IncidentState, *, retry_escalated: bool) -> RunState | None:
    """Return how a run ends whose incident needs no response (any more); None when there is something to do."""
    if state is IncidentState.ESCALATED and not retry_escalated:
        return _of(state, "a person has been called; tick 'retry escalated' to let the steps run again")
    return _of(state, "a person has closed the incident") if state is IncidentState.CLOSED else None


def over_all(walked: RunState, postmortem: RunState) -> RunState:
    """Return the end of the whole response. A postmortem that failed shows, and spoils nothing."""
    if not walked.is_completed():  # a state of its own: Prefect would judge another run's by its type alone
        return State(type=walked.type, name=walked.name, message=walked.message)
    if not postmortem.is_completed():
        return Completed(name="RecoveredNoPostmortem", message=f"the postmortem was not written: {postmortem.message}")
    return Completed(name="Recovered", message="verified, and traffic is back")


def _of(state: IncidentState, why: str) -> RunState:
    if state is IncidentState.CLOSED:
        return Cancelled(name="Closed", message=why)
    return Failed(name="Escalated", message=why)


async def leave_to_a_person(flow: Flow[..., Any], run: FlowRun, state: RunState) -> None:
    """Hook for a cancelled run: whoever stopped the machine has the incident now, and that is written down."""
    await call_person.fn(run.parameters["incident_id"], f"{flow.name} was cancelled in Prefect")
