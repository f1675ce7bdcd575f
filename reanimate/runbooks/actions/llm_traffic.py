"""Actions on LLM calls: kept away from a provider, answered from the cache or by cheaper models, and brought back."""

import asyncio
from typing import Annotated, Any, Literal

from pydantic import Field

from reanimate.db.tables import Incident
from reanimate.errors import CheckFailed
from reanimate.runbooks import holding
from reanimate.runbooks.action import Action, ActionContext, Evidence, NoParams, Outcome, Params
from reanimate.runbooks.llm_ask import ask_target
from reanimate.runbooks.llm_look import LlmSubject, SeenTarget, look_at_providers, seen_targets, subject_of
from reanimate.switches.document import Claim

__all__ = [
    "CacheMode",
    "Keeping",
    "ReturnProvider",
    "SwitchProvider",
    "UseCheaperModel",
    "about",
    "scopes_of",
    "targets_of",
]


def about(context: ActionContext[Any]) -> LlmSubject:
    """Return what the incident is about."""
    return subject_of(context.incident, context.services.settings)


def targets_of(context: ActionContext[Any]) -> list[str]:
    """Return the models that the incident is about: the one, all of the provider's, or all of the route's."""
    subject, llm = about(context), context.services.settings.llm
    if subject.target:
        return [subject.target]
    routed = [choice.target for route in llm.routes if route.name in subject.routes for choice in route.targets]
    if subject.provider:
        own = [target for target in routed if target.partition("/")[0] == subject.provider]
        known = next(item for item in llm.providers if item.name == subject.provider)
        return list(dict.fromkeys(own)) or [f"{known.name}/{model.name}" for model in known.models]
    return list(dict.fromkeys(routed))


class Keeping(Params):
    """How strictly calls are kept away."""

    strictly: bool = False
    """Not even when nobody else is left: for answers that are worse than none."""


class SwitchProvider(Action[Keeping]):
    """Switch to another provider: calls go elsewhere, the one in trouble is the last resort."""

    name = "switch_provider"
    params = Keeping
    time_limit_s = 30.0
    safe_as_reflex = True
    undoes = "lifts the hold, so that calls go where they went before"

    def describe(self, incident: Incident, params: Keeping) -> str:
        return f"keep calls away from {incident.component}" + (", whatever else fails" if params.strictly else "")

    def said(self, evidence: Evidence) -> str:
        return f"calls no longer go to {evidence['scope']}{holding.by(evidence)}"

    async def check_before(self, context: ActionContext[Keeping]) -> Outcome | None:
        subject = about(context)
        if not subject.held:
            return Outcome(skipped=f"{context.incident.component} is no provider: calls stay where they are")
        seen, told = await seen_targets(context.services)
        elsewhere = [
            choice.target
            for route in context.services.settings.llm.routes
            if route.name in subject.routes
            for choice in route.targets
            if not _is_about(subject, choice.target)
        ]
        evidence = {"gateways": told, "elsewhere": elsewhere}
        if not any(not seen[target].is_out for target in elsewhere):
            return Outcome(evidence, skipped="nobody else answers: calls stay where they are")
        if not context.params.strictly and told and self._is_well(context, seen):
            # An alert that is wrong, or over already, must not move anybody's calls.
            return Outcome(evidence, skipped=f"{subject.held} is asked and answers: calls stay where they are")
        return None

    @staticmethod
    def _is_well(context: ActionContext[Any], seen: dict[str, SeenTarget]) -> bool:
        own = [seen[target] for target in targets_of(context)]
        return all(not target.is_out for target in own) and any(target.samples > target.failed for target in own)

    async def act(self, context: ActionContext[Keeping]) -> dict[str, Any]:
        claim = self._claim(context)
        obeyed = await holding.claim(context, [claim], "calls are kept away while it is in trouble")
        return {"scope": claim.scope, "value": claim.value} | holding.said(obeyed)

    async def undo(self, context: ActionContext[Keeping]) -> dict[str, Any] | None:
        return await holding.lift(context, [self._claim(context)], "containment undone")

    @staticmethod
    def _claim(context: ActionContext[Keeping]) -> Claim:
        return Claim("llm_avoid", about(context).held, "never" if context.params.strictly else "avoid")


def _is_about(subject: LlmSubject, target: str) -> bool:
    return target == subject.target if subject.target else target.partition("/")[0] == subject.provider


def scopes_of(subject: LlmSubject) -> list[str]:
    """Return where a mode is held: for the tenant, for the routes, or for all calls."""
    if subject.tenant and subject.tenant != "*":
        return [f"tenant:{subject.tenant}"]
    return list(subject.routes) or ["*"]


class Mode(Params):
    """Which mode of the cache."""

    mode: Literal["first", "only"] = "first"
    only_if_alone: bool = False
    """Only where no other provider answers."""


class CacheMode(Action[Mode]):
    """Cache mode: a kept answer, of any age, comes first."""

    name = "cache_mode"
    params = Mode
    time_limit_s = 30.0
    safe_as_reflex = True
    undoes = "lifts the hold, so that providers are asked first again"

    def describe(self, incident: Incident, params: Mode) -> str:
        return "answer from what is kept" + (" only" if params.mode == "only" else " first")

    def said(self, evidence: Evidence) -> str:
        return f"kept answers come {evidence['mode']} for {', '.join(evidence['scopes'])}{holding.by(evidence)}"

    async def check_before(self, context: ActionContext[Mode]) -> Outcome | None:
        if not context.params.only_if_alone:
            return None
        subject = about(context)
        looks = await look_at_providers(context.services)
        alone = [
            route
            for route in subject.routes
            if all(not look.well for look in looks if route in look.routes)
        ]  # fmt: skip
        if looks and not alone:
            return Outcome(skipped="other providers answer: nothing need come from the cache")
        return None

    async def act(self, context: ActionContext[Mode]) -> dict[str, Any]:
        claims = self._claims(context)
        obeyed = await holding.claim(context, claims, "kept answers come first while providers are in trouble")
        return {"mode": context.params.mode, "scopes": [claim.scope for claim in claims]} | holding.said(obeyed)

    async def undo(self, context: ActionContext[Mode]) -> dict[str, Any] | None:
        return await holding.lift(context, self._claims(context), "containment undone")

    @staticmethod
    def _claims(context: ActionContext[Mode]) -> list[Claim]:
        return [Claim("llm_cache", scope, context.params.mode) for scope in scopes_of(about(context))]


