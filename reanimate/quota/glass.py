"""The reserve for disasters: who may use it, breaking the glass for it, passes for recoveries, and the audit of all."""

import secrets
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from reanimate.db.tables import Incident, QuotaEvent, QuotaGrant
from reanimate.errors import InputInvalid, NotFound, Refused
from reanimate.incidents import timeline
from reanimate.incidents.lifecycle import OPEN_STATES
from reanimate.quota.demand import AccountKey, Demand
from reanimate.quota.passes import sign_pass

__all__ = ["Authority", "authorities", "break_glass", "issue_pass", "mend_glass", "note", "note_reserve"]

_LONGEST = timedelta(hours=24)
_PASS_FOR = timedelta(hours=1)


@dataclass(frozen=True)
class Authority:
    """Who may use reserves now: broken glasses, as (quota, tenant or empty) → until, and incidents."""

    glasses: Mapping[tuple[str, str], float]
    incidents: AbstractSet[str]
    asked: bool = False

    def open_until(self, key: AccountKey) -> float:
        """Return until when ordinary calls may use this reserve; 0 when they may not."""
        return max(self.glasses.get((key.quota, key.tenant), 0.0), self.glasses.get((key.quota, ""), 0.0))

    def allows(self, demand: Demand) -> bool:
        return demand.incident in self.incidents or self.open_until(demand.key) > 0


async def authorities(connection: AsyncConnection, incidents: AbstractSet[str], now: float) -> Authority:
    """Look up broken glasses, and which of `incidents` are open and P0."""
    moment = datetime.fromtimestamp(now, UTC)
    rows = await connection.execute(_GLASSES, {"now": moment})
    glasses = {(row.quota, row.tenant): float(row.until) for row in rows}
    found: frozenset[str] = frozenset()
    if incidents:
        wanted = select(Incident.id).where(
            Incident.id.in_(incidents), Incident.severity == "P0", Incident.state.in_(sorted(OPEN_STATES))
        )
        found = frozenset((await connection.scalars(wanted)).all())
    return Authority(glasses, found, asked=True)


_GLASSES = text("""
    SELECT quota, tenant, extract(epoch FROM max(until))::float8 AS until FROM quota_grants
    WHERE kind = 'break_glass' AND revoked_at IS NULL AND until > :now GROUP BY quota, tenant
""")


async def note_reserve(
    connection: AsyncConnection, demand: Demand, amount: int, authority: Authority, gateway: str, now: float
) -> None:
    """Write down that a part of a reserve was lent, and to whose recovery or under whose break-glass."""
    by_incident = demand.incident in authority.incidents
    await connection.execute(
        _NOTE,
        {
            "at": datetime.fromtimestamp(now, UTC),
            "quota": demand.key.quota,
            "tenant": demand.key.tenant,
            "actor": f"gateway {gateway}",
            "why": f"recovery of {demand.incident}" if by_incident else "the glass is broken",
            "incident": demand.incident if by_incident else None,
            "meter": demand.key.meter,
            "amount": amount,
        },
    )


_NOTE = text("""
    INSERT INTO quota_events (at, kind, quota, tenant, actor, why, incident_id, data)
    VALUES (:at, 'reserve_lent', :quota, :tenant, :actor, :why, CAST(:incident AS text),
            jsonb_build_object('meter', CAST(:meter AS text), 'amount', CAST(:amount AS bigint)))
""")


