"""Taking work out of the outbox: each row by one process at a time, kept until it is done, visible when it cannot be.

A row is leased, not locked: its `due_at` moves ahead while somebody works on it, so a killed worker's row comes back
by itself and no transaction stays open meanwhile.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from reanimate.clock import utcnow
from reanimate.db.listen import listen
from reanimate.db.tables import Outbox

__all__ = ["BATCH", "Lane", "Order", "back_off", "finish", "put", "retry", "serve", "take"]

log = logging.getLogger(__name__)

Sessions = async_sessionmaker[AsyncSession]

BATCH = 8
"""How many rows of one kind a process works on at once."""


@dataclass(frozen=True)
class Order:
    """A row that this process has leased."""

    id: int
    kind: str
    key: str
    incident_id: str | None
    payload: dict[str, Any]
    created_at: datetime
    attempts: int
    """Counting this one."""


@dataclass(frozen=True)
class Lane:
    """How rows of one kind are worked on."""

    kind: str
    work: Callable[[Order], Awaitable[None]]
    lease_s: float
    """After this long without news from its worker, a row is free again."""
    renewed: bool = False
    """Keep the lease while the work goes on; without, the work must be over before the lease is."""
    max_attempts: int | None = None
    """A row that failed so often is dead: kept with its error, and not tried again."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)


async def put(
    session: AsyncSession,
    kind: str,
    key: str,
    *,
    incident_id: str | None,
    now: datetime,
    payload: dict[str, Any] | None = None,
    due_in_s: float = 0.0,
    again: bool = False,
) -> None:
    """Order something, once per (kind, key), in the caller's transaction; `again` revives a row that is done."""
    fresh = {
        "payload": payload or {},
        "created_at": now,
        "due_at": now + timedelta(seconds=due_in_s),
        "attempts": 0,
        "done_at": None,
        "error": None,
    }
    statement = insert(Outbox).values(kind=kind, key=key, incident_id=incident_id, **fresh)
    conflict = (
        statement.on_conflict_do_update(index_elements=["kind", "key"], set_=fresh, where=Outbox.done_at.is_not(None))
        if again
        else statement.on_conflict_do_nothing(index_elements=["kind", "key"])
    )
    await session.execute(conflict)


async def take(session: AsyncSession, lane: Lane, *, now: datetime, limit: int = BATCH) -> list[Order]:
    """Lease up to `limit` due rows of a lane, oldest first; rows that another process is taking are passed over."""
    waiting = select(Outbox.id).where(Outbox.kind == lane.kind, Outbox.done_at.is_(None), Outbox.due_at <= now)
    if lane.max_attempts is not None:
        waiting = waiting.where(Outbox.attempts < lane.max_attempts)
    chosen = waiting.order_by(Outbox.due_at, Outbox.id).limit(limit).with_for_update(skip_locked=True)
    ids = list(await session.scalars(chosen))
    if not ids:
        return []
    rows = await session.scalars(
        update(Outbox)
        .where(Outbox.id.in_(ids))
        .values(due_at=now + timedelta(seconds=lane.lease_s), attempts=Outbox.attempts + 1)
        .returning(Outbox)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return [
        Order(row.id, row.kind, row.key, row.incident_id, dict(row.payload), row.created_at, row.attempts)
        for row in sorted(rows, key=lambda row: row.id)
    ]


async def finish(session: AsyncSession, order: Order, *, now: datetime, note: str | None = None) -> None:
    """Mark an order done; `note` says what was particular about it."""
    await session.execute(update(Outbox).where(Outbox.id == order.id).values(done_at=now, error=note))


async def retry(session: AsyncSession, order: Order, *, now: datetime, in_s: float, error: str) -> None:
    """Leave an order for later, with what went wrong."""
    due_at = now + timedelta(seconds=in_s)
    await session.execute(update(Outbox).where(Outbox.id == order.id).values(due_at=due_at, error=error))


def back_off(attempts: int, *, first_s: float = 1.0, most_s: float = 30.0) -> float:
    """Return the pause after this many attempts, in seconds: doubled each time, up to `most_s`."""
    return float(min(most_s, first_s * 2 ** min(attempts - 1, 16)))


async def serve(sessions: Sessions, database_url: str, lanes: list[Lane]) -> None:
    """Work on the lanes until cancelled: at once when a row is written, and every second in case nobody said so."""
    async with asyncio.TaskGroup() as group:
        for lane in lanes:
            group.create_task(_drain(sessions, lane), name=f"outbox {lane.kind}")
        by_kind = {lane.kind: lane for lane in lanes}
        async for channel, kind in listen(database_url, ["outbox"]):
            for lane in [by_kind[kind]] if channel and kind in by_kind else [] if channel else lanes:
                lane.woken.set()


async def _drain(sessions: Sessions, lane: Lane) -> None:
    """Work on one lane for ever, up to BATCH rows at once, without letting a slow row hold up the next."""
    busy: set[asyncio.Task[None]] = set()
    async with asyncio.TaskGroup() as group:
        while True:
            await lane.woken.wait()
            lane.woken.clear()
            if len(busy) >= BATCH:
                continue
            try:
                async with sessions.begin() as session:
                    orders = await take(session, lane, now=utcnow(), limit=BATCH - len(busy))
            except (SQLAlchemyError, OSError) as error:
                log.warning("outbox %s: the record does not answer (%s); trying again", lane.kind, error)
                continue
            for order in orders:
                task = group.create_task(_work(sessions, lane, order), name=f"{lane.kind} {order.key}")
                busy.add(task)
                task.add_done_callback(busy.discard)
                task.add_done_callback(lambda _: lane.woken.set())


async def _work(sessions: Sessions, lane: Lane, order: Order) -> None:
    """Do one order. Whatever fails is written on its row; the row itself stays until it is done."""
    try:
        async with _lease_kept(sessions, lane, order):
            await lane.work(order)
    except Exception as error:  # noqa: BLE001 - one bad row must not stop the others; it is kept, with its error
        log.warning("outbox %s %s, attempt %d: %s", order.kind, order.key, order.attempts, error)
        try:
            async with sessions.begin() as session:
                await retry(session, order, now=utcnow(), in_s=back_off(order.attempts), error=str(error))
        except (SQLAlchemyError, OSError) as lost:
            log.warning("outbox %s %s: not written down (%s); its lease will end", order.kind, order.key, lost)


@asynccontextmanager
async def _lease_kept(sessions: Sessions, lane: Lane, order: Order) -> AsyncIterator[None]:
    if not lane.renewed:
        yield
        return
    keeper = asyncio.create_task(_keep(sessions, lane, order))
    try:
        yield
    finally:
        keeper.cancel()


async def _keep(sessions: Sessions, lane: Lane, order: Order) -> None:
    while True:
        await asyncio.sleep(lane.lease_s / 3)
        try:
            async with sessions.begin() as session:
                await retry(session, order, now=utcnow(), in_s=lane.lease_s, error="being worked on")
        except (SQLAlchemyError, OSError) as error:
            log.warning("outbox %s %s: lease not renewed (%s)", order.kind, order.key, error)
