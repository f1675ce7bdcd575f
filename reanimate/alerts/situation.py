"""What folding must know before it decides, read from the record in three queries, however many alerts there are."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import DateTime, Text, column, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.selectable import TableValuedAlias

from reanimate.alerts.folding import GROUP_LABEL, Candidate, KnownAlert, OpenIncident
from reanimate.alerts.model import AlertStatus
from reanimate.alerts.troubles import Trouble, trouble_of
from reanimate.db.tables import Alert, Incident, IncidentFault
from reanimate.incidents.lifecycle import OPEN_STATES, State

__all__ = ["SENDER_GROUP_LABEL", "TROUBLE_LABEL", "known_alerts", "last_incidents", "open_incidents"]

SENDER_GROUP_LABEL = "sender_group"
"""Where the sender's own grouping is kept among an alert's labels."""
TROUBLE_LABEL = "reanimate_trouble"
"""Where what an alert says is wrong is kept there."""


async def open_incidents(session: AsyncSession) -> dict[str, OpenIncident]:
    """Return every incident that has not ended, by its id, with the components, groups and troubles of its alerts."""
    gathered = (
        select(
            Alert.incident_id,
            *(
                func.array_agg(Alert.labels[label].astext.distinct()).label(label)
                for label in ("component", GROUP_LABEL, SENDER_GROUP_LABEL, TROUBLE_LABEL)
            ),
        )
        .join(Incident, Incident.id == Alert.incident_id)
        .where(Incident.state.in_(sorted(OPEN_STATES)))
        .group_by(Alert.incident_id)
        .subquery()
    )
    found = (
        select(IncidentFault.incident_id, func.array_agg(IncidentFault.fault).label("faults"))
        .join(Incident, Incident.id == IncidentFault.incident_id)
        .where(Incident.state.in_(sorted(OPEN_STATES)))
        .group_by(IncidentFault.incident_id)
        .subquery()
    )
    said = [gathered.c[label] for label in ("component", GROUP_LABEL, SENDER_GROUP_LABEL, TROUBLE_LABEL)]
    rows = await session.execute(
        select(Incident, *said, found.c.faults)
        .outerjoin(gathered, gathered.c.incident_id == Incident.id)
        .outerjoin(found, found.c.incident_id == Incident.id)
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
            troubles=_troubles(incident, troubles, faults),
        )
        for incident, components, groups, sender_groups, troubles, faults in rows
    }


def _troubles(
    incident: Incident, said: Sequence[str | None] | None, faults: Sequence[str] | None
) -> frozenset[Trouble]:
    """Return what its alerts said, and the faults that are recorded, also of an incident that no alert opened."""
    scope = {label: str(value) for label, value in incident.scope.items()}
    recorded = [trouble_of(incident.component, {**scope, "fault": fault}, {}) for fault in faults or ()]
    found = [*map(Trouble.parse, _set(said)), *recorded]
    return frozenset(trouble for trouble in found if trouble is not None)


def _set(values: Sequence[str | None] | None) -> frozenset[str]:
    return frozenset(value for value in values or () if value)


def _wanted(candidates: Sequence[Candidate]) -> TableValuedAlias:
    """The candidates as a table: three parameters in all, however many there are."""
    alerts = [candidate.alert for candidate in candidates]
    columns = func.unnest(
        literal([alert.source for alert in alerts], ARRAY(Text)),
        literal([alert.fingerprint for alert in alerts], ARRAY(Text)),
        literal([alert.starts_at for alert in alerts], ARRAY(DateTime(timezone=True))),
    ).table_valued(column("source", Text), column("fingerprint", Text), column("starts_at", DateTime(timezone=True)))
    return columns.render_derived(name="wanted")


async def known_alerts(
    session: AsyncSession, candidates: Sequence[Candidate]
) -> dict[tuple[str, str, datetime, str], KnownAlert]:
    """Return those of the same source, fingerprint and start: the alert itself and its other half (fired, resolved)."""
    wanted = _wanted(candidates)
    rows = await session.execute(
        select(Alert.id, Alert.incident_id, Alert.source, Alert.fingerprint, Alert.starts_at, Alert.status).where(
            Alert.source == wanted.c.source,
            Alert.fingerprint == wanted.c.fingerprint,
            Alert.starts_at == wanted.c.starts_at,
        )
    )
    return {(r.source, r.fingerprint, r.starts_at, r.status): KnownAlert(r.id, r.incident_id) for r in rows}


async def last_incidents(session: AsyncSession, candidates: Sequence[Candidate]) -> dict[tuple[str, str], str]:
    """Return the incident that each (source, fingerprint) last fired for, ended or not."""
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
