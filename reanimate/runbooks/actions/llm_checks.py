"""Actions that find out how an LLM provider is: what it says of itself, waiting for it, and real answers as proof."""

import asyncio
import re
import time
from typing import Annotated, Any

import httpx
from pydantic import Field

from reanimate.db.tables import Incident
from reanimate.errors import CheckFailed, VerificationFailed
from reanimate.incidents.severity import Severity
from reanimate.quota.glass import issue_pass
from reanimate.runbooks.action import Action, ActionContext, Evidence, NoParams, Params
from reanimate.runbooks.actions.llm_traffic import about, targets_of
from reanimate.runbooks.actions.people import order_notice
from reanimate.runbooks.llm_ask import Asked, ask_route, ask_target, run_checks
from reanimate.runbooks.llm_look import kept_from_providers, seen_targets

__all__ = ["CheckStatusPage", "VerifyAnswers", "WaitForProvider"]

_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_ASK_FOR_HELP_AFTER_S = 600.0
_GOOD_IN_A_ROW = 3
_EVERY_S = 1.0
_SLOWLY_S = 15.0
_SOON_FOR_S = 60.0


class CheckStatusPage(Action[NoParams]):
    """Look at what the provider says of itself, as evidence; nothing is decided by it."""

    name = "check_status_page"
    time_limit_s = 15.0

    def said(self, evidence: Evidence) -> str:
        return (
            "; ".join(f"{item['provider']}: {item['found']}" for item in evidence["pages"]) or "no status page is set"
        )

    async def act(self, context: ActionContext[NoParams]) -> dict[str, Any]:
        names = {target.partition("/")[0] for target in targets_of(context)}
        providers = [item for item in context.services.settings.llm.providers if item.name in names]
        pages = []
        for provider in providers:
            if provider.status_page:
                found = await _look_at(context.services.http, provider.status_page)
                pages.append({"provider": provider.name, "url": provider.status_page, "found": found})
        return {"pages": pages}


async def _look_at(http: httpx.AsyncClient, url: str) -> str:
    """Return in a few words what a status page says; what cannot be read is said as it is."""
    try:
        answer = await http.get(url, timeout=5.0, follow_redirects=True)
    except httpx.HTTPError as error:
        return f"it cannot be read: {type(error).__name__}"
    try:
        said = answer.json()["status"]
        return str(said["description"] if isinstance(said, dict) else said)[:200]
    except (ValueError, KeyError, TypeError):
        title = _TITLE.search(answer.text)
        return f"HTTP {answer.status_code}: {' '.join(title.group(1).split())[:150] if title else 'no words in it'}"


class Patience(Params):
    """How long to wait for a provider."""

    limit_s: Annotated[float, Field(gt=0)] = 3 * 3600.0


class WaitForProvider(Action[Patience]):
    """Wait until the provider is well again: by the gateways' own probes, and by real calls of our own."""

    name = "wait_for_provider"
    params = Patience

    def describe(self, incident: Incident, params: Patience) -> str:
        return f"wait up to {params.limit_s:g} s until {incident.component} answers real calls again"

    def limit_s(self, params: Patience) -> float:
        return params.limit_s + 60.0

    def said(self, evidence: Evidence) -> str:
        return f"answered again by {', '.join(evidence['targets'])} after {evidence['waited_s']:g} s"

    async def act(self, context: ActionContext[Patience]) -> dict[str, Any]:
        targets = targets_of(context)
        if not targets:
            raise CheckFailed(
                f"no provider of the settings is meant by {context.incident.component}",
                hint="look at the incident, and at [[llm.providers]]",
            )
        began = time.monotonic()
        good = 0
        while True:
            wrong = await self._wrong(context, targets)
            good = 0 if wrong else good + 1
            waited = time.monotonic() - began
            if good >= _GOOD_IN_A_ROW:
                return {"waited_s": round(waited, 1), "targets": targets}
            if waited > context.params.limit_s:
                raise CheckFailed(
                    f"{', '.join(targets)} did not come back within {waited:.0f} s: {wrong}",
                    hint="others answer meanwhile; `reanimate respond` goes on waiting",
                )
            if waited > _ASK_FOR_HELP_AFTER_S:
                await order_notice(
                    context,
                    "provider-away",
                    f"{context.incident.component} has been away for {waited / 60:.0f} minutes",
                    f"Recovery waits for it: {wrong}. Incident {context.incident.id}.",
                )
            await asyncio.sleep(_EVERY_S if waited < _SOON_FOR_S or not wrong else _SLOWLY_S)

    @staticmethod
    async def _wrong(context: ActionContext[Any], targets: list[str]) -> str:
        """Say what speaks against the provider; nothing when it is well. Our own calls come last: they cost."""
        seen, told = await seen_targets(context.services)
        if given_up := [name for name in targets if told and seen[name].open_at]:
            return f"the gateways have given up {', '.join(given_up)}: {seen[given_up[0]].why or 'no reason given'}"
        for name in targets:
            asked = await ask_target(context.services, name)
            if asked is not None and not asked.ok:
                return f"{name}: {asked.detail}"
        return ""


