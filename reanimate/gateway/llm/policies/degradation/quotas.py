"""How much of its quota each scope has used: a tenant, a route, or all. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from reanimate.llm_settings import LlmSettings, QuotaSettings
from reanimate.section import is_glob

__all__ = ["used_by_scope"]


def used_by_scope(accounts: Iterable[Mapping[str, Any]], settings: LlmSettings) -> dict[str, float]:
    """Return scope → share used of its tightest quota, from the accounts that the gateway knows.

    A quota of one model of one provider has no scope: who answers instead is chosen for each call.
    """
    quotas = {quota.name: quota for quota in settings.quotas}
    routes = {route.name for route in settings.routes}
    found: dict[str, float] = {}
    for account in accounts:
        quota = quotas.get(account["quota"])
        scope = _scope(quota, str(account["tenant"]), routes) if quota is not None else None
        if scope is not None and account["pot"] == "normal":
            found[scope] = max(found.get(scope, 0.0), 1.0 - float(account["share_left"]))
    return found


def _scope(quota: QuotaSettings, tenant: str, routes: set[str]) -> str | None:
    tenant = tenant or quota.tenant
    if not is_glob(tenant):
        return f"tenant:{tenant}"
    if quota.model == "*":
        return "*"
    return quota.model if quota.model in routes else None
