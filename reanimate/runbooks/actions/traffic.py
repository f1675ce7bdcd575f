"""Actions on the agent's traffic: reads moved away, writes held, and both brought back step by step."""

import asyncio
from typing import Annotated, Any

from pydantic import Field

from reanimate.db.tables import Incident
from reanimate.errors import CheckFailed
from reanimate.runbooks import holding
from reanimate.runbooks.action import Action, ActionContext, Evidence, NoParams, Outcome, Params, target_of
from reanimate.runbooks.look import look_at
from reanimate.switches import holds
from reanimate.switches.document import Claim
from reanimate.switches.gateways import gateway_figures

__all__ = ["HoldWrites", "LiftHolds", "MoveReadsAway", "ReturnReads"]


class Extent(Params):
    """How much of a target an action holds."""

    per_collection: bool = False
    """Only the collections of the incident, not the whole target."""


def _scopes(incident: Incident, per_collection: bool) -> list[str]:
    target = target_of(incident)
    names = incident.scope.get("collections") or []
    return [f"{target}/{name}" for name in names] if per_collection and names else [target]


def _claims(context: ActionContext[Any], switch: str, value: int | str) -> list[Claim]:
    """Return what the action claims: one switch, at one value, for each of its scopes."""
    return [Claim(switch, scope, value) for scope in _scopes(context.incident, context.params.per_collection)]


class MoveReadsAway(Action[Extent]):
    """Move the reads to a target that answers with its data."""

    name = "move_reads_away"
    params = Extent
    time_limit_s = 30.0
    safe_as_reflex = True
    undoes = "lifts the hold, so that reads go where they went before"

    def describe(self, incident: Incident, params: Extent) -> str:
        return f"move the reads of {', '.join(_scopes(incident, params.per_collection))} to a healthy target"

    def said(self, evidence: Evidence) -> str:
        return f"reads no longer go to {', '.join(evidence['scopes'])}{holding.by(evidence)}"

    async def check_before(self, context: ActionContext[Extent]) -> Outcome | None:
        others = [target.name for target in context.services.settings.vector.serving if target.name != context.target]
        wanted = set(context.incident.scope.get("collections") or []) if context.params.per_collection else set()
        probes = await asyncio.gather(*(look_at(context.services, name) for name in others))
        healthy = [p.target for p in probes if p.answers and not (wanted & set(p.problems) if wanted else p.problems)]
        if healthy:
            return None
        found = {probe.target: probe.detail if not probe.answers else dict(probe.problems) for probe in probes}
        return Outcome({"looked_at": found}, skipped="no other target answers with its data: reads stay where they are")

    async def act(self, context: ActionContext[Extent]) -> dict[str, Any]:
        claims = _claims(context, "read_share", 0)
        return {"scopes": [claim.scope for claim in claims]} | holding.said(
            await holding.claim(context, claims, "reads are kept away while it is repaired")
        )

    async def undo(self, context: ActionContext[Extent]) -> dict[str, Any] | None:
        claims = _claims(context, "read_share", 0)
        return await holding.lift(context, claims, "containment undone")


class HoldWrites(Action[Extent]):
    """Hold the writes: they are refused with 503 and Retry-After until the hold is lifted."""

    name = "hold_writes"
    params = Extent
    time_limit_s = 30.0
    safe_as_reflex = True
    undoes = "lifts the hold, so that writes go through"

    def describe(self, incident: Incident, params: Extent) -> str:
        return f"refuse writes to {', '.join(_scopes(incident, params.per_collection))} with 503 and Retry-After"

    def said(self, evidence: Evidence) -> str:
        return f"writes to {', '.join(evidence['scopes'])} wait{holding.by(evidence)}"

    async def check_before(self, context: ActionContext[Extent]) -> Outcome | None:
        if context.services.settings.vector.target(context.target).role != "primary":
            return Outcome(skipped=f"{context.target} is a replica: no writes go there")
        here = await look_at(context.services, context.target)
        if here.answers and here.judged and not here.problems:
            # An alert that is wrong, or over already, must not cost the agent its writes.
            return Outcome({"probe": here.detail}, skipped=f"{context.target} answers with its data: writes go on")
        return None

    async def act(self, context: ActionContext[Extent]) -> dict[str, Any]:
        claims = _claims(context, "writes", "hold")
        return {"scopes": [claim.scope for claim in claims]} | holding.said(
            await holding.claim(context, claims, "writes wait until the data is verified")
        )

    async def undo(self, context: ActionContext[Extent]) -> dict[str, Any] | None:
        claims = _claims(context, "writes", "hold")
        return await holding.lift(context, claims, "containment undone")


