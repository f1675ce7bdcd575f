"""One realistic incident from fault to postmortem, as rows of the record at any moment of it.

The primary vector server is killed and its data directory removed; reads move to the replica, a new primary is rebuilt
from a backup, verified, and traffic comes back in steps. `story(until_s=…)` is the same incident, cut off there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.db.tables import (
    Alert,
    Backup,
    Delivery,
    Gateway,
    Hold,
    Incident,
    IncidentFault,
    StepRecord,
    TimelineEntry,
)
from reanimate.incidents.timeline import ChainReport, check_chain, entry_hash
from reanimate.incidents.views import IncidentRows, View, assemble

__all__ = ["ATTACK", "BACKUP_ID", "FAULT_AT", "ID", "Story", "escalated", "story", "tell", "view_of"]

ID = "inc-20261122-031205-9f2c"
FAULT_AT = datetime(2026, 11, 22, 3, 12, 4, 120_000, tzinfo=UTC)
BACKUP_ID = "kb-20261122T020003Z-5d1e"
RUN_ID = "0193e5a2-77f0-7c1d-9a3e-2b6c1f0d4e55"
ATTACK = "<script>alert('pwned')</script> | **bold** [link](http://evil.example) `code`"
"""What a hostile sender might put into a label."""

Row = tuple[float, str, str, str, dict[str, Any]]


@dataclass(frozen=True)
class Story:
    """The rows, and the moment at which they stand so."""

    now: datetime
    incident: Incident
    delivery: Delivery
    faults: list[IncidentFault] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)
    entries: list[TimelineEntry] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    gateways: list[Gateway] = field(default_factory=list)
    backups: list[Backup] = field(default_factory=list)

    @property
    def fault_at(self) -> datetime:
        assert self.incident.fault_at
        return self.incident.fault_at

    @property
    def chain(self) -> ChainReport:
        return check_chain(self.entries, self.incident.timeline_length, self.incident.timeline_head)


def view_of(told: Story) -> View:
    """Return the view that pages and postmortem would get of `told`."""
    return assemble(
        IncidentRows(
            told.incident,
            faults=told.faults,
            steps=told.steps,
            entries=told.entries,
            holds=told.holds,
            alerts=told.alerts,
            gateways=told.gateways,
            switch_seq=max((gateway.acked_seq for gateway in told.gateways), default=None),
        ),
        now=told.now,
        web="http://127.0.0.1:8700",
        prefect_ui="http://127.0.0.1:8704",
        chain=vars(told.chain),
    )


def _step(
    start_s: float,
    end_s: float,
    phase: str,
    step: str,
    action: str,
    evidence: dict[str, Any],
    *,
    ordinal: int = 0,
    attempt: int = 1,
) -> list[Row]:
    data = {"phase": phase, "step": step, "action": action, "ordinal": ordinal, "attempt": attempt}
    ended = {**data, "duration_s": round(end_s - start_s, 3), "evidence": evidence}
    return [
        (start_s, "step.started", "responder", f"{step}: {action}", data),
        (end_s, "step.done", "responder", f"{step}: {action} done", ended),
    ]


def _hold(at_s: float, kind: str, switch: str, scope: str, value: Any, seq: int, why: str) -> Row:
    data = {"switch": switch, "scope": scope, "value": value, "seq": seq, "reason": why, "acked_ms": 3.4}
    return (at_s, f"hold.{kind}", "responder", f"{switch} of {scope} = {value}: {why}", data)


def _state(at_s: float, before: str, after: str, why: str) -> Row:
    data = {"from": before, "to": after, "reason": why}
    return (at_s, "incident.state", "responder", f"{before} → {after}: {why}", data)


def _figures(
    began: datetime, at_s: float, moment: str, asked: int, degraded: int, refused: int, acknowledged: int
) -> Row:
    gateway = {
        "gateway": "gateway",
        "boot_id": "b-71c2",
        "since": began.isoformat(),
        "now": (began + timedelta(seconds=at_s)).isoformat(),
        "reads": {"asked": asked, "answered": asked, "degraded": degraded, "failed": 0, "slowest_ms": 1041.7},
        "writes": {"asked": refused + acknowledged, "acknowledged": acknowledged, "refused": refused, "failed": 0},
        "targets": {
            "primary": {"requests": asked - degraded, "failures": 3, "state": "out", "out_since": began.isoformat()},
            "replica": {"requests": degraded, "failures": 0, "state": "up", "out_since": None},
        },
        "totals": {"writes_acknowledged": {"kb": 2290}},
    }
    data = {"moment": moment, "gateways": {"gateway": gateway}}
    return (at_s, "figures", "responder", f"gateway: {asked} reads asked, 0 failed, {degraded} degraded", data)


_CHECKS: list[dict[str, Any]] = [
    {"collection": "kb", "check": name, "passed": True, "found": found}
    for name, found in (
        ("exact count", 2286),
        ("sentinels", "20 of 20"),
        ("known answers", "5 of 5"),
        ("payload schema", ["source", "title"]),
        ("vectors config", {"size": 384, "distance": "Cosine"}),
        ("probe alias", "kb-20261122T031214Z"),
    )
] + [{"check": "answers", "passed": True, "found": "answers in 2 ms, version 1.18.2, 1 collections judged"}]

_ALERT = {
    "source": "cloudevents",
    "fingerprint": "watch:vector:primary:down",
    "labels": {"fault": "vector_database_down", "component": "vector:primary", "target": "primary"},
}

_OBEYED = {"obeyed_after_ms": {"gateway": 3.4}, "not_reached": {}}
_SEEN = [
    {"target": "primary", "role": "primary", "answers": False, "detail": "refused: connect to 127.0.0.1:8720"},
    {"target": "replica", "role": "replica", "answers": True, "detail": "answers in 2 ms, version 1.18.2", "judged": 1},
]
_NEW_NAME = "kb-20261122T031214Z"
_RESTORED = {
    "collection": "kb",
    "backup_id": BACKUP_ID,
    "backup_taken_at": "2026-11-22T02:00:03+00:00",
    "backup_age_s": 4322.2,
    "new_name": _NEW_NAME,
    "points": 2286,
    "writes_since": 4,
    "took_s": 15.81,
}


def _rows(began: datetime, incident_id: str) -> list[Row]:
    """Return every entry of the story, for a fault that began then."""
    return [
        (1.12, "alert.firing", "intake", "watch:vector:primary:down: primary refuses connections", _ALERT),
        (
            1.13,
            "incident.opened",
            "intake",
            "Vector server primary is down (vector:primary)",
            {
                "component": "vector:primary",
                "scope": {"target": "primary", "collections": ["kb"]},
                "fault_at": began.isoformat(),
            },
        ),
        _hold(1.16, "placed", "read_share", "primary", 0, 41, "reflex: reads leave a target that is down"),
        *_step(
            1.31,
            1.62,
            "detection",
            "identify_fault",
            "identify_fault",
            {
                "faults": [
                    {"fault": "vector_database_down", "component": "vector:primary", "confidence": 0.95},
                    {"fault": "knowledge_base_deleted", "component": "vector:primary", "confidence": 0.3},
                ],
                "runbook": "vector_database_down",
                "probes": _SEEN,
            },
        ),
        (
            1.60,
            "incident.fault",
            "responder",
            "vector_database_down at vector:primary, confidence 95%",
            {
                "fault": "vector_database_down",
                "component": "vector:primary",
                "confidence": 0.95,
                "evidence": [
                    {
                        "check": "alert label",
                        "found": "fault=vector_database_down",
                        "alert": "watch:vector:primary:down",
                    },
                    {"check": "own probe", "found": "refused: connect to 127.0.0.1:8720"},
                ],
            },
        ),
        (
            1.61,
            "incident.fault",
            "responder",
            "knowledge_base_deleted at vector:primary, confidence 30%",
            {
                "fault": "knowledge_base_deleted",
                "component": "vector:primary",
                "confidence": 0.3,
                "evidence": [
                    {"check": "rules table", "found": "kb search empty", "alert": "watch:vector:primary:down"}
                ],
            },
        ),
        *_step(
            1.64,
            1.66,
            "detection",
            "assess_impact",
            "assess_impact",
            {"impact": "core", "users": "all", "why": "writes are out; reads can be served by replica"},
        ),
        _figures(began, 1.65, "opened", 21, 19, 0, 0),
        (
            1.68,
            "incident.severity",
            "responder",
            "P1: core for all users; recover by 2026-11-22 04:12:05 UTC",
            {"severity": "P1", "impact": "core", "users": "all", "rto_s": 3600.0},
        ),
        *_step(1.67, 1.69, "detection", "set_priority", "set_priority", {"severity": "P1", "rto_s": 3600.0}),
        _state(1.70, "detecting", "containing", "containment begins"),
        _hold(1.75, "placed", "writes", "primary", "hold", 42, "writes wait until the data is verified"),
        *_step(1.72, 1.81, "containment", "isolate", "hold_writes", {"scopes": ["primary"], "seq": 42, **_OBEYED}),
        *_step(1.84, 2.05, "containment", "degrade", "move_reads_away", {"scopes": ["primary"], "seq": 42, **_OBEYED}),
        *_step(
            2.08,
            2.12,
            "containment",
            "notify",
            "notify_people",
            {"ordered": "[P1] Vector server primary is down", "receivers": 1},
        ),
        _figures(began, 2.13, "contained", 40, 38, 2, 0),
        _state(2.14, "containing", "recovering", "recovery begins"),
        (2.31, "notice.sent", "relay", "told 1 receiver: [P1] Vector server primary is down", {"receivers": 1}),
        *_step(2.2, 9.87, "recovery", "recover", "wait_for_target", {"waited_s": 7.6, "version": "1.18.2"}),
        *_step(
            9.9,
            26.4,
            "recovery",
            "recover",
            "restore_collections",
            {"restores": [_RESTORED], "verified": [_NEW_NAME]},
            ordinal=1,
            attempt=2,
        ),
        *_step(
            26.41,
            26.48,
            "recovery",
            "recover",
            "switch_aliases",
            {"switched": {_NEW_NAME: {"before": {}, "after": {"kb": _NEW_NAME}}}},
            ordinal=2,
        ),
        (
            26.95,
            "verification",
            "responder",
            "7 of 7 checks passed on primary",
            {"passed": True, "checks": _CHECKS},
        ),
        *_step(
            26.5,
            27.0,
            "recovery",
            "verify",
            "verify_collections",
            {"passed": True, "checks": 7, "at": "2026-11-22T03:12:31+00:00", "target": "primary"},
        ),
        _hold(27.3, "changed", "read_share", "primary", 10, 43, "10 % of the reads come back"),
        _hold(30.4, "changed", "read_share", "primary", 50, 44, "50 % of the reads come back"),
        _hold(33.5, "changed", "read_share", "primary", 100, 45, "100 % of the reads come back"),
        *_step(
            27.1,
            36.8,
            "recovery",
            "return_traffic",
            "return_reads",
            {"steps": [{"share": share, "requests": share, "failures": 0} for share in (10, 50, 100)]},
        ),
        _hold(37.5, "lifted", "read_share", "primary", 100, 46, "verified: traffic is back"),
        _hold(37.6, "lifted", "writes", "primary", "hold", 47, "verified: traffic is back"),
        *_step(36.9, 37.8, "recovery", "return_traffic", "lift_holds", {"seq": 47, **_OBEYED}, ordinal=1),
        _state(37.95, "recovering", "recovered", "verified, and traffic is back"),
        _figures(began, 37.96, "recovered", 755, 512, 11, 3),
        (37.99, "alert.resolved", "intake", "watch:vector:primary:down: primary answers again", _ALERT),
        _figures(began, 38.1, "ended", 759, 512, 11, 3),
        *_step(
            38.0,
            38.2,
            "postmortem",
            "analyse_cause",
            "analyse_cause",
            {
                "most_likely": "vector_database_down",
                "considered": [
                    {"fault": "vector_database_down", "confidence": 0.95},
                    {"fault": "knowledge_base_deleted", "confidence": 0.3},
                ],
            },
        ),
        (
            38.3,
            "postmortem.written",
            "responder",
            f"postmortem written to postmortems/{incident_id}.md",
            {"key": f"postmortems/{incident_id}.md"},
        ),
        *_step(
            38.2, 38.4, "postmortem", "update_documents", "update_documents", {"key": f"postmortems/{incident_id}.md"}
        ),
        (
            38.45,
            "note",
            "responder",
            "monitoring reviewed",
            {
                "proposals": [
                    "Alertmanager said nothing: connect it or add a rule for this fault, as a second pair of eyes"
                ]
            },
        ),
        *_step(38.4, 38.5, "postmortem", "improve_monitoring", "improve_monitoring", {"first_seen_by": "cloudevents"}),
    ]


def story(
    *,
    until_s: float = 60.0,
    hostile: bool = False,
    began: datetime = FAULT_AT,
    incident_id: str = ID,
    extra: Sequence[Row] = (),
) -> Story:
    """Return the incident as it stood `until_s` seconds after the fault; hostile: with markup in what senders wrote."""
    everything = [*_rows(began, incident_id), *extra]
    told = sorted((row for row in everything if row[0] <= until_s), key=lambda row: row[0])

    def at(offset_s: float) -> datetime:
        return began + timedelta(seconds=offset_s)

    incident = Incident(
        id=incident_id,
        title="Vector server primary is down" + (f" {ATTACK}" if hostile else ""),
        agent="support agent",
        state="detecting",
        phase="detection",
        component="vector:primary",
        scope={"target": "primary", "collections": ["kb"]},
        runbook="vector_database_down",
        runbook_text="title: Vector database down\n",
        fault_at=began,
        opened_at=at(1.13),
        last_alert_at=at(1.12),
        flow_run_id=RUN_ID,
        timeline_length=0,
        timeline_head="",
    )
    made = Story(
        now=at(until_s), incident=incident, delivery=_delivery(at(1.11)), gateways=[_gateway(told, at(until_s))]
    )
    made.backups.append(_backup())
    for row in told:
        _append(made, row, hostile)
        _apply(made, row)
    made.alerts.extend(_alerts(made, hostile))
    return made


def escalated(*, began: datetime = FAULT_AT, incident_id: str = ID) -> Story:
    """Return the same incident, but the restored collection is not what was backed up, so a person is called."""
    wrong = "kb-20261122T031214Z on primary is not what the backup holds: sentinels: expected 20 of 20, found 17 of 20"
    step = {"phase": "recovery", "step": "recover", "action": "restore_collections"}
    failed = {**step, "ordinal": 1, "duration_s": 15.1, "evidence": {}, "error": wrong}
    extra: list[Row] = [
        (25.0, "step.failed", "responder", f"recover: restore_collections failed: {wrong}", failed),
        (25.2, "step.undone", "responder", "recover: restore_collections undone", {**step, "evidence": {"removed": 1}}),
        _state(25.3, "recovering", "escalated", wrong),
        (25.31, "person.called", "responder", wrong, {"receivers": 0}),
    ]
    return story(until_s=25.5, began=began, incident_id=incident_id, extra=extra)


async def tell(session: AsyncSession, told: Story) -> None:
    """Write a story into the record."""
    for row in (told.delivery, *told.gateways, *told.backups):
        await session.merge(row)
    session.add(told.incident)
    await session.flush()
    session.add_all([*told.alerts, *told.faults, *told.steps, *told.entries, *told.holds])
    await session.flush()


def _append(made: Story, row: Row, hostile: bool) -> None:
    offset_s, kind, actor, message, data = row
    if hostile and kind == "alert.firing":
        message = f"{message} {ATTACK}"
    incident = made.incident
    sealed = {
        "incident_id": incident.id,
        "seq": incident.timeline_length + 1,
        "at": made.fault_at + timedelta(seconds=offset_s),
        "kind": kind,
        "actor": actor,
        "message": message,
        "data": data,
        "prev_hash": incident.timeline_head,
    }
    entry = TimelineEntry(**sealed, hash=entry_hash(**sealed))
    made.entries.append(entry)
    incident.timeline_length, incident.timeline_head = entry.seq, entry.hash


def _apply(made: Story, row: Row) -> None:
    """Carry what one entry says into the other tables, as the product does in the same transaction."""
    offset_s, kind, _, _, data = row
    at, incident = made.fault_at + timedelta(seconds=offset_s), made.incident
    if kind == "incident.state":
        incident.state = data["to"]
        if data["to"] == "recovering":
            incident.contained_at, incident.phase = at, "recovery"
        elif data["to"] == "containing":
            incident.phase = "containment"
        elif data["to"] == "recovered":
            incident.recovered_at, incident.phase = at, "postmortem"
    elif kind == "incident.severity":
        incident.severity, incident.impact, incident.users = data["severity"], data["impact"], data["users"]
        incident.rto_s = data["rto_s"]
        incident.rto_deadline = incident.opened_at + timedelta(seconds=data["rto_s"])
    elif kind == "incident.fault":
        made.faults.append(IncidentFault(incident_id=made.incident.id, found_at=at, **data))
    elif kind == "postmortem.written":
        incident.postmortem_key = data["key"]
    elif kind.startswith("hold."):
        _apply_hold(made, kind, at, data)
    elif kind.startswith("step."):
        _apply_step(made, kind, at, data)


def _apply_hold(made: Story, kind: str, at: datetime, data: dict[str, Any]) -> None:
    if kind == "hold.placed":
        made.holds.append(
            Hold(
                incident_id=made.incident.id,
                cause=made.incident.id,
                switch=data["switch"],
                scope=data["scope"],
                value=data["value"],
                reason=data["reason"],
                placed_at=at,
            )
        )
        return
    hold = next(hold for hold in made.holds if (hold.switch, hold.scope) == (data["switch"], data["scope"]))
    hold.value, hold.reason = data["value"], data["reason"]
    hold.lifted_at = at if kind == "hold.lifted" else None


def _apply_step(made: Story, kind: str, at: datetime, data: dict[str, Any]) -> None:
    if kind == "step.started":
        made.steps.append(
            StepRecord(
                incident_id=made.incident.id,
                phase=data["phase"],
                step=data["step"],
                ordinal=data["ordinal"],
                action=data["action"],
                params={},
                state="running",
                attempts=data["attempt"],
                started_at=at,
                progress={},
                evidence={},
            )
        )
        return
    found = [item for item in made.steps if (item.step, item.action) == (data["step"], data["action"])]
    if kind == "step.undone":
        found[-1].state = "undone"
        return
    record = next(item for item in found if not item.ended_at)
    record.state, record.ended_at, record.evidence = kind.removeprefix("step."), at, data["evidence"]
    record.error = data.get("error")


def _alerts(made: Story, hostile: bool) -> list[Alert]:
    labels = {**_ALERT["labels"], "note": ATTACK} if hostile else dict(_ALERT["labels"])
    said = {
        "firing": "primary refuses connections (3 samples in a row)",
        "resolved": "primary answers again (3 samples in a row)",
    }
    return [
        Alert(
            delivery_id=1,
            incident_id=made.incident.id,
            source="cloudevents",
            fingerprint=_ALERT["fingerprint"],
            status=entry.kind.removeprefix("alert."),
            starts_at=made.fault_at,
            ends_at=entry.at if entry.kind == "alert.resolved" else None,
            labels=labels,
            annotations={"summary": said[entry.kind.removeprefix("alert.")]},
            received_at=entry.at,
            seen=1,
        )
        for entry in made.entries
        if entry.kind in ("alert.firing", "alert.resolved")
    ]


def _delivery(received_at: datetime) -> Delivery:
    return Delivery(
        id=1,
        source="cloudevents",
        delivery_key="d-1",
        received_at=received_at,
        content_type="application/cloudevents+json",
        headers={},
        body=b"{}",
        state="folded",
    )


def _gateway(told: list[Row], now: datetime) -> Gateway:
    acked = max((row[4]["seq"] for row in told if row[1].startswith("hold.")), default=40)
    return Gateway(
        name="gateway",
        control_url="http://127.0.0.1:8711",
        last_seen_at=now,
        acked_seq=acked,
        acked_at=now,
    )


def _backup() -> Backup:
    taken = datetime(2026, 11, 22, 2, 0, 3, tzinfo=UTC)
    return Backup(
        id=BACKUP_ID,
        kind="vector",
        subject="kb",
        target="primary",
        state="published",
        started_at=taken,
        ended_at=taken + timedelta(seconds=4.4),
        manifest_key=f"backups/{BACKUP_ID}/manifest.json",
        manifest_sha256="5e" * 32,
        size_bytes=9_441_907,
        exact_count=2286,
        trigger="schedule",
    )
