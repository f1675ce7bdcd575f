"""Actions against malicious prompts: whoever sends them is cut or stopped, and a person decides when that ends."""

from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import select

from reanimate.db.tables import Hold, Incident
from reanimate.incidents.faults import Fault
from reanimate.runbooks import holding
from reanimate.runbooks.action import Action, ActionContext, Evidence, NoParams, Outcome, Params
from reanimate.runbooks.actions.detection import claims_of
from reanimate.runbooks.actions.llm_traffic import about
from reanimate.runbooks.actions.people import PersonNeeded
from reanimate.switches.document import Claim

__all__ = ["HumanReview", "StopSubject"]


class Stopping(Params):
    """How hard."""

    how: Literal["kill", "rate"] = "kill"
    per_minute: Annotated[int, Field(ge=0)] = 6
    """Of a rate cut. A route is only ever cut, since everybody uses it, to this many times ten."""


class StopSubject(Action[Stopping]):
    """Stop, or cut, the calls of the tenants or with the tools that the alerts name; of a route, cut them."""

    name = "stop_subject"
    params = Stopping
    time_limit_s = 30.0
    safe_as_reflex = True
    undoes = "lifts the kill or the cut"

    def describe(self, incident: Incident, params: Stopping) -> str:
        if params.how == "kill":
            return "stop the calls of the tenant or with the tool, also those underway; cut those of a route"
        return f"cut the calls of the tenant or with the tool to {params.per_minute} a minute"

    def said(self, evidence: Evidence) -> str:
        held = [f"{item['switch']} of {item['scope']} = {item['value']}" for item in evidence["held"]]
        return ", ".join(held) + holding.by(evidence)

    async def check_before(self, context: ActionContext[Stopping]) -> Outcome | None:
        if not await self._claims(context):
            return Outcome(skipped="no alert names a tenant, tool or route: a person must say whose calls to stop")
        return None

    async def act(self, context: ActionContext[Stopping]) -> dict[str, Any]:
        claims = await self._claims(context)
        obeyed = await holding.claim(context, claims, "malicious prompts: stopped until a person has looked")
        return {"held": [vars(claim) for claim in claims]} | holding.said(obeyed)

    async def undo(self, context: ActionContext[Stopping]) -> dict[str, Any] | None:
        claims = await self._claims(context)
        return await holding.lift(context, claims, "containment undone") if claims else None

    async def _claims(self, context: ActionContext[Stopping]) -> list[Claim]:
        """Return what to hold: of the incident's own subject, and of whoever else its alerts name."""
        subject = about(context)
        named = [(subject.tenant, subject.tool, subject.route)]
        for alert in await claims_of(context.services, context.incident.id):
            if alert.labels.get("fault") == Fault.MALICIOUS_PROMPT_ATTACK:
                named.append((alert.labels.get("tenant"), alert.labels.get("tool"), alert.labels.get("route")))
        found = [_claim(*item, context.params) for item in dict.fromkeys(named)]
        return list(dict.fromkeys(claim for claim in found if claim is not None))


def _claim(tenant: str | None, tool: str | None, route: str | None, params: Stopping) -> Claim | None:
    if tenant and tenant != "*":
        scope = f"tenant:{tenant}"
    elif tool:
        scope = f"tool:{tool}"
    elif route:
        return Claim("llm_rate", f"route:{route}", params.per_minute * 10)
    else:
        return None
    if params.how == "kill":
        return Claim("llm_kill", scope, "kill")
    return Claim("llm_rate", scope, params.per_minute)


class HumanReview(Action[NoParams]):
    """Stop here until a person has reviewed what happened and lifted the kill or the cut."""

    name = "human_review"
    time_limit_s = 15.0
    undoes = "nothing"

    def said(self, evidence: Evidence) -> str:
        return "reviewed by a person: " + (", ".join(evidence["lifted"]) or "nothing was held") + " lifted"

    async def act(self, context: ActionContext[NoParams]) -> dict[str, Any]:
        held = await holding.own_holds(context, "llm_kill", "llm_rate")
        if held:
            scopes = list(dict.fromkeys(claim.scope for claim in held))
            commands = "; ".join(f"reanimate llm allow {scope} --cause {context.incident.id}" for scope in scopes)
            raise PersonNeeded(
                f"whether {', '.join(scopes)} may come back is for a person to decide",
                hint=f"review, then: {commands}; then `reanimate respond {context.incident.id}`",
            )
        async with context.services.sessions() as session:
            lifted = await session.scalars(
                select(Hold).where(
                    Hold.cause == context.incident.id,
                    Hold.switch.in_(("llm_kill", "llm_rate")),
                    Hold.lifted_at.is_not(None),
                )
            )
            said = [f"{hold.switch} of {hold.scope} at {hold.lifted_at:%H:%M:%S} UTC" for hold in lifted]
        if not said:
            raise PersonNeeded(
                "nobody was stopped, since the alert names no tenant, tool or route: a person must look",
                hint="`reanimate llm kill tenant:NAME` stops one; close the incident when it is over",
            )
        return {"lifted": said}
