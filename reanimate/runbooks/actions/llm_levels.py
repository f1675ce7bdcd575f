"""Actions that set a level of service as a whole, and go back from whatever the incident holds, step by step."""

from typing import Annotated, Any, Literal

from pydantic import Field

from reanimate.db.tables import Incident
from reanimate.errors import NotFound
from reanimate.runbooks import holding
from reanimate.runbooks.action import Action, ActionContext, Evidence, Outcome, Params
from reanimate.runbooks.actions.llm_traffic import about, scopes_of
from reanimate.switches.document import Claim
from reanimate.switches.levels import claims_of_level
from reanimate.switches.recovering import recover_gradually

__all__ = ["Degrade", "RecoverGradually"]


class ToLevel(Params):
    """How far."""

    level: Literal["degraded", "minimal"] = "degraded"
    """degraded: cheaper models, kept answers first; minimal: no model is asked."""


class Degrade(Action[ToLevel]):
    """Start degraded mode: cheaper models and kept answers first, or no model at all."""

    name = "degrade_llm"
    params = ToLevel
    time_limit_s = 30.0
    safe_as_reflex = True
    undoes = "lifts the holds of the level"

    def describe(self, incident: Incident, params: ToLevel) -> str:
        return f"answer {incident.component} at the level {params.level}"

    def said(self, evidence: Evidence) -> str:
        return f"{evidence['level']} for {', '.join(evidence['scopes'])}{holding.by(evidence)}"

    async def act(self, context: ActionContext[ToLevel]) -> dict[str, Any]:
        claims = self._claims(context)
        obeyed = await holding.claim(context, claims, f"the level {context.params.level} until it is well again")
        scopes = list(dict.fromkeys(claim.scope for claim in claims))
        return {"level": context.params.level, "scopes": scopes} | holding.said(obeyed)

    async def undo(self, context: ActionContext[ToLevel]) -> dict[str, Any] | None:
        return await holding.lift(context, self._claims(context), "containment undone")

    @staticmethod
    def _claims(context: ActionContext[ToLevel]) -> list[Claim]:
        return [claim for scope in scopes_of(about(context)) for claim in claims_of_level(context.params.level, scope)]


class Steps(Params):
    """How long each step is watched."""

    step_s: Annotated[float, Field(ge=0, le=600)] = 5.0


class RecoverGradually(Action[Steps]):
    """Take back what this incident holds of LLM calls, step by step, looking at what goes unanswered at each."""

    name = "recover_llm"
    params = Steps
    time_limit_s = 300.0
    undoes = "nothing: a step that goes wrong is taken back at once"

    def said(self, evidence: Evidence) -> str:
        return f"back to normal in {len(evidence['rounds'])} steps"

    async def check_before(self, context: ActionContext[Steps]) -> Outcome | None:
        held = await holding.own_holds(
            context, "llm_prefer", "llm_avoid", "llm_share", "llm_cache", "llm_tier", "llm_static", "llm_concurrency"
        )
        return None if held else Outcome(skipped="this incident holds nothing that comes back in steps")

    async def act(self, context: ActionContext[Steps]) -> dict[str, Any]:
        try:
            rounds = await recover_gradually(
                context.services,
                cause=context.incident.id,
                step_s=context.params.step_s,
                reason="back to normal step by step",
                actor=context.actor,
            )
        except NotFound:  # a run that was cut had taken the last step already
            rounds = []
        return {"rounds": [item.to_json() for item in rounds]}
