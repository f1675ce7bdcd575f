"""Responding without Prefect: orders to do so are carried out here, and no incident is left lying by anybody's death.

Run it in any process that may do the work; the responder does.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.db.tables import Incident, Outbox, TimelineEntry
from reanimate.errors import Busy
from reanimate.incidents import record, timeline
from reanimate.incidents.lifecycle import State
from reanimate.orchestrator.outbox import Lane, Order, finish, put, serve
from reanimate.response.lock import driving
from reanimate.response.respond import respond, review

__all__ = ["ACTOR", "QUIET_S", "adopt", "ask", "forgotten", "respond_directly", "run"]

log = logging.getLogger(__name__)

ACTOR = "responder"

QUIET_S = 20.0
"""An open incident that nobody drives, and of which nothing was heard for so long, is taken over."""

_UNDER_WAY = (State.DETECTING, State.CONTAINING, State.RECOVERING)
_LEASE_S = 4.0


async def run(services: Services) -> None:
    """Carry out orders to respond directly, and look after forgotten incidents, until cancelled."""

    async def work(order: Order) -> None:
        await respond_directly(services, order)

    lane = Lane("respond_directly", work, lease_s=_LEASE_S, renewed=True)
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(services.sessions, services.database_url, [lane]))
        group.create_task(_look_after(services))


async def ask(session: AsyncSession, incident_id: str, *, now: datetime, reason: str) -> None:
    """Order, in the caller's transaction, that an incident be responded to without Prefect, and write that down."""
    for kind in ("respond_directly", "record_flow"):
        await put(session, kind, incident_id, incident_id=incident_id, now=now, again=True)
    await timeline.append(session, incident_id, "note", reason, actor=ACTOR, now=now)


async def respond_directly(services: Services, order: Order) -> None:
    """Walk the incident to its end. One that has ended, or has called a person, is only reviewed, never tried anew."""
    incident_id = order.key
    async with services.sessions() as session:
        state = State((await record.load(session, incident_id)).state)
    if state in _UNDER_WAY:
        state = await respond(services, incident_id, actor=ACTOR)
    else:
        await review(services, incident_id, actor=ACTOR)
    log.info("incident %s was responded to without Prefect: %s", incident_id, state)
    async with services.sessions.begin() as session:
        await finish(session, order, now=utcnow())


async def _look_after(services: Services) -> None:
    while True:
        await asyncio.sleep(QUIET_S / 4)
        try:
            await adopt(services, now=utcnow())
        except (SQLAlchemyError, OSError) as error:
            log.warning("forgotten incidents could not be looked for: %s", error)


async def adopt(services: Services, *, now: datetime) -> Sequence[str]:
    """Order a direct response to every forgotten incident that nobody is driving at this moment; return their ids."""
    async with services.sessions() as session:
        candidates = await forgotten(session, now=now)
    adopted = []
    for incident_id in candidates:
        try:
            async with driving(services.engine, incident_id, within_s=0), services.sessions.begin() as session:
                reason = f"nothing was heard of it for {QUIET_S:g} s and nobody drives it: taken over"
                await ask(session, incident_id, now=now, reason=reason)
        except Busy:
            continue
        log.warning("incident %s was left lying and is taken over", incident_id)
        adopted.append(incident_id)
    return adopted


async def forgotten(session: AsyncSession, *, now: datetime) -> Sequence[str]:
    """Return the incidents that should be under way and have been silent for QUIET_S.

    Not those that ever called a person, who may be at work on them step by step, nor those with an order waiting.
    """
    heard = (
        select(TimelineEntry.incident_id, func.max(TimelineEntry.at).label("at"))
        .group_by(TimelineEntry.incident_id)
        .subquery()
    )
    waiting = select(Outbox.incident_id).where(
        Outbox.kind.in_(("start_flow", "respond_directly")), Outbox.done_at.is_(None), Outbox.incident_id.is_not(None)
    )
    found = await session.scalars(
        select(Incident.id)
        .join(heard, heard.c.incident_id == Incident.id)
        .where(
            Incident.state.in_(_UNDER_WAY),
            Incident.escalated_at.is_(None),
            heard.c.at < now - timedelta(seconds=QUIET_S),
            Incident.id.not_in(waiting),
        )
        .order_by(Incident.opened_at)
    )
    return found.all()
