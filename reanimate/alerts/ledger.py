"""What folding knows and changes in the record, within the transaction of one delivery."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import DateTime, Text, column, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.selectable import TableValuedAlias

from reanimate.alerts import folding
from reanimate.alerts.components import UNKNOWN, scope_of
from reanimate.alerts.folding import (
    GROUP_LABEL,
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
from reanimate.db.tables import Alert, Incident, TimelineEntry
from reanimate.incidents import record, timeline
from reanimate.incidents.lifecycle import OPEN_STATES, State

__all__ = ["SENDER_GROUP_LABEL", "Ledger"]

SENDER_GROUP_LABEL = "sender_group"
"""Where the sender's own grouping is kept among an alert's labels."""

_ACTOR = "intake"
_REPEAT_NOTED_EVERY = timedelta(hours=1)


@dataclass
class Ledger:
    """Open incidents and known alerts, kept up to date while the alerts of one delivery are applied."""

    session: AsyncSession
    delivery_id: int
    now: datetime
    incidents: dict[str, OpenIncident]
    alerts: dict[tuple[str, str, datetime, str], KnownAlert]
    last_incident: dict[tuple[str, str], str]
    opened: list[str] = field(default_factory=list)

    @classmethod
    async def load(
        cls, session: AsyncSession, delivery_id: int, candidates: Sequence[Candidate], now: datetime
    ) -> "Ledger":
        """Read what deciding about `candidates` needs, in three queries whatever their number."""
        return cls(
            session,
            delivery_id,
            now,
            incidents=await _open_incidents(session),
            alerts=await _known_alerts(session, candidates),
            last_incident=await _last_incidents(session, candidates),
        )

    async def apply(self, candidate: Candidate, window: timedelta) -> str | None:
        """Decide about one alert and write down what follows; return the id of the incident if it opened one."""
        seen = Seen(self.alerts, self.last_incident)
        match folding.fold(candidate, list(self.incidents.values()), seen, window):
            case Repeat(alert_id, incident_id):
                await self._count(candidate, alert_id, incident_id)
            case Joined(incident_id, why):
                await self._join(candidate, incident_id, why)
            case ResolvedRecorded(incident_id):
                alert_id = await self._write_alert(candidate, incident_id)
                await self._tell(candidate, incident_id, alert_id, "alert.resolved", "its sender says it is over")
            case Ignored():
                await self._write_alert(candidate, None)
            case Opened():
                return await self._open(candidate)
        return None

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
        await self._add(candidate, incident.id, "it opened the incident")
        return incident.id

    async def _join(self, candidate: Candidate, incident_id: str, why: str) -> None:
        await self._add(candidate, incident_id, why)
        incident = await self.session.get_one(Incident, incident_id, with_for_update=True, populate_existing=True)
        incident.last_alert_at = max(candidate.received_at, incident.last_alert_at or candidate.received_at)
        incident.fault_at = min(candidate.alert.starts_at, incident.fault_at or self.now)
        await self.session.flush()

    async def _add(self, candidate: Candidate, incident_id: str, why: str) -> None:
        alert_id = await self._write_alert(candidate, incident_id)
        await self._tell(candidate, incident_id, alert_id, "alert.firing", why)
        incident, sender_group = self.incidents[incident_id], candidate.alert.sender_group
        self.incidents[incident_id] = replace(
            incident,
            components=incident.components | {candidate.component},
            groups=incident.groups | ({candidate.group} if candidate.group else set()),
            sender_groups=incident.sender_groups | ({sender_group} if sender_group else set()),
            last_alert_at=max(incident.last_alert_at, candidate.received_at),
        )

    async def _write_alert(self, candidate: Candidate, incident_id: str | None) -> int:
        alert = candidate.alert
        alert_id: int = (
            await self.session.execute(
                insert(Alert)
                .values(
                    delivery_id=self.delivery_id,
                    incident_id=incident_id,
                    source=alert.source,
                    fingerprint=alert.fingerprint,
                    status=alert.status,
                    starts_at=alert.starts_at,
                    ends_at=alert.ends_at,
                    labels=_stored_labels(candidate),
                    annotations=dict(alert.annotations),
                    received_at=candidate.received_at,
                    seen=1,
                )
                .returning(Alert.id)
            )
        ).scalar_one()
        self.alerts[identity(alert)] = KnownAlert(alert_id, incident_id)
        if incident_id is not None and alert.status is AlertStatus.FIRING:
            self.last_incident[alert.source, alert.fingerprint] = incident_id
        return alert_id

    async def _count(self, candidate: Candidate, alert_id: int, incident_id: str | None) -> None:
        """Count a repetition. One that still fires after its incident ended is worth a line, though not each time."""
        seen: int = (
            await self.session.execute(
                update(Alert).where(Alert.id == alert_id).values(seen=Alert.seen + 1).returning(Alert.seen)
            )
        ).scalar_one()
        if incident_id is None or incident_id in self.incidents or candidate.alert.status is AlertStatus.RESOLVED:
            return
        noted = await self.session.scalar(
            select(func.max(TimelineEntry.at)).where(
                TimelineEntry.incident_id == incident_id, TimelineEntry.kind == "alert.repeat"
            )
        )
        if noted is None or self.now - noted >= _REPEAT_NOTED_EVERY:
            why = f"it still fires although the incident has ended; seen {seen} times"
            await self._tell(candidate, incident_id, alert_id, "alert.repeat", why)

    async def _tell(self, candidate: Candidate, incident_id: str, alert_id: int, kind: str, why: str) -> None:
        alert = candidate.alert
        data: dict[str, Any] = {
            "alert_id": alert_id,
            "delivery_id": self.delivery_id,
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
            "why": why,
        }
        message = f"{alert.title} ({candidate.component}, from {alert.source}): {why}"
        await timeline.append(self.session, incident_id, kind, message, actor=_ACTOR, now=self.now, data=data)


def _stored_labels(candidate: Candidate) -> dict[str, str]:
    """The sender's labels, with the component as we understood it and the sender's grouping."""
    labels = dict(candidate.alert.labels)
    if candidate.component != UNKNOWN:
        labels["component"] = candidate.component
    if candidate.alert.sender_group is not None:
        labels[SENDER_GROUP_LABEL] = candidate.alert.sender_group
    return labels


async def _open_incidents(session: AsyncSession) -> dict[str, OpenIncident]:
    gathered = (
        select(
            Alert.incident_id,
            *(
                func.array_agg(Alert.labels[label].astext.distinct()).label(label)
                for label in ("component", GROUP_LABEL, SENDER_GROUP_LABEL)
            ),
        )
        .join(Incident, Incident.id == Alert.incident_id)
        .where(Incident.state.in_(sorted(OPEN_STATES)))
        .group_by(Alert.incident_id)
        .subquery()
    )
    rows = await session.execute(
        select(Incident, gathered.c.component, gathered.c[GROUP_LABEL], gathered.c[SENDER_GROUP_LABEL])
        .outerjoin(gathered, gathered.c.incident_id == Incident.id)
        .where(Incident.state.in_(sorted(OPEN_STATES)))
    )
    return {
        incident.id: OpenIncident(
            id=incident.id,
            agent=incident.agent,
            state=State(incident.state),
            components=_set(components) | {incident.component},
            last_alert_at=incident.last_alert_at or incident.opened_at,
            groups=_set(groups),
            sender_groups=_set(sender_groups),
        )
        for incident, components, groups, sender_groups in rows
    }


def _set(values: Sequence[str | None] | None) -> frozenset[str]:
    return frozenset(value for value in values or () if value)


def _wanted(candidates: Sequence[Candidate]) -> TableValuedAlias:
    """The candidates as a table: three parameters in all, however many there are."""
    alerts = [candidate.alert for candidate in candidates]
    return func.unnest(
        literal([alert.source for alert in alerts], ARRAY(Text)),
        literal([alert.fingerprint for alert in alerts], ARRAY(Text)),
        literal([alert.starts_at for alert in alerts], ARRAY(DateTime(timezone=True))),
    ).table_valued(
        column("source", Text),
        column("fingerprint", Text),
        column("starts_at", DateTime(timezone=True)),
        name="wanted",
    )


async def _known_alerts(
    session: AsyncSession, candidates: Sequence[Candidate]
) -> dict[tuple[str, str, datetime, str], KnownAlert]:
    """Those of the same source, fingerprint and start: the alert itself, and its other half (fired, resolved)."""
    wanted = _wanted(candidates)
    rows = await session.execute(
        select(Alert.id, Alert.incident_id, Alert.source, Alert.fingerprint, Alert.starts_at, Alert.status).where(
            Alert.source == wanted.c.source,
            Alert.fingerprint == wanted.c.fingerprint,
            Alert.starts_at == wanted.c.starts_at,
        )
    )
    return {(r.source, r.fingerprint, r.starts_at, r.status): KnownAlert(r.id, r.incident_id) for r in rows}


async def _last_incidents(session: AsyncSession, candidates: Sequence[Candidate]) -> dict[tuple[str, str], str]:
    wanted = _wanted(candidates)
    rows = await session.execute(
        select(Alert.source, Alert.fingerprint, Alert.incident_id)
        .distinct(Alert.source, Alert.fingerprint)
        .where(
            Alert.source == wanted.c.source,
            Alert.fingerprint == wanted.c.fingerprint,
            Alert.status == AlertStatus.FIRING,
            Alert.incident_id.is_not(None),
        )
        .order_by(Alert.source, Alert.fingerprint, Alert.starts_at.desc(), Alert.id.desc())
    )
    return {(row.source, row.fingerprint): row.incident_id for row in rows}
