"""The ledger of holds in the record: placing, changing and lifting them, each change numbered and on a timeline."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.db.tables import Hold, SwitchLedger
from reanimate.incidents import timeline
from reanimate.switches.document import Claim
from reanimate.switches.kinds import checked_value

__all__ = ["Placed", "lift", "lift_all", "open_holds", "place"]


@dataclass(frozen=True)
class Placed:
    """What a change came to: the ledger's number afterwards, and whether anything was not so already."""

    seq: int
    changed: bool


async def _next_seq(session: AsyncSession, now: datetime) -> int:
    """Number a change; the row's lock puts concurrent changes in order."""
    seq = await session.scalar(
        update(SwitchLedger)
        .where(SwitchLedger.id == 1)
        .values(seq=SwitchLedger.seq + 1, changed_at=now)
        .returning(SwitchLedger.seq)
    )
    return int(seq or 0)


async def _seq(session: AsyncSession) -> int:
    return (await session.scalar(select(SwitchLedger.seq).where(SwitchLedger.id == 1))) or 0


async def _open_hold(session: AsyncSession, cause: str, claim: Claim) -> Hold | None:
    found = await session.scalars(
        select(Hold).where(
            Hold.cause == cause, Hold.switch == claim.switch, Hold.scope == claim.scope, Hold.lifted_at.is_(None)
        )
    )
    return found.one_or_none()


async def _write_down(
    session: AsyncSession,
    incident_id: str | None,
    kind: str,
    claim: Claim,
    seq: int,
    reason: str,
    actor: str,
    now: datetime,
) -> None:
    if incident_id is not None:
        await timeline.append(
            session,
            incident_id,
            kind,
            f"{claim.switch} of {claim.scope} = {claim.value}: {reason}",
            actor=actor,
            now=now,
            data={"switch": claim.switch, "scope": claim.scope, "value": claim.value, "seq": seq, "reason": reason},
        )


async def place(
    session: AsyncSession,
    claim: Claim,
    *,
    cause: str,
    reason: str,
    actor: str,
    now: datetime,
    incident_id: str | None = None,
) -> Placed:
    """Let `cause` claim a switch, or change the value that it claims; the same claim twice changes nothing.

    Raises:
        InputInvalid: there is no such switch, or it does not take this scope or value.
    """
    claim = replace(claim, value=checked_value(claim.switch, claim.scope, claim.value))
    seq = await _next_seq(session, now)
    known = await _open_hold(session, cause, claim)
    if known is not None and known.value == claim.value:
        return Placed(seq, False)
    if known is None:
        session.add(
            Hold(
                incident_id=incident_id,
                cause=cause,
                switch=claim.switch,
                scope=claim.scope,
                value=claim.value,
                reason=reason,
                placed_at=now,
            )
        )
    else:
        known.value = claim.value
        known.reason = reason
    kind = "hold.placed" if known is None else "hold.changed"
    await _write_down(session, incident_id, kind, claim, seq, reason, actor, now)
    return Placed(seq, True)


async def lift(session: AsyncSession, claim: Claim, *, cause: str, reason: str, actor: str, now: datetime) -> Placed:
    """End the claim of `cause` on the switch and scope of `claim`; lifting what is not there changes nothing."""
    known = await _open_hold(session, cause, claim)
    if known is None:
        return Placed(await _seq(session), False)
    seq = await _next_seq(session, now)
    known.lifted_at = now
    lifted = Claim(known.switch, known.scope, known.value)
    await _write_down(session, known.incident_id, "hold.lifted", lifted, seq, reason, actor, now)
    return Placed(seq, True)


async def lift_all(session: AsyncSession, *, cause: str, reason: str, actor: str, now: datetime) -> Placed:
    """End every claim of `cause`; other causes keep theirs."""
    last = Placed(await _seq(session), False)
    for hold in await open_holds(session, cause=cause):
        last = await lift(
            session, Claim(hold.switch, hold.scope, hold.value), cause=cause, reason=reason, actor=actor, now=now
        )
    return last


async def open_holds(session: AsyncSession, *, cause: str | None = None) -> Sequence[Hold]:
    """Return the holds in force, oldest first; of one cause, if named."""
    wanted = select(Hold).where(Hold.lifted_at.is_(None)).order_by(Hold.id)
    if cause is not None:
        wanted = wanted.where(Hold.cause == cause)
    return (await session.scalars(wanted)).all()