class UseCheaperModel(Action[NoParams]):
    """Switch model: the routes' cheaper models come first."""

    name = "use_cheaper_model"
    time_limit_s = 30.0
    safe_as_reflex = True
    undoes = "lifts the hold, so that the usual models come first again"

    def said(self, evidence: Evidence) -> str:
        return f"cheaper models come first for {', '.join(evidence['scopes'])}{holding.by(evidence)}"

    async def check_before(self, context: ActionContext[NoParams]) -> Outcome | None:
        subject = about(context)
        if any(route.cheaper for route in context.services.settings.llm.routes if route.name in subject.routes):
            return None
        return Outcome(skipped=f"no cheaper models are set for {', '.join(subject.routes) or 'any route'}")

    async def act(self, context: ActionContext[NoParams]) -> dict[str, Any]:
        claims = self._claims(context)
        obeyed = await holding.claim(context, claims, "cheaper models until there is quota again")
        return {"scopes": [claim.scope for claim in claims]} | holding.said(obeyed)

    async def undo(self, context: ActionContext[NoParams]) -> dict[str, Any] | None:
        return await holding.lift(context, self._claims(context), "containment undone")

    @staticmethod
    def _claims(context: ActionContext[NoParams]) -> list[Claim]:
        return [Claim("llm_tier", scope, "cheaper") for scope in scopes_of(about(context))]


class Ramp(Params):
    """How calls come back."""

    steps: tuple[Annotated[int, Field(gt=0, le=100)], ...] = (10, 50, 100)
    """Percent of the calls, in this order; the last must be 100."""
    dwell_s: Annotated[float, Field(gt=0, le=600)] = 3.0
    """How long each share is watched before the next."""


class ReturnProvider(Action[Ramp]):
    """Bring the calls back in steps, looking at what fails at each."""

    name = "return_provider"
    params = Ramp
    time_limit_s = 300.0
    undoes = "keeps the calls away again"

    def describe(self, incident: Incident, params: Ramp) -> str:
        return f"give {incident.component} {', '.join(f'{step} %' for step in params.steps)} of its calls again"

    def limit_s(self, params: Ramp) -> float:
        return 60.0 + len(params.steps) * (params.dwell_s + 30.0)

    def said(self, evidence: Evidence) -> str:
        return "calls are back: " + ", ".join(
            f"{item['share']} % with {item['attempts']} attempts, {item['failed']} failed" for item in evidence["steps"]
        )

    async def check_before(self, context: ActionContext[Ramp]) -> Outcome | None:
        if context.progress.get("share") or await holding.own_holds(context, "llm_avoid", "llm_share"):
            return None
        return Outcome(skipped="calls were not kept away by this incident")

    async def act(self, context: ActionContext[Ramp]) -> dict[str, Any]:
        reached = int(context.progress.get("share", 0))
        seen: list[dict[str, Any]] = list(context.progress.get("seen", []))
        for share in context.params.steps:
            if share > reached:
                seen.append(await self._one_step(context, share))
                await context.save(share=share, seen=seen)
        return {"steps": seen}

    async def _one_step(self, context: ActionContext[Ramp], share: int) -> dict[str, Any]:
        scope = about(context).held
        avoided = await holding.own_holds(context, "llm_avoid")
        began = context.now()
        obeyed = await holding.claim(
            context, [Claim("llm_share", scope, share)], f"{share} % of the calls come back", instead_of=avoided
        )
        await asyncio.sleep(context.params.dwell_s)
        seen, told = await seen_targets(context.services, began)
        own = [seen[target] for target in targets_of(context)]
        asked = [await ask_target(context.services, target.name) for target in own]
        wrong = [item.detail for item in asked if item is not None and not item.ok]
        wrong += [f"{target.name}: {target.is_poor}" for target in own if target.is_poor]
        out = [target.name for target in own if target.is_out]
        if out or wrong:
            await self._keep_away(context)
            raise CheckFailed(
                f"calls of {scope} at {share} %: {', '.join(out) or 'no model'} failing by the gateways' figures, "
                f"own calls: {'; '.join(wrong) or 'good'}",
                hint="calls are kept away again; look at the provider before trying once more",
            )
        return {
            "share": share,
            "attempts": sum(target.samples for target in own),
            "failed": sum(target.failed for target in own),
            "gateways": told,
            "own": [item.to_json() for item in asked if item is not None],
        } | holding.said(obeyed)

    async def _keep_away(self, context: ActionContext[Ramp]) -> dict[str, Any]:
        scope = about(context).held
        shares = await holding.own_holds(context, "llm_share")
        await context.save(share=0, seen=[])
        obeyed = await holding.claim(
            context, [Claim("llm_avoid", scope, "avoid")], "calls are kept away again", instead_of=shares
        )
        return holding.said(obeyed)

    async def undo(self, context: ActionContext[Ramp]) -> dict[str, Any] | None:
        if not await holding.own_holds(context, "llm_avoid", "llm_share"):
            return None
        return await self._keep_away(context)
