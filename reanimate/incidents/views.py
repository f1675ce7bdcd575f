"""One incident, and the list of incidents, as plain JSON values: what pages, command line and artifacts all show.

Loading and arranging are apart: `assemble` is pure. How values look is not decided here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, select
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.clock import utcnow
from reanimate.db.tables import (
    Alert,
    Gateway,
    Hold,
    Incident,
    IncidentFault,
    StepRecord,
    SwitchLedger,
    TimelineEntry,
)
from reanimate.errors import InputInvalid, NotFound
from reanimate.incidents import timeline
from reanimate.incidents.figures import Figures, incident_figures
from reanimate.incidents.lifecycle import OPEN_STATES, STEPS, Phase, State
from reanimate.incidents.wording import words

if TYPE_CHECKING:
    from reanimate.bootstrap import Services

__all__ = ["IncidentRows", "View", "assemble", "incident_list", "incident_view"]

View = dict[str, Any]
"""JSON values only; moments are ISO 8601 text in UTC, lengths of time are seconds."""


@dataclass(frozen=True)
class IncidentRows:
    """Everything the record holds about one incident."""

    incident: Incident
    faults: Sequence[IncidentFault] = ()
    steps: Sequence[StepRecord] = ()
    entries: Sequence[TimelineEntry] = ()
    holds: Sequence[Hold] = ()
    alerts: Sequence[Alert] = ()
    gateways: Sequence[Gateway] = ()
    switch_seq: int | None = None


async def incident_view(services: "Services", incident_id: str) -> View:
    """Return everything about one incident.

    Raises:
        NotFound: no incident has this id.
    """
    async with services.sessions() as session:
        rows = await _load(session, incident_id)
        report = await timeline.verify(session, incident_id)
    return assemble(
        rows,
        now=utcnow(),
        web=services.addresses.web,
        prefect_ui=services.addresses.prefect_ui,
        chain=asdict(report),
    )


async def incident_list(services: "Services", *, state: str | None = None, limit: int = 50) -> list[View]:
    """Return incidents, those still open first, the newest of each first.

    `state` is a state of the lifecycle, or "open" for all of those that still need something.

    Raises:
        InputInvalid: there is no such state.
    """
    is_open = Incident.state.in_(sorted(OPEN_STATES))
    query = select(Incident).order_by(case((is_open, 0), else_=1), Incident.opened_at.desc()).limit(limit)
    if state == "open":
        query = query.where(is_open)
    elif state is not None:
        if state not in set(State):
            raise InputInvalid(f"no state is called {state!r}", hint=f"states are: open, {', '.join(State)}")
        query = query.where(Incident.state == state)
    now = utcnow()
    async with services.sessions() as session:
        found = (await session.scalars(query)).all()
        faults = await session.scalars(
            select(IncidentFault)
            .where(IncidentFault.incident_id.in_([incident.id for incident in found]))
            .order_by(IncidentFault.confidence.desc(), IncidentFault.id)
        )
    named: dict[str, list[str]] = {}
    for fault in faults:
        if fault.fault not in named.setdefault(fault.incident_id, []):
            named[fault.incident_id].append(fault.fault)
    return [
        {
            **_incident(incident),
            "faults": named.get(incident.id, []),
            "clock": _clock(incident, now),
            "age_s": (now - incident.opened_at).total_seconds(),
            "url": f"{services.addresses.web}/incidents/{incident.id}",
        }
        for incident in found
    ]


async def _load(session: AsyncSession, incident_id: str) -> IncidentRows:
    incident = await session.get(Incident, incident_id)
    if incident is None:
        raise NotFound(f"no incident is called {incident_id!r}", hint="`reanimate incident list` shows those there are")
    of = incident_id
    ledger = await session.scalar(select(SwitchLedger.seq))
    return IncidentRows(
        incident=incident,
        faults=(await session.scalars(select(IncidentFault).where(IncidentFault.incident_id == of))).all(),
        steps=(await session.scalars(select(StepRecord).where(StepRecord.incident_id == of))).all(),
        entries=(
            await session.scalars(
                select(TimelineEntry).where(TimelineEntry.incident_id == of).order_by(TimelineEntry.seq)
            )
        ).all(),
        holds=(await session.scalars(select(Hold).where(Hold.incident_id == of).order_by(Hold.id))).all(),
        alerts=(await session.scalars(select(Alert).where(Alert.incident_id == of).order_by(Alert.id))).all(),
        gateways=(await session.scalars(select(Gateway).order_by(Gateway.name))).all(),
        switch_seq=ledger,
    )


def assemble(
    rows: IncidentRows,
    *,
    now: datetime,
    web: str = "",
    prefect_ui: str = "",
    chain: Mapping[str, Any] | None = None,
) -> View:
    """Arrange the rows of one incident, as they stand at `now`, into one view."""
    incident = rows.incident
    return {
        "now": _plain(now),
        "incident": _incident(incident),
        "headline": _headline(rows),
        "clock": _clock(incident, now),
        "faults": [_row(fault) for fault in sorted(rows.faults, key=lambda fault: -fault.confidence)],
        "phases": _phases(incident, rows.steps, now),
        "timeline": [_row(entry) for entry in rows.entries],
        "holds": [{**_row(hold), "in_force": hold.lifted_at is None} for hold in rows.holds],
        "gateways": [
            {
                **_row(gateway),
                "behind": rows.switch_seq is not None and gateway.acked_seq < rows.switch_seq,
                "heard_s": (now - gateway.last_seen_at).total_seconds(),
            }
            for gateway in rows.gateways
        ],
        "switch_seq": rows.switch_seq,
        "alerts": [_row(alert) for alert in rows.alerts],
        "figures": _figures(incident_figures(incident, rows.entries)),
        "chain": _plain(dict(chain)) if chain is not None else None,
        "links": _links(incident, web, prefect_ui),
    }


def _row(row: Any) -> View:
    """Return a table's row with all of its columns."""
    return {column.key: _plain(getattr(row, column.key)) for column in row.__table__.columns}


