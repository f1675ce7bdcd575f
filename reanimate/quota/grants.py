"""More of a quota for the window that is open, by somebody for a reason; and taking it back."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.db.tables import QuotaGrant
from reanimate.errors import InputInvalid, NotFound, Refused
from reanimate.llm_settings import QuotaSettings
from reanimate.quota.amounts import said, split
from reanimate.quota.demand import AccountKey, Meter
from reanimate.quota.glass import mend_glass, note
from reanimate.quota.windows import Window, window_at

__all__ = ["Grant", "find_grant", "grant", "open_grants", "plan_grant", "revoke"]


@dataclass(frozen=True)
class Grant:
    """What would be granted: how much more of which account."""

    quota: QuotaSettings
    key: AccountKey
    window: Window
    limit: int
    amount: int


def plan_grant(quota: QuotaSettings, tenant: str, meter: Meter, amount: int, now: datetime) -> Grant:
    """Work out a grant for the window that is open.

    Raises:
        InputInvalid: the quota does not limit this, the amount is nothing, or it needs a tenant, or must not have one.
    """
    limits = split(quota, meter)
    if limits is None:
        raise InputInvalid(f"the quota {quota.name!r} does not limit {meter.value}")
    if amount <= 0:
        raise InputInvalid(f"{amount} {meter.value} is not more", hint="a grant adds to the limit of this window")
    if quota.per_tenant and not tenant:
        raise InputInvalid(f"in {quota.name!r} each tenant has its own", hint="--tenant NAME")
    if tenant and not quota.per_tenant:
        raise InputInvalid(f"the tenants of {quota.name!r} share it", hint="leave --tenant out")
    window = window_at(quota.window, quota.timezone, now.timestamp())
    key = AccountKey(quota.name, tenant, meter.value, "normal", window.starts)
    return Grant(quota, key, window, limits[0], amount)


async def grant(
    session: AsyncSession, planned: Grant, *, currency: str, who: str, why: str, now: datetime
) -> QuotaGrant:
    """Add to the limit of the open window; gateways have it with their next word, within a second when calls wait.

    Raises:
        InputInvalid: without a reason.
    """
    if not why.strip():
        raise InputInvalid("a grant needs a reason", hint="--reason, for those who read the audit")
    await _add(session, planned, planned.amount, now)
    made = QuotaGrant(
        id=f"grant-{secrets.token_hex(4)}",
        kind="grant",
        quota=planned.quota.name,
        tenant=planned.key.tenant,
        meter=planned.key.meter,
        amount=planned.amount,
        who=who,
        why=why,
        created_at=now,
        starts_at=datetime.fromtimestamp(planned.window.starts, UTC),
        until=datetime.fromtimestamp(planned.window.ends, UTC),
    )
    session.add(made)
    more = said(planned.key.meter, planned.amount, currency)
    await note(
        session, "granted", f"{more} more of quota {made.quota} this {planned.quota.window}", quota=made.quota,
        tenant=made.tenant, actor=who, why=why, now=now,
        data={"id": made.id, "meter": planned.key.meter, "amount": planned.amount},
    )  # fmt: skip
    return made


async def _add(session: AsyncSession, planned: Grant, amount: int, now: datetime) -> None:
    await session.execute(
        _ADD,
        {
            **planned.key._asdict(),
            "ends": planned.window.ends,
            "limit": planned.limit,
            "amount": amount,
            "terms": orjson.dumps(
                {
                    "window": planned.quota.window,
                    "timezone": planned.quota.timezone,
                    "model": planned.quota.model,
                    "alert_at": sorted(set(planned.quota.alert_at)),
                }
            ).decode(),
            "now": now,
        },
    )


_ADD = text("""
    INSERT INTO quota_accounts AS known
        (quota, tenant, meter, pot, starts_at, ends_at, version, limit_amount, extra, spent, held, settled, leases,
         terms, changed_at)
    VALUES (:quota, :tenant, :meter, :pot, to_timestamp(:starts), to_timestamp(:ends), 1, :limit, :amount, 0, 0, 0,
            '{}', CAST(:terms AS jsonb), :now)
    ON CONFLICT (quota, tenant, meter, pot, starts_at) DO UPDATE SET
        extra = greatest(0, known.extra + excluded.extra), refused_at = NULL, version = known.version + 1,
        changed_at = excluded.changed_at
""")


async def find_grant(session: AsyncSession, grant_id: str) -> QuotaGrant:
    """Return a grant or a broken glass.

    Raises:
        NotFound: there is none of that id.
    """
    found = await session.get(QuotaGrant, grant_id)
    if found is None:
        raise NotFound(f"there is no grant {grant_id}", hint="`reanimate quota history` shows those there were")
    return found


async def revoke(session: AsyncSession, found: QuotaGrant, *, who: str, why: str, now: datetime) -> None:
    """Take a grant back, or mend the glass. What was used meanwhile stays used.

    Raises:
        Refused: it has ended already.
    """
    if found.kind == "break_glass":
        await mend_glass(session, found, who=who, why=why, now=now)
        return
    ended = await session.scalars(
        update(QuotaGrant)
        .where(QuotaGrant.id == found.id, QuotaGrant.revoked_at.is_(None), QuotaGrant.until > now)
        .values(revoked_at=now, revoked_by=who)
        .returning(QuotaGrant.id)
    )
    if not ended.all():
        raise Refused(f"{found.id} has ended already")
    await session.execute(
        _TAKE,
        {
            "quota": found.quota, "tenant": found.tenant, "meter": found.meter, "starts_at": found.starts_at,
            "amount": found.amount, "now": now,
        },
    )  # fmt: skip
    await note(
        session, "revoked", f"what was granted of quota {found.quota} is taken back", quota=found.quota,
        tenant=found.tenant, actor=who, why=why, now=now, data={"id": found.id},
    )  # fmt: skip


_TAKE = text("""
    UPDATE quota_accounts SET extra = greatest(0, extra - :amount), version = version + 1, changed_at = :now
    WHERE quota = :quota AND tenant = :tenant AND meter = :meter AND pot = 'normal' AND starts_at = :starts_at
""")


async def open_grants(session: AsyncSession, now: datetime) -> list[QuotaGrant]:
    """Return grants and broken glasses that are in force, oldest first."""
    found = await session.scalars(
        select(QuotaGrant)
        .where(QuotaGrant.revoked_at.is_(None), QuotaGrant.until > now)
        .order_by(QuotaGrant.created_at)
    )
    return list(found.all())
