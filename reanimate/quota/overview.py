"""How quotas stand and stood, as plain values: what commands and pages show."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.db.tables import QuotaAccount, QuotaAlert, QuotaEvent, QuotaGrant
from reanimate.llm_settings import LlmSettings, QuotaSettings
from reanimate.quota.amounts import split
from reanimate.quota.demand import Meter
from reanimate.quota.grants import open_grants
from reanimate.quota.leasing import without
from reanimate.quota.rows import read_account
from reanimate.quota.windows import window_at

__all__ = ["history", "standings"]

View = dict[str, Any]


async def standings(session: AsyncSession, settings: LlmSettings, now: datetime, name: str | None = None) -> View:
    """Return every quota's accounts in the windows that are open, and the grants in force.

    A tenant of a quota that each has for itself is there once it has asked; a shared one always is.
    """
    accounts = (
        await session.scalars(select(QuotaAccount).where(QuotaAccount.ends_at > now, QuotaAccount.starts_at <= now))
    ).all()
    alerts = (await session.scalars(select(QuotaAlert).where(QuotaAlert.ends_at > now))).all()
    quotas = [quota for quota in settings.quotas if name in (None, quota.name)]
    return {
        "quotas": [row for quota in quotas for row in _rows(quota, accounts, alerts, now)],
        "grants": [grant_view(grant) for grant in await open_grants(session, now) if name in (None, grant.quota)],
        "currency": settings.currency,
    }


def _rows(
    quota: QuotaSettings, accounts: Sequence[QuotaAccount], alerts: Sequence[QuotaAlert], now: datetime
) -> list[View]:
    window = window_at(quota.window, quota.timezone, now.timestamp())
    starts_at = datetime.fromtimestamp(window.starts, UTC)
    mine = [account for account in accounts if account.quota == quota.name and account.starts_at == starts_at]
    tenants = sorted({account.tenant for account in mine} | (set() if quota.per_tenant else {""}))
    rows = []
    for tenant in tenants:
        for meter in Meter:
            if (limits := split(quota, meter)) is None:
                continue
            found = {a.pot: a for a in mine if (a.tenant, a.meter) == (tenant, meter.value)}
            normal, reserve = _amounts(found.get("normal"), now), _amounts(found.get("reserve"), now)
            limit = limits[0] + normal["extra"]
            raised = [a for a in alerts if (a.quota, a.tenant, a.meter) == (quota.name, tenant, meter.value)]
            rows.append(
                {
                    "quota": quota.name,
                    "tenant": tenant or None,
                    "tenants": quota.tenant,
                    "model": quota.model,
                    "meter": meter.value,
                    "window": quota.window,
                    "timezone": quota.timezone,
                    "starts_at": starts_at,
                    "resets_at": datetime.fromtimestamp(window.ends, UTC),
                    "limit": limit,
                    "granted_on_top": normal["extra"],
                    "spent": normal["spent"],
                    "held": normal["held"],
                    "left": max(0, limit - normal["spent"] - normal["held"]),
                    "share": normal["spent"] / limit if limit else None,
                    "reserve": limits[1],
                    "reserve_spent": reserve["spent"],
                    "gateways": normal["gateways"],
                    "refused_at": normal["refused_at"],
                    "alerts": sorted(a.threshold for a in raised if a.starts_at == starts_at and not a.resolved_at),
                }
            )
    return rows


def _amounts(account: QuotaAccount | None, now: datetime) -> View:
    if account is None:
        return {"extra": 0, "spent": 0, "held": 0, "gateways": 0, "refused_at": None}
    seen = without(read_account(account), now.timestamp())
    alive = {name.rpartition("/")[0] for name, lease in seen.leases.items() if lease.until > now.timestamp()}
    return {
        "extra": seen.extra,
        "spent": seen.spent,
        "held": seen.held,
        "gateways": len(alive),
        "refused_at": account.refused_at,
    }


def grant_view(grant: QuotaGrant) -> View:
    fields = (
        "id", "kind", "quota", "tenant", "meter", "amount", "who", "why", "created_at", "until", "revoked_at",
        "revoked_by",
    )  # fmt: skip
    return {name: getattr(grant, name) for name in fields}


async def history(session: AsyncSession, name: str | None, limit: int) -> View:
    """Return windows that were, and what people did, the newest first."""
    windows = select(QuotaAccount).order_by(QuotaAccount.starts_at.desc(), QuotaAccount.quota, QuotaAccount.tenant)
    events = select(QuotaEvent).order_by(QuotaEvent.id.desc())
    if name is not None:
        windows = windows.where(QuotaAccount.quota == name)
        events = events.where(QuotaEvent.quota.in_((name, "*")))
    accounts = (await session.scalars(windows.limit(limit))).all()
    did = (await session.scalars(events.limit(limit))).all()
    return {
        "windows": [
            {
                "quota": account.quota,
                "tenant": account.tenant or None,
                "meter": account.meter,
                "pot": account.pot,
                "window": account.terms.get("window"),
                "starts_at": account.starts_at,
                "ends_at": account.ends_at,
                "limit": account.limit_amount + account.extra,
                "spent": account.spent,
                "refused_at": account.refused_at,
            }
            for account in accounts
        ],
        "events": [
            {
                name: getattr(event, name)
                for name in ("at", "kind", "quota", "tenant", "actor", "why", "incident_id", "data")
            }
            for event in did
        ],
    }