def _plain(value: Any) -> Any:
    """Return `value` as JSON would hold it."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _incident(incident: Incident) -> View:
    kept = {key: value for key, value in _row(incident).items() if key != "runbook_text"}
    return {**kept, "open": incident.state in OPEN_STATES}


def _figures(figures: Figures) -> View:
    shown: View = _plain(asdict(figures))
    return shown


def _links(incident: Incident, web: str, prefect_ui: str) -> View:
    page = f"{web}/incidents/{incident.id}"
    return {
        "page": page,
        "json": f"{page}.json",
        "postmortem": f"{page}/postmortem",
        "prefect_run": f"{prefect_ui}/v2/runs/flow-run/{incident.flow_run_id}"  # the pages that draw charts
        if prefect_ui and incident.flow_run_id
        else None,
    }


def _clock(incident: Incident, now: datetime) -> View:
    """The RTO clock: it starts when the incident opens and stops when it is recovered or closed.

    `state` is unset (no severity yet), running, met, missed (ended or not), or stopped (closed without a recovery).
    """
    stopped_at = incident.recovered_at or incident.closed_at
    spent_s = max(0.0, ((stopped_at or now) - incident.opened_at).total_seconds())
    rto_s = incident.rto_s
    return {
        "started_at": _plain(incident.opened_at),
        "stopped_at": _plain(stopped_at),
        "deadline": _plain(incident.rto_deadline),
        "rto_s": rto_s,
        "spent_s": spent_s,
        "left_s": None if rto_s is None else rto_s - spent_s,
        "share": None if not rto_s else spent_s / rto_s,
        "state": _clock_state(incident, spent_s),
    }


def _clock_state(incident: Incident, spent_s: float) -> str:
    if incident.rto_s is None:
        return "unset"
    if incident.closed_at and not incident.recovered_at:
        return "stopped"
    if spent_s > incident.rto_s:
        return "missed"
    return "met" if incident.recovered_at else "running"


_HEADLINES: dict[str, tuple[str, str]] = {
    State.RECOVERED: ("good", "Recovered and verified."),
    State.CLOSED: ("idle", "Closed by a person."),
}


def _headline(rows: IncidentRows) -> View:
    """Say in one line what matters now. `tone` is bad (a person is needed), busy, good or idle."""
    incident = rows.incident
    if incident.state == State.ESCALATED:
        called = [entry.message for entry in rows.entries if entry.kind == "person.called"]
        return {"tone": "bad", "text": "A person is needed: " + (called[-1] if called else "recovery did not succeed")}
    if incident.state in _HEADLINES:
        tone, text = _HEADLINES[State(incident.state)]
        return {"tone": tone, "text": text}
    running = [record for record in rows.steps if record.state == "running"]
    doing = f"{words(running[-1].step)}: {words(running[-1].action)}" if running else "between two steps"
    return {"tone": "busy", "text": f"{incident.state.capitalize()} now – {doing}"}


def _phases(incident: Incident, steps: Iterable[StepRecord], now: datetime) -> list[View]:
    found: dict[tuple[str, str], list[StepRecord]] = {}
    for record in sorted(steps, key=lambda record: (record.ordinal, record.id or 0)):
        found.setdefault((record.phase, record.step), []).append(record)
    return [_phase(incident, phase, found, now) for phase in STEPS]


def _phase(incident: Incident, phase: Phase, found: Mapping[tuple[str, str], list[StepRecord]], now: datetime) -> View:
    steps = [
        {
            "step": str(step),
            "state": _together([record.state for record in found.get((phase, step), [])]),
            "actions": [_action(record, now) for record in found.get((phase, step), [])],
        }
        for step in STEPS[phase]
    ]
    records = [record for step in STEPS[phase] for record in found.get((phase, step), [])]
    return {
        "phase": str(phase),
        "state": _together([str(step["state"]) for step in steps]),
        "current": incident.phase == phase and incident.state in OPEN_STATES,
        "duration_s": _span(records, now),
        "steps": steps,
    }


def _together(states: Sequence[str]) -> str:
    """Return one state for several: the one that a person must look at first."""
    for state in ("failed", "running", "undone"):
        if state in states:
            return state
    if not states or set(states) == {"waiting"}:
        return "waiting"
    if "waiting" in states:
        return "running"
    return "skipped" if set(states) == {"skipped"} else "done"


def _span(records: Sequence[StepRecord], now: datetime) -> float | None:
    if not records:
        return None
    end = max(record.ended_at or now for record in records)
    return (end - min(record.started_at for record in records)).total_seconds()


def _action(record: StepRecord, now: datetime) -> View:
    return {
        **{key: value for key, value in _row(record).items() if key not in ("incident_id", "phase", "step")},
        "duration_s": ((record.ended_at or now) - record.started_at).total_seconds(),
    }