async def note(
    session: AsyncSession,
    kind: str,
    message: str,
    *,
    quota: str,
    tenant: str,
    actor: str,
    why: str,
    now: datetime,
    incident_id: str | None = None,
    data: dict[str, Any] | None = None,
) -> list[str]:
    """Write down what somebody did, also on the timeline of every open P0 incident; return their ids."""
    session.add(
        QuotaEvent(
            at=now, kind=kind, quota=quota, tenant=tenant, actor=actor, why=why, incident_id=incident_id,
            data=data or {},
        )
    )  # fmt: skip
    found = await session.scalars(
        select(Incident.id)
        .where(Incident.severity == "P0", Incident.state.in_(sorted(OPEN_STATES)))
        .order_by(Incident.id)
    )
    told = list(found.all())
    if incident_id is not None and incident_id not in told:
        told.append(incident_id)
    for each in told:
        about = {"quota": quota, "tenant": tenant, "why": why, **(data or {})}
        await timeline.append(session, each, f"quota.{kind}", f"{message}: {why}", actor=actor, now=now, data=about)
    return told


async def break_glass(
    session: AsyncSession, quota: str, tenant: str, *, lasts: timedelta, who: str, why: str, now: datetime
) -> tuple[QuotaGrant, list[str]]:
    """Open the reserve of a quota to ordinary calls for a time; also return the incidents that were told.

    Raises:
        InputInvalid: without a reason, or for longer than a day.
    """
    if not why.strip():
        raise InputInvalid("breaking the glass needs a reason", hint="--why, for those who read the audit")
    if not timedelta(0) < lasts <= _LONGEST:
        raise InputInvalid(f"the glass is broken for up to 24 hours, not for {lasts}", hint="--for 1h")
    grant = QuotaGrant(
        id=f"glass-{secrets.token_hex(4)}",
        kind="break_glass",
        quota=quota,
        tenant=tenant,
        who=who,
        why=why,
        created_at=now,
        until=now + lasts,
    )
    session.add(grant)
    message = f"glass broken: the reserve of quota {quota} is open until {grant.until:%H:%M} UTC"
    data = {"id": grant.id, "until": grant.until.isoformat()}
    told = await note(
        session, "glass_broken", message, quota=quota, tenant=tenant, actor=who, why=why, now=now, data=data
    )  # fmt: skip
    return grant, told


async def mend_glass(session: AsyncSession, grant: QuotaGrant, *, who: str, why: str, now: datetime) -> None:
    """End a broken glass before its time.

    Raises:
        Refused: it has ended already.
    """
    ended = await session.scalars(
        update(QuotaGrant)
        .where(QuotaGrant.id == grant.id, QuotaGrant.revoked_at.is_(None), QuotaGrant.until > now)
        .values(revoked_at=now, revoked_by=who)
        .returning(QuotaGrant.id)
    )
    if not ended.all():
        raise Refused(f"{grant.id} has ended already")
    message = f"the reserve of quota {grant.quota} is closed again"
    await note(
        session, "glass_mended", message, quota=grant.quota, tenant=grant.tenant, actor=who, why=why, now=now,
        data={"id": grant.id},
    )  # fmt: skip


async def issue_pass(
    session: AsyncSession,
    incident_id: str,
    *,
    control_key: str,
    actor: str,
    now: datetime,
    lasts: timedelta = _PASS_FOR,
) -> str:
    """Return the value of the header with which calls of this incident's recovery may use reserves.

    Raises:
        NotFound: there is no such incident.
        Refused: it is not P0, or it has ended.
    """
    incident = await session.get(Incident, incident_id)
    if incident is None:
        raise NotFound(f"there is no incident {incident_id}", hint="`reanimate incident list` shows those there are")
    if incident.severity != "P0" or incident.state not in OPEN_STATES:
        raise Refused(
            f"{incident_id} is {incident.severity or 'without a severity'} and {incident.state}: reserves are for the "
            "recovery of open P0 incidents",
            hint="`reanimate quota break-glass` opens one for everybody, for a time",
        )
    until = now + lasts
    await note(
        session, "pass_issued", f"a pass to the reserves of all quotas until {until:%H:%M} UTC", quota="*", tenant="",
        actor=actor, why=f"recovery of {incident_id}", now=now, incident_id=incident_id,
    )  # fmt: skip
    return sign_pass(incident_id, int(until.timestamp()), control_key)
