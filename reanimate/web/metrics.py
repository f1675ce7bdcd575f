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
from reanimate.config import Settings
from reanimate.db.tables import Delivery, Hold, Incident
from reanimate.incidents.lifecycle import OPEN_STATES
from reanimate.orchestrator.presence import count_responders
from reanimate.protection.figures import ProtectionFigures, protection_figures

__all__ = ["Metrics", "metrics"]

log = logging.getLogger(__name__)

_PATIENCE_S = 2.0
_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

_PROTECTION = {
    "age_s": ("reanimate_backup_age_seconds", "How long ago the newest published backup began."),
    "took_s": ("reanimate_backup_duration_seconds", "How long the newest published backup took."),
    "size_bytes": ("reanimate_backup_size_bytes", "Bytes of the newest published backup, as the server made them."),
    "late": ("reanimate_recovery_point_objective_exceeded", "1 when the newest backup is older than it may be."),
    "proof_age_s": ("reanimate_proof_age_seconds", "How long ago a backup was last proven."),
    "proof_took_s": ("reanimate_proof_duration_seconds", "How long the last proof that passed took."),
    "refuted": ("reanimate_proof_failed", "1 when the newest proof found its backup wrong."),
}
"""By figure of `ProtectionFigures`: name and meaning. Each has labels `kind` and `subject`."""


@dataclass(frozen=True)
class _Facts:
    """What the record said."""

    incidents: Sequence[Any]
    protection: Sequence[ProtectionFigures]
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
        self._protection = {
            figure: self._gauge(f"reanimate_{name}", text, "kind", "subject")
            for figure, (name, text) in _PROTECTION.items()
        }

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self._registry)

    async def exposition(self, sessions: async_sessionmaker[AsyncSession], settings: Settings, spooled: int) -> bytes:
        """Return everything in Prometheus' text format. Without the record, its figures are left out, not zero."""
        facts: _Facts | None = None
        try:
            async with asyncio.timeout(_PATIENCE_S), sessions() as session:
                facts = await _facts(session, settings)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("metrics without the record, which does not answer: %s", type(error).__name__)
        self._take(facts, spooled)
        return generate_latest(self._registry)

    def _take(self, facts: _Facts | None, spooled: int) -> None:
        self._spooled.set(spooled)
        self._record_up.set(facts is not None)
        self._incidents.clear()
        for gauge in self._protection.values():
            gauge.clear()
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
        for thing in facts.protection:
            for figure, gauge in self._protection.items():
                if (value := getattr(thing, figure)) is not None:
                    gauge.labels(thing.kind, thing.subject).set(value)


async def _facts(session: AsyncSession, settings: Settings) -> _Facts:
    incidents = await session.execute(
        select(Incident.severity, Incident.state, func.count())
        .where(Incident.state.in_(sorted(OPEN_STATES)))
        .group_by(Incident.severity, Incident.state)
    )
    holds = await session.scalar(select(func.count()).select_from(Hold).where(Hold.lifted_at.is_(None)))
    waiting = await session.scalar(select(func.count()).select_from(Delivery).where(Delivery.state == "stored"))
    protection = await protection_figures(session, settings, now=utcnow())
    return _Facts(incidents.all(), protection, holds or 0, waiting or 0, await count_responders(session))


async def metrics(request: Request) -> Response:
    """Answer a scrape."""
    state = request.app.state
    services = state.services
    body = await state.metrics.exposition(services.sessions, services.settings, await state.inbox.waiting_on_disk())
    return Response(body, media_type=CONTENT_TYPE_LATEST)
