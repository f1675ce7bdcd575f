"""How the gateways see the LLM providers now, and what of it an incident is about."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.config import Settings
from reanimate.db.tables import Incident
from reanimate.incidents.triage import ProviderLook
from reanimate.llm_settings import LlmSettings
from reanimate.section import is_glob
from reanimate.switches.gateways import gateway_figures

__all__ = ["LlmSubject", "SeenTarget", "kept_from_providers", "look_at_providers", "seen_targets", "subject_of"]

_LATELY = timedelta(seconds=30)
_ANSWERED_SHARE = 0.5
_LEAST = 3
_LEAST_ANSWERS = 10
_REFUSED_SHARE = 0.2
_EMPTY_SHARE = 0.1
_KEEPING = ("llm_cache", "llm_static")
"""Switches by which something else answers than a provider."""


@dataclass(frozen=True)
class LlmSubject:
    """What of the LLM plane an incident is about. Empty fields: not only one."""

    provider: str | None = None
    target: str | None = None
    """provider/model."""
    routes: tuple[str, ...] = ()
    """Those that the trouble reaches."""
    tenant: str | None = None
    tool: str | None = None
    route: str | None = None
    """The one that was named."""

    @property
    def held(self) -> str:
        """What calls are kept away from: the model if one was named, else the provider."""
        return self.target or self.provider or ""


def subject_of(incident: Incident, settings: Settings) -> LlmSubject:
    """Return what an incident is about, from its scope and its component."""
    llm, scope = settings.llm, {key: str(value) for key, value in incident.scope.items()}
    name = incident.component.partition(":")[2] if incident.component.startswith("llm:") else ""
    targets = {f"{item.name}/{model.name}" for item in llm.providers for model in item.models}
    target = name if name in targets else None
    provider = scope.get("provider") or (name.partition("/")[0] if name else "")
    known = provider if provider in {item.name for item in llm.providers} else None
    if target is None and known and f"{known}/{scope.get('model')}" in targets:
        target = f"{known}/{scope.get('model')}"
    route = scope.get("route") or (name if name in {item.name for item in llm.routes} else None)
    routes = (route,) if route else _routes_of(llm, known, target)
    return LlmSubject(known, target, routes, _tenant_of(incident.component, scope, llm), scope.get("tool"), route)


def _tenant_of(component: str, scope: Mapping[str, str], llm: LlmSettings) -> str | None:
    """Return whose calls it is about: of one tenant's quota that tenant's, so that nobody else is held for it."""
    named = scope.get("tenant") or (component.removeprefix("tenant:") if component.startswith("tenant:") else None)
    if named in (None, "*"):
        quota = next((item for item in llm.quotas if item.name == scope.get("quota")), None)
        if quota is not None and not is_glob(quota.tenant):
            return quota.tenant
    return named


def _routes_of(llm: LlmSettings, provider: str | None, target: str | None) -> tuple[str, ...]:
    """Return the routes that ask a provider or target; all when neither is known."""
    if provider is None:
        return tuple(route.name for route in llm.routes)
    return tuple(
        route.name
        for route in llm.routes
        if any(
            choice.target == target or (target is None and choice.target.partition("/")[0] == provider)
            for choice in (*route.targets, *route.cheaper)
        )
    )


@dataclass(frozen=True)
class SeenTarget:
    """One model of a provider, as all gateways together see it."""

    name: str
    open_at: tuple[str, ...]
    """Gateways that have given it up."""
    samples: int
    failed: int
    kinds: Mapping[str, int]
    """How attempts ended, by kind."""
    why: str = ""
    finishes: Mapping[str, int] = field(default_factory=dict)
    """How answers ended, in the provider's words."""

    @property
    def is_poor(self) -> str:
        """Say what is poor about its answers: many refused or empty; nothing where they are as they should be."""
        answers = sum(self.finishes.values())
        if answers < _LEAST_ANSWERS:
            return ""
        refused = sum(self.finishes.get(name, 0) for name in ("refusal", "content_filter")) / answers
        empty = self.finishes.get("empty", 0) / answers
        if refused > _REFUSED_SHARE or empty > _EMPTY_SHARE:
            return f"{refused:.0%} refused and {empty:.0%} empty of {answers} answers"
        return ""

    @property
    def is_out(self) -> bool:
        """Given up somewhere, or failing most of what it is asked."""
        return bool(self.open_at) or (self.failed >= _LEAST and self.failed > _ANSWERED_SHARE * self.samples)