class Proof(Params):
    """What is asked for proof."""

    answers: Annotated[int, Field(ge=1, le=20)] = 3
    """Of each route, through the gateway."""
    checks: bool = False
    """Also every question with a known answer, of each model in question; without one it cannot be verified."""
    patience_s: Annotated[float, Field(ge=0)] = 600.0
    """How long to wait while a gateway's own rules still keep calls from providers, or no gateway answers."""


class VerifyAnswers(Action[Proof]):
    """Verify with real answers: through the gateway as the agent asks, and from the provider itself."""

    name = "verify_answers"
    params = Proof

    def describe(self, incident: Incident, params: Proof) -> str:
        known = ", and every question with a known answer" if params.checks else ""
        return f"ask {params.answers} questions of each route through the gateway, and the provider itself{known}"

    def limit_s(self, params: Proof) -> float:
        return params.patience_s + 300.0

    def said(self, evidence: Evidence) -> str:
        return (
            f"{len(evidence['through_gateway'])} answers through the gateway and {len(evidence['direct'])} direct good"
        )

    async def act(self, context: ActionContext[Proof]) -> dict[str, Any]:
        headers = await _pass_of(context)
        began, told = time.monotonic(), ""
        while True:
            evidence, wrong, kept = await self._try(context, headers)
            if wrong:
                raise VerificationFailed(
                    f"answers of {context.incident.component} are not good: {'; '.join(wrong[:5])}",
                    hint="containment stays; `reanimate llm status` shows the targets",
                )
            if not kept:
                return evidence | {"passed": True}
            if (waited := time.monotonic() - began) > context.params.patience_s:
                raise VerificationFailed(
                    f"{context.incident.component} could not be verified within {waited:.0f} s: {kept}",
                    hint="containment stays; `reanimate llm status` shows the rules, `reanimate status` the gateway",
                )
            if kept != told:
                await context.note("note", f"verification waits: {kept}")
                told = kept
            await asyncio.sleep(_EVERY_S)

    async def _try(self, context: ActionContext[Proof], headers: dict[str, str]) -> tuple[Evidence, list[str], str]:
        """Return what was answered, what is wrong with it, and what keeps questions from providers for a while."""
        if kept := await kept_from_providers(context.services, about(context).routes):
            # A provider that fails anew is not waited for: the rules would hold for as long as it does.
            return {}, await _given_up(context), kept
        evidence, through, direct = await self._ask(context, headers)
        if any(asked.status is None for asked in through) and all(asked.ok for asked in direct):
            return {}, [], "a gateway did not answer"
        return evidence, self._wrong(context, evidence, [*through, *direct]), ""

    @staticmethod
    async def _ask(context: ActionContext[Proof], headers: dict[str, str]) -> tuple[Evidence, list[Asked], list[Asked]]:
        subject, targets = about(context), targets_of(context)
        tenant = subject.tenant if subject.tenant != "*" else None
        through: list[Asked] = []
        for route in subject.routes:
            through += [
                await ask_route(context.services, route, headers, tenant) for _ in range(context.params.answers)
            ]
        direct = [asked for name in targets if (asked := await ask_target(context.services, name)) is not None]
        checks = {name: await run_checks(context.services, name) for name in targets} if context.params.checks else {}
        evidence = {
            "through_gateway": [asked.to_json() for asked in through],
            "direct": [asked.to_json() for asked in direct],
            "checks": checks,
        }
        return evidence, through, direct

    @staticmethod
    def _wrong(context: ActionContext[Proof], evidence: Evidence, answers: list[Asked]) -> list[str]:
        """Say what is wrong with the answers, or what was not asked at all."""
        wrong = [f"{asked.who}: {asked.detail}" for asked in answers if not asked.ok]
        wrong += [
            f"{name}, {result['check']}: {result['found']}"
            for name, results in evidence["checks"].items()
            for result in results
            if not result["passed"]
        ]
        if context.params.checks and not any(evidence["checks"].values()):
            wrong.append(
                "no question with a known answer is set ([[llm.checks]]): whether answers are right is unknown"
            )
        if not evidence["through_gateway"]:
            wrong.append("no route asks it: there is nothing to verify through the gateway")
        return wrong


async def _given_up(context: ActionContext[Any]) -> list[str]:
    """Say which of the models in question a gateway has given up."""
    seen, _ = await seen_targets(context.services)
    return [f"{name}: {seen[name].why or 'given up'}" for name in targets_of(context) if seen[name].open_at]


async def _pass_of(context: ActionContext[Any]) -> dict[str, str]:
    """Return the header by which a P0 recovery may use the reserve of a quota."""
    if context.incident.severity != Severity.P0:
        return {}
    async with context.services.sessions.begin() as session:
        issued = await issue_pass(
            session,
            context.incident.id,
            control_key=context.services.secrets.control_key,
            actor=context.actor,
            now=context.now(),
        )
    return {"x-reanimate-recovery": issued}
