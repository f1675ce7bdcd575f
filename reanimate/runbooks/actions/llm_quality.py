"""Actions on the quality of answers: models compared by questions with known answers, and waited for."""

import asyncio
import time
from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field

from reanimate.db.tables import Incident
from reanimate.errors import CheckFailed
from reanimate.runbooks.action import Action, ActionContext, Evidence, NoParams, Outcome, Params
from reanimate.runbooks.actions.llm_traffic import Keeping, SwitchProvider, about, targets_of
from reanimate.runbooks.llm_ask import run_checks
from reanimate.runbooks.llm_look import SeenTarget, seen_targets

__all__ = ["CompareAnswers", "MoveToBetterModel", "WaitForQuality"]

_GOOD_IN_A_ROW = 3
_LATELY = timedelta(minutes=5)


class CompareAnswers(Action[NoParams]):
    """Ask the model in question, and those that could answer instead, every question with a known answer."""

    name = "compare_answers"
    time_limit_s = 180.0

    def said(self, evidence: Evidence) -> str:
        if not any(evidence["checks"].values()):
            return "no question with a known answer is set: nothing to compare by"
        return "; ".join(
            f"{target}: {sum(item['passed'] for item in results)} of {len(results)} right"
            for target, results in evidence["checks"].items()
            if results
        )

    async def act(self, context: ActionContext[NoParams]) -> dict[str, Any]:
        suspects = targets_of(context)
        routes = about(context).routes
        others = [
            choice.target
            for route in context.services.settings.llm.routes
            if route.name in routes
            for choice in route.targets
        ]
        asked = list(dict.fromkeys([*suspects, *others]))
        results = await asyncio.gather(*(run_checks(context.services, target) for target in asked))
        seen, _ = await seen_targets(context.services, context.now() - _LATELY)
        found = dict(zip(asked, results, strict=True))
        await context.save(compared=[_compared(target, target in suspects, found[target], seen) for target in asked])
        return {
            "suspects": suspects,
            "checks": found,
            "finishes": {target: dict(seen[target].finishes) for target in asked},
        }


def _compared(target: str, suspect: bool, results: list[dict[str, Any]], seen: dict[str, SeenTarget]) -> dict[str, Any]:
    right = sum(item["passed"] for item in results)
    return {
        "target": target, "suspect": suspect, "asked": len(results), "right": right, "poor": seen[target].is_poor,
    }  # fmt: skip


class MoveToBetterModel(SwitchProvider):
    """Move to a model that answers better: the one in question is not asked, whatever else fails."""

    name = "move_to_better_model"

    async def check_before(self, context: ActionContext[Keeping]) -> Outcome | None:
        compared = await context.earlier(CompareAnswers.name, "compared")
        suspects = [item for item in compared if item["suspect"]]
        if suspects and all(item["asked"] == item["right"] > 0 and not item["poor"] for item in suspects):
            return Outcome({"compared": compared}, skipped="it answers all known questions right: calls stay")
        worst = min((item["right"] / item["asked"] for item in suspects if item["asked"]), default=0.0)
        others = [item for item in compared if not item["suspect"]]
        if others and all(item["asked"] and item["right"] / item["asked"] < worst for item in others):
            return Outcome({"compared": compared}, skipped="nobody else answers better: calls stay where they are")
        return await super().check_before(context)


class Patience(Params):
    """How long to wait for good answers, and how often to look."""

    limit_s: Annotated[float, Field(gt=0)] = 3600.0
    every_s: Annotated[float, Field(gt=0)] = 60.0


class WaitForQuality(Action[Patience]):
    """Wait until the model answers every question with a known answer right, three times in a row."""

    name = "wait_for_quality"
    params = Patience

    def describe(self, incident: Incident, params: Patience) -> str:
        return f"ask {incident.component} every {params.every_s:g} s until it answers right, up to {params.limit_s:g} s"

    def limit_s(self, params: Patience) -> float:
        return params.limit_s + 180.0

    def said(self, evidence: Evidence) -> str:
        return f"answered right again by {', '.join(evidence['targets'])} after {evidence['waited_s']:g} s"

    async def act(self, context: ActionContext[Patience]) -> dict[str, Any]:
        targets = targets_of(context)
        began = time.monotonic()
        good, wrong = 0, ""
        while good < _GOOD_IN_A_ROW:
            results = {target: await run_checks(context.services, target) for target in targets}
            if not any(results.values()):
                raise CheckFailed(
                    f"no question with a known answer is set for {', '.join(targets) or context.incident.component}: "
                    "whether its answers are right again cannot be seen",
                    hint="set [[llm.checks]] and run `reanimate respond` again, or close the incident by hand",
                )
            seen, _ = await seen_targets(context.services)
            failed = [f"{name}: {poor}" for name in targets if (poor := seen[name].is_poor)]
            failed += [f"{name}, {one['check']}: {one['found']}" for name in results for one in results[name]
                      if not one["passed"]]  # fmt: skip
            good, wrong = (0, "; ".join(failed)) if failed else (good + 1, "")
            waited = time.monotonic() - began
            if failed and waited > context.params.limit_s:
                raise CheckFailed(
                    f"answers of {', '.join(targets)} are not right after {waited:.0f} s: {wrong}",
                    hint="other models answer meanwhile; a person decides whether to keep it that way",
                )
            if good < _GOOD_IN_A_ROW:
                await asyncio.sleep(context.params.every_s if failed else min(1.0, context.params.every_s))
        return {"waited_s": round(time.monotonic() - began, 1), "targets": targets, "rounds": _GOOD_IN_A_ROW}