async def seen_targets(services: Services, since: datetime | None = None) -> tuple[dict[str, SeenTarget], list[str]]:
    """Return every configured target as the gateways see it since a moment, and the gateways that said so."""
    figures = await gateway_figures(services, since or utcnow() - _LATELY)
    told = {name: said["llm"] for name, said in figures.items() if isinstance(said.get("llm"), dict)}
    names = [f"{item.name}/{model.name}" for item in services.settings.llm.providers for model in item.models]
    return {name: _seen(name, told) for name in names}, list(told)


async def kept_from_providers(services: Services, routes: Collection[str]) -> str:
    """Say why a question through the gateways would not reach a provider now; nothing when it would.

    Their own rules keep calls away for a while after providers are well again, and a killed gateway is soon back.
    """
    figures = await gateway_figures(services, utcnow() - _LATELY)
    told = {name: said["llm"] for name, said in figures.items() if isinstance(said.get("llm"), dict)}
    if not told:
        return "no gateway answers"
    return "; ".join(f"{name}: {why}" for name, said in told.items() if (why := _kept_by_rules(said, routes)))


def _kept_by_rules(said: Mapping[str, Any], routes: Collection[str]) -> str:
    claims = ((said.get("policies") or {}).get("by_rules") or {}).items()
    return ", ".join(
        f"{cause} still holds {claim['switch']} = {claim['value']}"
        for cause, held in claims
        for claim in held
        if claim["switch"] in _KEEPING and (claim["scope"] == "*" or claim["scope"] in routes)
    )


def _seen(name: str, told: Mapping[str, dict[str, Any]]) -> SeenTarget:
    open_at, samples, failed, why = [], 0, 0, ""
    kinds: dict[str, int] = {}
    finishes: dict[str, int] = {}
    for gateway, said in told.items():
        health = (said.get("health") or {}).get(name) or {}
        if str(health.get("standing", "")).lower() == "open":
            open_at.append(gateway)
            why = str(health.get("detail") or health.get("why") or "")
        counted = (said.get("targets") or {}).get(name) or {}
        samples += int(counted.get("samples", 0))
        failed += int(counted.get("failed", 0))
        for kind, count in (counted.get("attempts") or {}).items():
            kinds[kind] = kinds.get(kind, 0) + int(count)
        for finish, count in (counted.get("finishes") or {}).items():
            finishes[finish] = finishes.get(finish, 0) + int(count)
    return SeenTarget(name, tuple(open_at), samples, failed, kinds, why, finishes)


async def look_at_providers(services: Services) -> list[ProviderLook]:
    """Look at every provider through the eyes of the gateways; empty when none of them tells."""
    if not services.settings.llm.providers:
        return []
    seen, told = await seen_targets(services)
    return providers_seen(services.settings.llm, seen) if told else []


def providers_seen(llm: LlmSettings, seen: Mapping[str, SeenTarget]) -> list[ProviderLook]:
    """Return how each provider is, and who else answers where it is asked. Pure."""
    found = []
    for provider in llm.providers:
        asked = {choice.target for route in llm.routes for choice in (*route.targets, *route.cheaper)}
        own = [seen[f"{provider.name}/{model.name}"] for model in provider.models]
        used = [target for target in own if target.name in asked] or own
        out = [target for target in used if target.is_out]
        routes = {name: tuple(_others(llm, name, provider.name, seen)) for name in _routes_of(llm, provider.name, None)}
        found.append(ProviderLook(provider.name, not out, _in_words(provider.name, used, out), routes))
    return found


def _others(llm: LlmSettings, route: str, provider: str, seen: Mapping[str, SeenTarget]) -> list[str]:
    settings = next(item for item in llm.routes if item.name == route)
    return list(
        dict.fromkeys(
            choice.target.partition("/")[0]
            for choice in settings.targets
            if choice.target.partition("/")[0] != provider and not seen[choice.target].is_out
        )
    )


def _in_words(provider: str, used: list[SeenTarget], out: list[SeenTarget]) -> str:
    if not out:
        asked = sum(target.samples for target in used)
        return f"{provider} is not given up by any gateway; {asked} attempts lately"
    said = []
    for target in out:
        given_up = f"given up by {', '.join(target.open_at)}" if target.open_at else "failing"
        why = f": {target.why}" if target.why else ""
        said.append(f"{target.name} is {given_up}, {target.failed} of {target.samples} attempts failed lately{why}")
    return "; ".join(said)
