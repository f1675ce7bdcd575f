"""`GET /metrics`: what this process counted, and what the record says at the moment of the scrape."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from starlette.requests import Request
from starlette.responses import Response

from reanimate.clock import utcnow
from reanimate.db.tables import Backup, Delivery, Hold, Incident
from reanimate.incidents.lifecycle import OPEN_STATES
from reanimate.orchestrator.presence import count_responders

__all__ = ["Metrics", "metrics"]

log = logging.getLogger(__name__)

_PATIENCE_S = 2.0
_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


@dataclass(frozen=True)
class _Facts:
    """What the record said."""

    incidents: Sequence[Any]
    backups: Sequence[Any]
    holds: int
    waiting: int
    responders: int


class Metrics:
    """The figures of one web process, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.deliveries = Counter(
            "reanimate_alert_deliveries",
            "Deliveries posted to the alert intake, by what became of them.",
            ["source", "outcome"],
            registry=self._registry,
        )
        self.accept_seconds = Histogram(
            "reanimate_alert_accept_seconds",
            "Time from the request to its answer, durable storage included.",
            ["source"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.loop_failures = Counter(
            "reanimate_loop_failures", "Times a background loop fell over.", ["loop"], registry=self._registry
        )
        self._record_up = self._gauge("reanimate_record_up", "1 when the record answered this scrape.")
        self._spooled = self._gauge("reanimate_deliveries_spooled", "Deliveries on disk that wait for the record.")
        self._waiting = self._gauge("reanimate_deliveries_waiting", "Deliveries in the record, not yet folded.")
        self._holds = self._gauge("reanimate_holds_open", "Holds in force.")
        self._responders = self._gauge("reanimate_responders", "Responders that are alive.")
        self._incidents = self._gauge("reanimate_incidents_open", "Incidents that have not ended.", "severity", "state")
        self._backup_age = self._gauge(
            "reanimate_backup_age_seconds", "Age of the newest published backup of each collection.", "subject"
        )

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self._registry)

    async def exposition(self, sessions: async_sessionmaker[AsyncSession], spooled: int) -> bytes:
        """Return everything in Prometheus' text format. Without the record, its figures are left out, not zero."""
        facts: _Facts | None = None
        try:
            async with asyncio.timeout(_PATIENCE_S), sessions() as session:
                facts = await _facts(session)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("metrics without the record, which does not answer: %s", type(error).__name__)
        self._take(facts, spooled)
        return generate_latest(self._registry)

    def _take(self, facts: _Facts | None, spooled: int) -> None:
        self._spooled.set(spooled)
        self._record_up.set(facts is not None)
        self._incidents.clear()
        self._backup_age.clear()
        if facts is None:
            self._holds.set(float("nan"))
            self._waiting.set(float("nan"))
            self._responders.set(float("nan"))
            return
        self._holds.set(facts.holds)
        self._waiting.set(facts.waiting)
        self._responders.set(facts.responders)
        for severity, state, count in facts.incidents:
            self._incidents.labels(severity or "unknown", state).set(count)
        now = utcnow()
        for subject, ended_at in facts.backups:
            self._backup_age.labels(subject).set((now - ended_at).total_seconds())


async def _facts(session: AsyncSession) -> _Facts:
    incidents = await session.execute(
        select(Incident.severity, Incident.state, func.count())
        .where(Incident.state.in_(sorted(OPEN_STATES)))
        .group_by(Incident.severity, Incident.state)
    )
    backups = await session.execute(
        select(Backup.subject, func.max(Backup.ended_at))
        .where(Backup.state == "published", Backup.ended_at.is_not(None))
        .group_by(Backup.subject)
    )
    holds = await session.scalar(select(func.count()).select_from(Hold).where(Hold.lifted_at.is_(None)))
    waiting = await session.scalar(select(func.count()).select_from(Delivery).where(Delivery.state == "stored"))
    return _Facts(incidents.all(), backups.all(), holds or 0, waiting or 0, await count_responders(session))


async def metrics(request: Request) -> Response:
    """Answer a scrape."""
    state = request.app.state
    body = await state.metrics.exposition(state.services.sessions, await state.inbox.waiting_on_disk())
    return Response(body, media_type=CONTENT_TYPE_LATEST)
