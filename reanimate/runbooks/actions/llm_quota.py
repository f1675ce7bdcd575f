"""Actions when tokens or money run out: a person is asked to top up, and the quota is waited for."""

import asyncio
import time
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import select

from reanimate.db.tables import Incident, QuotaAccount
from reanimate.errors import CheckFailed
from reanimate.quota.thresholds import is_used_up
from reanimate.runbooks.action import Action, ActionContext, Evidence, NoParams, Params
from reanimate.runbooks.actions.llm_traffic import about, targets_of
from reanimate.runbooks.actions.people import order_notice
from reanimate.runbooks.llm_ask import ask_target

__all__ = ["AskForTopUp", "WaitForQuota"]

_EVERY_S = 2.0


class AskForTopUp(Action[NoParams]):
    """Ask a person to top up, or to ask for a higher limit."""

    name = "ask_for_top_up"
    time_limit_s = 15.0
    undoes = "nothing: what was asked stays asked"

    def said(self, evidence: Evidence) -> str:
        return f"asked: {evidence['asked']}"

    async def act(self, context: ActionContext[NoParams]) -> dict[str, Any]:
        incident = context.incident
        if quota := incident.scope.get("quota"):
            asked = (
                f"raise the quota {quota}, for this window with `reanimate quota grant {quota} …`, or in the settings"
            )
        else:
            asked = (
                f"top up the account at {about(context).provider or 'the provider'}, or ask for a higher limit there"
            )
        body = (
            f"{incident.title} ({incident.component}).\nPlease {asked}.\n"
            f"Cheaper models and kept answers are used until then; recovery goes on by itself when there is quota.\n"
            f"{context.services.addresses.web}/incidents/{incident.id}"
        )
        await order_notice(context, "top-up", f"[{incident.severity or '?'}] quota is used up: please top up", body)
        return {"asked": asked, "receivers": len(context.services.settings.notify.urls)}


class Patience(Params):
    """How long to wait for quota."""

    limit_s: Annotated[float, Field(gt=0)] = 3 * 3600.0


class WaitForQuota(Action[Patience]):
    """Wait until there is quota again: by the ledger, or by real calls that the provider does not refuse."""

    name = "wait_for_quota"
    params = Patience

    def describe(self, incident: Incident, params: Patience) -> str:
        return f"wait up to {params.limit_s:g} s until there is quota again for {incident.component}"

    def limit_s(self, params: Patience) -> float:
        return params.limit_s + 60.0

    def said(self, evidence: Evidence) -> str:
        return f"there is quota again after {evidence['waited_s']:g} s: {evidence['found']}"

    async def act(self, context: ActionContext[Patience]) -> dict[str, Any]:
        began = time.monotonic()
        while True:
            there, found = await self._look(context)
            waited = time.monotonic() - began
            if there:
                return {"waited_s": round(waited, 1), "found": found}
            if waited > context.params.limit_s:
                raise CheckFailed(
                    f"there is no quota for {context.incident.component} after {waited:.0f} s: {found}",
                    hint="top up or grant more, then `reanimate respond` again",
                )
            await asyncio.sleep(_EVERY_S)

    async def _look(self, context: ActionContext[Patience]) -> tuple[bool, str]:
        if quota := context.incident.scope.get("quota"):
            return await self._of_the_ledger(context, str(quota))
        targets = targets_of(context)
        if not targets:
            return False, f"no provider of the settings is meant by {context.incident.component}"
        for target in targets:
            asked = await ask_target(context.services, target)
            if asked is not None and not asked.ok:
                return False, f"{target}: {asked.detail}"
        return True, f"{', '.join(targets)} answer"

    @staticmethod
    async def _of_the_ledger(context: ActionContext[Patience], quota: str) -> tuple[bool, str]:
        """Say whether every meter of a quota has something left in its present window."""
        tenant = str(context.incident.scope.get("tenant") or "")
        now = context.now()
        async with context.services.sessions() as session:
            rows = await session.scalars(
                select(QuotaAccount).where(
                    QuotaAccount.quota == quota,
                    QuotaAccount.tenant.in_(("", tenant)),
                    QuotaAccount.pot == "normal",
                    QuotaAccount.starts_at <= now,
                    QuotaAccount.ends_at > now,
                )
            )
            spent = [
                row.meter
                for row in rows
                if is_used_up(row.limit_amount + row.extra, row.spent, row.refused_at is not None)
            ]
        if spent:
            return False, f"{quota} has no {', '.join(spent)} left in this window"
        return True, f"{quota} has quota left in this window"
