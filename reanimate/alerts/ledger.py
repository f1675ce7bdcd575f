"""Carries out the decisions about some deliveries in one transaction: written together at its end, not one by one."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Integer, column, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.alerts import folding
from reanimate.alerts.components import UNKNOWN, scope_of
from reanimate.alerts.folding import (
    Candidate,
    Ignored,
    Joined,
    KnownAlert,
    Opened,
    OpenIncident,
    Repeat,
    ResolvedRecorded,
    Seen,
    identity,
)
from reanimate.alerts.model import AlertStatus
from reanimate.alerts.situation import SENDER_GROUP_LABEL, TROUBLE_LABEL, known_alerts, last_incidents, open_incidents
from reanimate.db.tables import Alert, Incident, TimelineEntry
from reanimate.incidents import record, timeline
from reanimate.incidents.lifecycle import State

__all__ = ["Ledger"]

Identity = tuple[str, str, datetime, str]
Repetition = tuple[Candidate, str | None]

_ACTOR = "intake"
_REPEAT_NOTED_EVERY = timedelta(hours=1)
_TOLD_EACH = 20
"""Of more alerts than this for one incident at one moment, the rest share a line: people read timelines."""


@dataclass
class Ledger:
    """What is known, kept up to date while alerts are decided about in order, and what is to be written."""

    session: AsyncSession
    now: datetime
    incidents: dict[str, OpenIncident]
    alerts: dict[Identity, KnownAlert]
    last_incident: dict[tuple[str, str], str]
    rows: dict[Identity, dict[str, Any]] = field(default_factory=dict)
    repeats: dict[int, list[Repetition]] = field(default_factory=dict)
    """alert id → the repetitions of it."""
    joined: dict[str, list[Candidate]] = field(default_factory=dict)
    lines: dict[tuple[str, str], list[tuple[Candidate, str]]] = field(default_factory=dict)
    """(incident, kind) → the alerts to tell of, and why each is there."""

    @classmethod
    async def load(cls, session: AsyncSession, candidates: Sequence[Candidate], now: datetime) -> "Ledger":
        """Read what deciding about `candidates` needs."""
        return cls(
            session,
            now,
            incidents=await open_incidents(session),
            alerts=await known_alerts(session, candidates),
            last_incident=await last_incidents(session, candidates),
        )

    async def apply(self, candidate: Candidate, window: timedelta) -> str | None:
        """Decide about one alert; return the id of the incident if it opened one. `write` must follow the last."""
        seen = Seen(self.alerts, self.last_incident)
        match folding.fold(candidate, list(self.incidents.values()), seen, window):
            case Repeat(alert_id, incident_id):
                self._repeat(candidate, alert_id, incident_id)
            case Joined(incident_id, why):
                self._add(candidate, incident_id, why)
                self.joined.setdefault(incident_id, []).append(candidate)
            case ResolvedRecorded(incident_id):
                self._keep(candidate, incident_id)
                self._tell(incident_id, "alert.resolved", candidate, "its sender says it is over")
            case Ignored():
                self._keep(candidate, None)
            case Opened():
                return await self._open(candidate)
        return None

    async def write(self) -> None:
        """Write down all that was decided."""
        if self.rows:
            await self.session.execute(insert(Alert), list(self.rows.values()))
        for incident_id, candidates in self.joined.items():
            await self._date(incident_id, candidates)
        if self.repeats:
            await self._count_repeats()
        for (incident_id, kind), told in self.lines.items():
            await self._write_lines(incident_id, kind, told)

    async def _open(self, candidate: Candidate) -> str:
        alert = candidate.alert
        incident = await record.open_incident(
            self.session,
            title=alert.title,
            component=candidate.component,
            agent=candidate.agent,
            fault_at=min(alert.starts_at, self.now),
            now=self.now,
            actor=_ACTOR,
            scope=scope_of(candidate.component, alert.labels),
        )
        self.incidents[incident.id] = OpenIncident(
            incident.id, candidate.agent, State.DETECTING, frozenset({candidate.component}), candidate.received_at
        )
        self._add(candidate, incident.id, "it opened the incident")
        return incident.id

    def _add(self, candidate: Candidate, incident_id: str, why: str) -> None:
        """Make a firing alert one of an open incident's."""
        self._keep(candidate, incident_id)
        self._tell(incident_id, "alert.firing", candidate, why)
        self.last_incident[candidate.alert.source, candidate.alert.fingerprint] = incident_id
        incident, sender_group = self.incidents[incident_id], candidate.alert.sender_group
        self.incidents[incident_id] = replace(
            incident,
            components=incident.components | {candidate.component},
            groups=incident.groups | ({candidate.group} if candidate.group else set()),
            sender_groups=incident.sender_groups | ({sender_group} if sender_group else set()),
            troubles=incident.troubles | ({candidate.trouble} if candidate.trouble else set()),
            last_alert_at=max(incident.last_alert_at, candidate.received_at),
        )

    def _keep(self, candidate: Candidate, incident_id: str | None) -> None:
        alert = candidate.alert
        self.alerts[identity(alert)] = KnownAlert(None, incident_id)
        self.rows[identity(alert)] = {
            "delivery_id": candidate.delivery_id,
            "incident_id": incident_id,
            "source": alert.source,
            "fingerprint": alert.fingerprint,
            "status": alert.status.value,
            "starts_at": alert.starts_at,
            "ends_at": alert.ends_at,
            "labels": _stored_labels(candidate),
            "annotations": dict(alert.annotations),
            "received_at": candidate.received_at,
            "seen": 1,
        }

    def _repeat(self, candidate: Candidate, alert_id: int | None, incident_id: str | None) -> None:
        if alert_id is not None:
            self.repeats.setdefault(alert_id, []).append((candidate, incident_id))
        elif (row := self.rows[identity(candidate.alert)])["delivery_id"] != candidate.delivery_id:
            row["seen"] += 1  # within one delivery it is no repetition

    def _tell(self, incident_id: str, kind: str, candidate: Candidate, why: str) -> None:
        self.lines.setdefault((incident_id, kind), []).append((candidate, why))

    async def _date(self, incident_id: str, candidates: Sequence[Candidate]) -> None:
        """Move the incident's last alert forward, and the beginning of the trouble back."""
        await self.session.execute(
            update(Incident)
            .where(Incident.id == incident_id)
            .values(
                last_alert_at=func.greatest(Incident.last_alert_at, max(c.received_at for c in candidates)),
                fault_at=func.least(Incident.fault_at, min(c.alert.starts_at for c in candidates)),
            )
            .execution_options(synchronize_session=False)
        )

    async def _count_repeats(self) -> None:
        """Count repetitions. What still fires after its incident ended is worth a line, though not each time."""
        times = await self._seen_again()
        for alert_id, repetitions in self.repeats.items():
            candidate, incident_id = repetitions[-1]
            ended = incident_id is not None and incident_id not in self.incidents
            if incident_id is not None and ended and candidate.alert.status is AlertStatus.FIRING:
                why = f"it still fires although the incident has ended; seen {times.get(alert_id)} times"
                self._tell(incident_id, "alert.repeat", candidate, why)
        for incident_id in {incident_id for incident_id, kind in self.lines if kind == "alert.repeat"}:
            if await self._noted_lately(incident_id):
                del self.lines[incident_id, "alert.repeat"]

    async def _seen_again(self) -> dict[int, int]:
        """Add to each alert's count; return alert id → how often it has been seen now."""
        more = func.unnest(
            literal(list(self.repeats), ARRAY(BigInteger)),
            literal([len(repetitions) for repetitions in self.repeats.values()], ARRAY(Integer)),
        ).table_valued(column("id", BigInteger), column("times", Integer))
        more = more.render_derived(name="more")
        counted = await self.session.execute(
            update(Alert)
            .where(Alert.id == more.c.id)
            .values(seen=Alert.seen + more.c.times)
            .returning(Alert.id, Alert.seen)
            .execution_options(synchronize_session=False)
        )
        return {row.id: row.seen for row in counted}

    async def _noted_lately(self, incident_id: str) -> bool:
        noted: datetime | None = await self.session.scalar(
            select(func.max(TimelineEntry.at)).where(
                TimelineEntry.incident_id == incident_id, TimelineEntry.kind == "alert.repeat"
            )
        )
        return noted is not None and self.now - noted < _REPEAT_NOTED_EVERY

    async def _write_lines(self, incident_id: str, kind: str, told: Sequence[tuple[Candidate, str]]) -> None:
        for candidate, why in told[:_TOLD_EACH]:
            alert = candidate.alert
            message = f"{alert.title} ({candidate.component}, from {alert.source}): {why}"
            await self._append(incident_id, kind, message, {**_shown(candidate), "why": why})
        if rest := told[_TOLD_EACH:]:
            named = [_named(candidate, why) for candidate, why in rest]
            await self._append(incident_id, kind, f"{len(rest)} more alerts at the same moment", {"alerts": named})

    async def _append(self, incident_id: str, kind: str, message: str, data: dict[str, Any]) -> None:
        await timeline.append(self.session, incident_id, kind, message, actor=_ACTOR, now=self.now, data=data)


