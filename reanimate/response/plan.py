"""What would be done about an incident, without doing any of it."""

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import select

from reanimate.bootstrap import Services
from reanimate.db.tables import Incident, StepRecord
from reanimate.incidents import record
from reanimate.incidents.triage import triage
from reanimate.runbooks.actions.detection import claims_of, findings_of
from reanimate.runbooks.choice import books_of, choose
from reanimate.runbooks.llm_look import look_at_providers
from reanimate.runbooks.look import look
from reanimate.runbooks.model import joined_steps
from reanimate.runbooks.registry import ACTIONS

__all__ = ["PlannedAction", "dry_run"]


@dataclass(frozen=True)
class PlannedAction:
    """One action that would run, or has run. `state` is `to do` or what the record says of it."""

    phase: str
    step: str
    action: str
    what: str
    undo: str
    destructive: bool
    state: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


async def dry_run(services: Services, incident_id: str) -> list[PlannedAction]:
    """Return every action of an incident in order; an incident not yet triaged is triaged for this, unrecorded.

    Raises:
        NotFound: there is no such incident.
    """
    async with services.sessions() as session:
        incident = await record.load(session, incident_id)
        rows = await session.scalars(select(StepRecord).where(StepRecord.incident_id == incident_id))
        states = {(row.phase, row.step, row.ordinal): row.state for row in rows}
    text = incident.runbook_text or await _text_of_a_fresh_triage(services, incident)
    return [
        PlannedAction(
            phase,
            step,
            call.action,
            ACTIONS[call.action].describe(incident, ACTIONS[call.action].params.model_validate(call.params)),
            ACTIONS[call.action].undoes,
            ACTIONS[call.action].destructive,
            states.get((phase, step, ordinal), "to do"),
        )
        for phase, steps in joined_steps(books_of(text)).items()
        for step, calls in steps.items()
        for ordinal, call in enumerate(calls)
    ]


async def _text_of_a_fresh_triage(services: Services, incident: Incident) -> str:
    known = await findings_of(services, incident.id)
    by_hand = [finding for finding in known if finding.confidence >= 1.0]
    claims, providers = await claims_of(services, incident.id), await look_at_providers(services)
    return choose(by_hand or triage(claims, await look(services), providers=providers))[1]
