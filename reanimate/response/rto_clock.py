"""The RTO clock: warns at 50, 80 and 100 % of the recovery time objective of every open incident."""

import asyncio
import logging

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.db.tables import Incident, Outbox
from reanimate.incidents import record, timeline
from reanimate.incidents.severity import RtoWarning, due_warnings

__all__ = ["run", "warn_once"]

log = logging.getLogger(__name__)

_EVERY_S = 2.0


async def run(services: Services) -> None:
    """Look at every open incident each two seconds, for as long as the process lives."""
    while True:
        try:
            await warn_once(services)
        except DBAPIError as error:
            log.warning("rto clock: the record does not answer (%s)", type(error).__name__)
        await asyncio.sleep(_EVERY_S)


async def warn_once(services: Services) -> int:
    """Give every warning that is due now and was not given before; return how many."""
    given = 0
    async with services.sessions.begin() as session:
        for incident in await record.open_incidents(session):
            if incident.rto_deadline is None:
                continue
            known = await _given(session, incident.id)
            for warning in due_warnings(incident.opened_at, incident.rto_deadline, known, utcnow()):
                given += await _warn(session, services, incident, warning)
    return given


def _key(incident_id: str, share: float) -> str:
    return f"{incident_id}:rto:{share:g}"


async def _given(session: AsyncSession, incident_id: str) -> set[float]:
    keys = await session.scalars(
        select(Outbox.key).where(Outbox.incident_id == incident_id, Outbox.key.startswith(f"{incident_id}:rto:"))
    )
    return {float(key.rsplit(":", 1)[1]) for key in keys}


async def _warn(session: AsyncSession, services: Services, incident: Incident, warning: RtoWarning) -> bool:
    """Write one warning and order its notice; the outbox's unique key makes it once, however many clocks run."""
    now = utcnow()
    ordered = await session.scalar(
        insert(Outbox)
        .values(
            kind="notify",
            key=_key(incident.id, warning.share),
            incident_id=incident.id,
            payload={
                "title": f"[{incident.severity}] {incident.title}: {warning.share:.0%} of the RTO is spent",
                "body": f"{warning.message}\n{services.addresses.web}/incidents/{incident.id}",
            },
            created_at=now,
            due_at=now,
        )
        .on_conflict_do_nothing(index_elements=["kind", "key"])
        .returning(Outbox.id)
    )
    if ordered is None:
        return False
    await timeline.append(
        session, incident.id, "rto.warning", warning.message, actor="clock", now=now, data={"share": warning.share}
    )
    return True