class Shares(Params):
    """How reads come back."""

    per_collection: bool = False
    steps: tuple[Annotated[int, Field(gt=0, le=100)], ...] = (10, 50, 100)
    """Percent of reads, in this order; the last must be 100."""
    dwell_s: Annotated[float, Field(gt=0, le=600)] = 2.0
    """How long each share is watched before the next."""


class ReturnReads(Action[Shares]):
    """Bring the reads back in steps, looking at the target's failures at each."""

    name = "return_reads"
    params = Shares
    time_limit_s = 300.0
    undoes = "keeps the reads away again"

    def describe(self, incident: Incident, params: Shares) -> str:
        steps = ", ".join(f"{share} %" for share in params.steps)
        scopes = ", ".join(_scopes(incident, params.per_collection))
        return f"give {scopes} {steps} of the reads, {params.dwell_s:g} s each"

    def limit_s(self, params: Shares) -> float:
        return 60.0 + len(params.steps) * (params.dwell_s + 15.0)

    def said(self, evidence: Evidence) -> str:
        return "reads are back: " + ", ".join(
            f"{item['share']} % with {item['requests']} reads, {item['failures']} failed" for item in evidence["steps"]
        )

    async def act(self, context: ActionContext[Shares]) -> dict[str, Any]:
        reached = int(context.progress.get("share", 0))
        seen: list[dict[str, Any]] = list(context.progress.get("seen", []))
        for share in context.params.steps:
            if share <= reached:
                continue
            seen.append(await self._one_step(context, share))
            await context.save(share=share, seen=seen)
        return {"steps": seen}

    async def _one_step(self, context: ActionContext[Shares], share: int) -> dict[str, Any]:
        claims = _claims(context, "read_share", share)
        began = context.now()
        obeyed = await holding.claim(context, claims, f"{share} % of the reads come back")
        await asyncio.sleep(context.params.dwell_s)
        figures = await gateway_figures(context.services, began)
        counted = {
            name: figure.get("targets", {}).get(context.target, {}) for name, figure in figures.items() if figure
        }
        failures = sum(int(count.get("failures", 0)) for count in counted.values())
        probe = await look_at(context.services, context.target)
        if failures or not probe.answers or probe.problems:
            await self.undo(context)
            raise CheckFailed(
                f"reads of {context.target} at {share} %: {failures} failed of those the gateways counted, "
                f"own probe: {probe.detail} {dict(probe.problems) or ''}",
                hint="reads are kept away again; look at the target before trying once more",
            )
        return {
            "share": share,
            "requests": sum(int(count.get("requests", 0)) for count in counted.values()),
            "failures": failures,
            "probe": probe.detail,
        } | holding.said(obeyed)

    async def undo(self, context: ActionContext[Shares]) -> dict[str, Any] | None:
        claims = _claims(context, "read_share", 0)
        return holding.said(await holding.claim(context, claims, "reads are kept away again"))


class LiftHolds(Action[NoParams]):
    """Lift every hold of this incident; those of other causes stay."""

    name = "lift_holds"
    time_limit_s = 30.0
    undoes = "nothing: holding again is the work of containment"

    def said(self, evidence: Evidence) -> str:
        return f"all holds of this incident are lifted{holding.by(evidence)}"

    async def act(self, context: ActionContext[NoParams]) -> dict[str, Any]:
        async with context.services.sessions.begin() as session:
            await holds.lift_all(
                session,
                cause=context.incident.id,
                reason="verified: traffic is back",
                actor=context.actor,
                now=context.now(),
            )
        return holding.said(await holding.obeyed(context))