def _named(candidate: Candidate, why: str) -> dict[str, Any]:
    """Enough of an alert to find it among the alerts of the record."""
    return {
        "delivery_id": candidate.delivery_id,
        "source": candidate.alert.source,
        "fingerprint": candidate.alert.fingerprint,
        "component": candidate.component,
        "why": why,
    }


def _shown(candidate: Candidate) -> dict[str, Any]:
    """An alert as a timeline entry keeps it."""
    alert = candidate.alert
    return {
        "delivery_id": candidate.delivery_id,
        "source": alert.source,
        "fingerprint": alert.fingerprint,
        "status": alert.status.value,
        "component": candidate.component,
        "starts_at": alert.starts_at.isoformat(),
        "ends_at": alert.ends_at.isoformat() if alert.ends_at else None,
        "received_at": candidate.received_at.isoformat(),
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "evidence": list(alert.evidence),
    }


def _stored_labels(candidate: Candidate) -> dict[str, str]:
    """The sender's labels, with the component and the trouble as we understood them and the sender's grouping."""
    labels = dict(candidate.alert.labels)
    if candidate.component != UNKNOWN:
        labels["component"] = candidate.component
    if candidate.trouble is not None:
        labels[TROUBLE_LABEL] = str(candidate.trouble)
    if candidate.alert.sender_group is not None:
        labels[SENDER_GROUP_LABEL] = candidate.alert.sender_group
    return labels
