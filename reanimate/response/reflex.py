"""Containment that is safe enough to do at once, in the process that opened the incident, before any flow starts."""

import asyncio
import logging
from typing import Any

from reanimate.bootstrap import Services
from reanimate.db.tables import Incident
from reanimate.errors import ReanimateError
from reanimate.incidents import record
from reanimate.incidents.triage import triage
from reanimate.runbooks.action import ActionContext
from reanimate.runbooks.actions.detection import claims_of, findings_of
from reanimate.runbooks.model import ActionCall, runbook_for
from reanimate.runbooks.registry import ACTIONS

__all__ = ["place_reflex"]

log = logging.getLogger(__name__)

_LIMIT_S = 3.0


async def place_reflex(services: Services, incident_id: str) -> dict[str, Any]:
    """Run the reflex of the incident's likeliest runbook; return what each action said.

    Never raises and never takes longer than 3 s: the flow does the same again, with retries, and finds it done.
    """
    said: dict[str, Any] = {}
    try:
        async with asyncio.timeout(_LIMIT_S):
            # No look of our own here: the action's check before looks where it matters.
            claimed = triage(await claims_of(services, incident_id), [])
            findings = [*await findings_of(services, incident_id), *claimed]
            async with services.sessions() as session:
                incident = await record.load(session, incident_id)
            for call in runbook_for(findings[0].fault)[0].reflex if findings else ():
                said[call.action] = await _run(services, incident, call)
    except (ReanimateError, OSError, TimeoutError) as error:
        log.warning("reflex of %s: %s", incident_id, error)
        said["error"] = str(error)
    except Exception:
        log.exception("reflex of %s failed; the flow contains it instead", incident_id)
    return said


async def _run(services: Services, incident: Incident, call: ActionCall) -> dict[str, Any]:
    action = ACTIONS[call.action]
    context = ActionContext(
        services=services,
        incident=incident,
        params=action.params.model_validate(call.params),
        actor="reflex",
        record_id=None,
        progress={},
    )
    before = await action.check_before(context)
    if before is not None and before.skipped:
        return {"skipped": before.skipped}
    return await action.act(context)
