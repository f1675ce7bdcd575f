"""Who runs a slot of a schedule: whoever inserts its row, however many responders and workers live.

The row carries a lease that its owner renews. When the owner has died, another run takes the slot over once the lease
is past; the same run, taken up again by another process, goes on at once.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from reanimate.clock import utcnow
from reanimate.db.tables import Slot

__all__ = ["ATTEMPTS", "LEASE", "Held", "claim", "end", "holding", "left_over", "newest_claims", "renew"]

log = logging.getLogger(__name__)

LEASE = timedelta(minutes=2)
ATTEMPTS = 3
"""After so many owners have died of a slot, nobody takes it over: something in it kills them."""


async def claim(session: AsyncSession, schedule: str, due_at: datetime, owner: str, *, now: datetime) -> bool:
    """Take a slot, and say whether it is ours now.

    It is not when it is done or failed, or somebody else is at it. Ours already, it stays ours, also to be done again.
    """
    ours = insert(Slot).values(
        schedule=schedule,
        due_at=due_at,
        claimed_at=now,
        lease_until=now + LEASE,
        owner=owner,
        state="running",
        attempts=1,
    )
    abandoned = (Slot.state == "running") & (Slot.lease_until < now) & (Slot.attempts < ATTEMPTS)
    taken = ours.on_conflict_do_update(
        index_elements=[Slot.schedule, Slot.due_at],
        set_={
            "claimed_at": now,
            "lease_until": now + LEASE,
            "owner": owner,
            "state": "running",
            "ended_at": None,
            "error": None,
            "attempts": Slot.attempts + 1,
        },
        where=or_((Slot.owner == owner) & (Slot.state != "done"), abandoned),
    ).returning(Slot.owner)
    return (await session.execute(taken)).first() is not None


async def renew(session: AsyncSession, schedule: str, due_at: datetime, owner: str, *, now: datetime) -> bool:
    """Put the end of our lease off, and say whether it was still ours."""
    renewed = await session.execute(
        update(Slot)
        .where(Slot.schedule == schedule, Slot.due_at == due_at, Slot.owner == owner, Slot.state == "running")
        .values(lease_until=now + LEASE)
        .returning(Slot.owner)
    )
    return renewed.first() is not None


async def end(
    session: AsyncSession, owner: str, *, now: datetime, error: str | None = None, due_at: datetime | None = None
) -> None:
    """Write down what came of the slots that an owner has, of one of them when it is named."""
    ours = (Slot.owner == owner) & (Slot.state == "running")
    if due_at is not None:
        ours &= Slot.due_at == due_at
    state = "failed" if error else "done"
    await session.execute(update(Slot).where(ours).values(state=state, ended_at=now, error=error))


async def newest_claims(session: AsyncSession) -> dict[str, datetime]:
    """Return the newest slot that anybody has claimed of each schedule."""
    rows = await session.execute(select(Slot.schedule, func.max(Slot.due_at)).group_by(Slot.schedule))
    return dict(rows.tuples().all())


async def left_over(session: AsyncSession, *, now: datetime) -> Sequence[Slot]:
    """Return the slots whose owners have died and that somebody may take over."""
    wanted = (Slot.state == "running", Slot.lease_until < now, Slot.attempts < ATTEMPTS)
    return (await session.scalars(select(Slot).where(*wanted).order_by(Slot.due_at))).all()


@dataclass
class Held:
    """A slot that is ours; set `error` before the block ends when its work has failed."""

    due_at: datetime
    error: str | None = None


@asynccontextmanager
async def holding(
    sessions: async_sessionmaker[AsyncSession],
    schedule: str,
    due_at: datetime,
    owner: str,
    *,
    renew_s: float = LEASE.total_seconds() / 4,
) -> AsyncIterator[Held | None]:
    """Have a slot for the block, or None when it is another run's.

    With the record away the block has the slot: two backups are better than none, and a lock keeps them apart.
    A block that is cancelled leaves the slot to whoever takes its run up again.
    """
    if not await _claimed(sessions, schedule, due_at, owner):
        yield None
        return
    held = Held(due_at)
    renewing = asyncio.create_task(_keep_renewing(sessions, schedule, due_at, owner, renew_s))
    try:
        yield held
    except Exception as error:
        held.error = str(error) or type(error).__name__
        await _note_end(sessions, held, owner)
        raise
    else:
        await _note_end(sessions, held, owner)
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing


async def _claimed(sessions: async_sessionmaker[AsyncSession], schedule: str, due_at: datetime, owner: str) -> bool:
    try:
        async with sessions.begin() as session:
            return await claim(session, schedule, due_at, owner, now=utcnow())
    except (SQLAlchemyError, OSError) as error:
        log.warning("the slot %s of %s is run without being claimed, the record is away: %s", due_at, schedule, error)
        return True


async def _keep_renewing(
    sessions: async_sessionmaker[AsyncSession], schedule: str, due_at: datetime, owner: str, renew_s: float
) -> None:
    while True:
        await asyncio.sleep(renew_s)
        try:
            async with sessions.begin() as session:
                if not await renew(session, schedule, due_at, owner, now=utcnow()):
                    log.warning("the slot %s of %s was taken over from %s", due_at, schedule, owner)
        except (SQLAlchemyError, OSError) as error:
            log.warning("the lease of the slot %s of %s could not be renewed: %s", due_at, schedule, error)


async def _note_end(sessions: async_sessionmaker[AsyncSession], held: Held, owner: str) -> None:
    try:
        async with sessions.begin() as session:
            await end(session, owner, now=utcnow(), error=held.error, due_at=held.due_at)
    except (SQLAlchemyError, OSError) as error:
        log.warning("the end of the slot %s could not be written down: %s", held.due_at, error)
