"""Ending the holds of one cause step by step, with a look at the calls that no provider answered at each."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.errors import CheckFailed, NotFound
from reanimate.switches import holds
from reanimate.switches.changing import Change, change, softer
from reanimate.switches.document import Claim
from reanimate.switches.gateways import gateway_figures

__all__ = ["Answered", "Round", "answered_since", "recover_gradually"]

_KEPT = ("llm_kill", "llm_rate")
"""Whoever is kept out for a reason comes back after a review of their own."""
_WORST = 0.1
_LEAST = 3


@dataclass(frozen=True)
class Answered:
    """How calls went for which providers were to answer."""

    calls: int
    failed: int

    @property
    def is_bad(self) -> bool:
        """More than a tenth unanswered, and not by a single call."""
        return self.failed >= _LEAST and self.failed > _WORST * self.calls


@dataclass(frozen=True)
class Round:
    """One step back."""

    change: Change
    answered: Answered | None
    """What was seen after it; None for a dry run."""

    def to_json(self) -> dict[str, Any]:
        return {**self.change.to_json(), "answered": vars(self.answered) if self.answered else None}


async def answered_since(services: Services, since: datetime, route: str | None = None) -> Answered | None:
    """Add up what the gateways counted since a moment, of one route or of all; None when not one of them says."""
    calls = failed = 0
    told = [figures for figures in (await gateway_figures(services, since)).values() if "error" not in figures]
    if not told:
        return None
    for figures in told:
        counted = figures.get("llm") or {}
        if route is not None:
            counted = (counted.get("routes") or {}).get(route) or {}
        calls += int(counted.get("samples", 0))
        failed += int(counted.get("failed", 0))
    return Answered(calls, failed)


async def recover_gradually(
    services: Services, *, cause: str, step_s: float, reason: str, actor: str, dry_run: bool = False
) -> list[Round]:
    """Take the holds of `cause` back in steps, each watched for `step_s`; return the steps.

    Raises:
        NotFound: it holds nothing of the LLM plane that comes back this way.
        CheckFailed: calls went unanswered after a step, or nobody could say how they went; it was taken back, and
            earlier ones stay.
    """
    held = await _held(services, cause)
    if not held:
        raise NotFound(
            f"{cause!r} holds nothing of the LLM plane that comes back step by step",
            hint="`reanimate llm status` shows what is held, and by whom; `reanimate llm allow` lifts kills and cuts",
        )
    rounds: list[Round] = []
    while held:
        next_ones = [item for claim in held if (item := softer(claim)) is not None]
        began = utcnow()
        made = await change(
            services,
            place=next_ones,
            lift=[(claim.switch, claim.scope) for claim in held if not _stays(claim, next_ones)],
            cause=cause,
            reason=reason,
            actor=actor,
            dry_run=dry_run,
        )
        answered = None
        if not dry_run:
            await asyncio.sleep(step_s)
            answered = await answered_since(services, began)
            if answered is None:
                await _take_back(services, held, next_ones, cause, actor)
                raise CheckFailed(
                    "no gateway says how calls went after a step, which was taken back",
                    hint="try again when `reanimate status` shows it ready; `reanimate hold lift` does not look",
                )
            if answered.is_bad:
                await _take_back(services, held, next_ones, cause, actor)
                raise CheckFailed(
                    f"{answered.failed} of {answered.calls} calls were not answered after a step, which was taken back",
                    hint="`reanimate llm status` shows the targets; try again when they are well",
                )
        rounds.append(Round(made, answered))
        held = next_ones
    return rounds


def _stays(claim: Claim, next_ones: Sequence[Claim]) -> bool:
    return any((claim.switch, claim.scope) == (item.switch, item.scope) for item in next_ones)


async def _held(services: Services, cause: str) -> list[Claim]:
    async with services.sessions() as session:
        found = await holds.open_holds(session, cause=cause)
    return [
        Claim(hold.switch, hold.scope, hold.value)
        for hold in found
        if hold.switch.startswith("llm_") and hold.switch not in _KEPT
    ]


async def _take_back(services: Services, held: Sequence[Claim], tried: Sequence[Claim], cause: str, actor: str) -> None:
    await change(
        services,
        place=held,
        lift=[(claim.switch, claim.scope) for claim in tried if not _stays(claim, held)],
        cause=cause,
        reason="a step back went wrong",
        actor=actor,
    )
