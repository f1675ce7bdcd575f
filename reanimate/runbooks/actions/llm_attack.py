"""Actions against malicious prompts: whoever sends them is cut or stopped, and a person decides when that ends."""

from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import select

from reanimate.db.tables import Hold, Incident
from reanimate.runbooks import holding
from reanimate.runbooks.action import Action, ActionContext, Evidence, NoParams, Outcome, Params
from reanimate.runbooks.actions.llm_traffic import about
from reanimate.runbooks.actions.people import PersonNeeded
from reanimate.runbooks.llm_look import LlmSubject
from reanimate.switches.document import Claim

__all__ = ["HumanReview", "StopSubject"]


class Stopping(Params):
    """How hard."""

    how: Literal["kill", "rate"] = "kill"
    per_minute: Annotated[int, Field(ge=0)] = 6
    """Of a rate cut. A route is only ever cut, since everybody uses it, to this many times ten."""


class StopSubject(Action[Stopping]):
    """Stop, or cut, the calls of the tenant or with the tool that the alert names; of a route, cut them."""

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
        return f"{evidence['switch']} of {evidence['scope']} = {evidence['value']}{holding.by(evidence)}"

    async def check_before(self, context: ActionContext[Stopping]) -> Outcome | None:
        if self._claim(about(context), context.params) is None:
            return Outcome(skipped="the alert names no tenant, tool or route: a person must say whose calls to stop")
        return None

    async def act(self, context: ActionContext[Stopping]) -> dict[str, Any]:
        claim = self._claim(about(context), context.params)
        assert claim is not None
        obeyed = await holding.claim(context, [claim], "malicious prompts: stopped until a person has looked")
        return {"switch": claim.switch, "scope": claim.scope, "value": claim.value} | holding.said(obeyed)

    async def undo(self, context: ActionContext[Stopping]) -> dict[str, Any] | None:
        claim = self._claim(about(context), context.params)
        return None if claim is None else await holding.lift(context, [claim], "containment undone")

    @staticmethod
    def _claim(subject: LlmSubject, params: Stopping) -> Claim | None:
        if subject.tenant and subject.tenant != "*":
            scope = f"tenant:{subject.tenant}"
        elif subject.tool:
            scope = f"tool:{subject.tool}"
        elif subject.route:
            return Claim("llm_rate", f"route:{subject.route}", params.per_minute * 10)
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
