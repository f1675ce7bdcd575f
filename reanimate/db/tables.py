"""Every table of the record. All times are UTC; all ids that people see are text."""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = [
    "Alert",
    "Backup",
    "Base",
    "CanonicalJSON",
    "Delivery",
    "Gateway",
    "Hold",
    "Incident",
    "IncidentFault",
    "Outbox",
    "PartRead",
    "Proof",
    "QuotaAccount",
    "QuotaAlert",
    "QuotaEvent",
    "QuotaGrant",
    "Restore",
    "Slot",
    "StepRecord",
    "SwitchLedger",
    "TimelineEntry",
    "canonical_json",
]

Json = dict[str, Any]


def canonical_json(value: Any) -> str:
    """Return the one text form of `value` that hashes are computed over: sorted keys, no spaces, UTF-8 kept."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class CanonicalJSON(TypeDecorator[Json]):
    """JSON kept as the exact text that was hashed; jsonb would rewrite numbers and break the chain."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Json | None, dialect: Dialect) -> str:
        return canonical_json(value or {})

    def process_result_value(self, value: Any, dialect: Dialect) -> Json:
        loaded: Json = json.loads(value)
        return loaded


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        datetime: DateTime(timezone=True),
        Json: JSONB,
        str: Text,
        bytes: LargeBinary,
        float: Float,
        bool: Boolean,
    }


class Delivery(Base):
    """One POST of a sender, as it arrived. Written before the sender is answered."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("source", "delivery_key"),
        Index("ix_deliveries_waiting", "id", postgresql_where=text("state = 'stored'")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    source: Mapped[str]
    delivery_key: Mapped[str]
    received_at: Mapped[datetime]
    content_type: Mapped[str]
    headers: Mapped[Json] = mapped_column(default=dict)
    """Only the headers that carry meaning (ce-*), never credentials."""
    body: Mapped[bytes]
    state: Mapped[str] = mapped_column(default="stored")  # stored, folded, unreadable
    folded_at: Mapped[datetime | None]
    error: Mapped[str | None]


class Alert(Base):
    """One alert of a delivery, in our words. The same (source, fingerprint, starts_at, status) is a repeat."""

    __tablename__ = "alerts"
    __table_args__ = (
        UniqueConstraint("source", "fingerprint", "starts_at", "status"),
        Index("ix_alerts_incident", "incident_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    delivery_id: Mapped[int] = mapped_column(ForeignKey("deliveries.id"))
    incident_id: Mapped[str | None] = mapped_column(ForeignKey("incidents.id"))
    source: Mapped[str]
    fingerprint: Mapped[str]
    status: Mapped[str]  # firing, resolved
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime | None]
    labels: Mapped[Json]
    annotations: Mapped[Json]
    received_at: Mapped[datetime]
    seen: Mapped[int] = mapped_column(Integer, default=1)
    """How many deliveries carried it."""


class Incident(Base):
    """What we made of one or more alerts."""

    __tablename__ = "incidents"
    __table_args__ = (Index("ix_incidents_open", "state", "opened_at"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    agent: Mapped[str]
    state: Mapped[str]
    phase: Mapped[str]
    component: Mapped[str]
    """The dependency concerned, as kind:name, for example vector:primary; `unknown` until triage knows."""
    scope: Mapped[Json] = mapped_column(default=dict)
    """What exactly: {"target": "primary", "collections": ["kb"]}."""
    severity: Mapped[str | None]
    impact: Mapped[str | None]
    users: Mapped[str | None]
    runbook: Mapped[str | None]
    runbook_text: Mapped[str | None]
    """The exact YAML used, so that a later edit of the file does not rewrite history."""
    fault_at: Mapped[datetime | None]
    """When the trouble began, by the earliest alert."""
    opened_at: Mapped[datetime]
    contained_at: Mapped[datetime | None]
    recovered_at: Mapped[datetime | None]
    escalated_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    last_alert_at: Mapped[datetime | None]
    rto_deadline: Mapped[datetime | None]
    rto_s: Mapped[float | None]
    postmortem_key: Mapped[str | None]
    flow_run_id: Mapped[str | None]
    timeline_length: Mapped[int] = mapped_column(BigInteger, default=0)
    timeline_head: Mapped[str] = mapped_column(default="")


class IncidentFault(Base):
    """One fault of an incident, with why we believe it."""

    __tablename__ = "incident_faults"
    __table_args__ = (UniqueConstraint("incident_id", "fault", "component"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    incident_id: Mapped[str] = mapped_column(ForeignKey("incidents.id"))
    fault: Mapped[str]
    component: Mapped[str]
    confidence: Mapped[float]
    evidence: Mapped[list[Any]] = mapped_column(JSONB, default=list)
    found_at: Mapped[datetime]


class TimelineEntry(Base):
    """What happened. Rows are only ever added: the database refuses update, delete and truncate."""

    __tablename__ = "timeline"

    incident_id: Mapped[str] = mapped_column(ForeignKey("incidents.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[str]
    actor: Mapped[str]
    message: Mapped[str]
    data: Mapped[Json] = mapped_column(CanonicalJSON)
    prev_hash: Mapped[str]
    hash: Mapped[str]


class StepRecord(Base):
    """One action of one step of an incident, and how far it got."""

    __tablename__ = "steps"
    __table_args__ = (UniqueConstraint("incident_id", "phase", "step", "ordinal"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    incident_id: Mapped[str] = mapped_column(ForeignKey("incidents.id"))
    phase: Mapped[str]
    step: Mapped[str]
    ordinal: Mapped[int] = mapped_column(Integer)
    action: Mapped[str]
    params: Mapped[Json] = mapped_column(default=dict)
    state: Mapped[str]  # running, done, skipped, failed, undone
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    progress: Mapped[Json] = mapped_column(default=dict)
    """What a resumed run must know, written before each thing that cannot be done twice."""
    evidence: Mapped[Json] = mapped_column(default=dict)
    error: Mapped[str | None]


class Hold(Base):
    """One cause's claim on a switch. The effective value comes from all that are not lifted."""

    __tablename__ = "holds"
    __table_args__ = (
        Index(
            "uq_holds_open",
            "cause",
            "switch",
            "scope",
            unique=True,
            postgresql_where=text("lifted_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    incident_id: Mapped[str | None] = mapped_column(ForeignKey("incidents.id"))
    cause: Mapped[str]
    """The incident's id, or who placed it by hand."""
    switch: Mapped[str]
    scope: Mapped[str]
    value: Mapped[Any] = mapped_column(JSONB)
    reason: Mapped[str]
    placed_at: Mapped[datetime]
    lifted_at: Mapped[datetime | None]


class SwitchLedger(Base):
    """One row: which ledger this is, and the number of its newest change."""

    __tablename__ = "switch_ledger"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    ledger: Mapped[str]
    started_at: Mapped[datetime]
    seq: Mapped[int] = mapped_column(BigInteger)
    changed_at: Mapped[datetime]


class Gateway(Base):
    """A gateway that has asked for its switches."""

    __tablename__ = "gateways"

    name: Mapped[str] = mapped_column(primary_key=True)
    control_url: Mapped[str]
    last_seen_at: Mapped[datetime]
    acked_seq: Mapped[int] = mapped_column(BigInteger, default=0)
    acked_at: Mapped[datetime | None]
    error: Mapped[str | None]


class Backup(Base):
    """A backup as the record knows it; the manifest in the blob store is the truth about its bytes."""

    __tablename__ = "backups"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="vector")
    subject: Mapped[str]
    """The collection."""
    target: Mapped[str]
    state: Mapped[str]  # running, published, failed
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    repository: Mapped[str | None]
    base_id: Mapped[str | None]
    """Of one that holds changes only: the full backup that it builds on."""
    recovery_point: Mapped[str | None]
    manifest_key: Mapped[str | None]
    manifest_sha256: Mapped[str | None]
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    exact_count: Mapped[int | None] = mapped_column(BigInteger)
    trigger: Mapped[str]
    error: Mapped[str | None]


class Proof(Base):
    """One attempt to prove a backup. The signed evidence itself lies beside the backup."""

    __tablename__ = "proofs"
    __table_args__ = (Index("ix_proofs_backup", "backup_id", "started_at"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    repository: Mapped[str]
    backup_id: Mapped[str]
    kind: Mapped[str]
    subject: Mapped[str]
    target: Mapped[str]
    """Where it was restored to."""
    trigger: Mapped[str]
    state: Mapped[str]  # running, passed, failed (the backup is not right), error (nothing is known)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    took_s: Mapped[float | None]
    checks: Mapped[list[Any]] = mapped_column(JSONB, default=list)
    error: Mapped[str | None]


class PartRead(Base):
    """When a stored part was last read again, whole, and what came of it."""

    __tablename__ = "part_reads"

    repository: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    read_at: Mapped[datetime]
    ok: Mapped[bool]
    found: Mapped[str | None]


class Slot(Base):
    """One time at which a schedule was due, and who took it: whoever inserts the row runs it, and nobody else."""

    __tablename__ = "slots"

    schedule: Mapped[str] = mapped_column(primary_key=True)
    due_at: Mapped[datetime] = mapped_column(primary_key=True)
    claimed_at: Mapped[datetime]
    lease_until: Mapped[datetime]
    """The owner puts it off for as long as it lives."""
    owner: Mapped[str]
    attempts: Mapped[int] = mapped_column(Integer)
    state: Mapped[str]  # running, done, failed
    ended_at: Mapped[datetime | None]
    error: Mapped[str | None]


class Restore(Base):
    """One restore, of whatever kind, and how long it took: the next plan tells."""

    __tablename__ = "restores"
    __table_args__ = (Index("ix_restores_subject", "kind", "subject", "started_at"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    kind: Mapped[str]
    subject: Mapped[str]
    repository: Mapped[str | None]
    backup_id: Mapped[str]
    target: Mapped[str]
    new_name: Mapped[str]
    trigger: Mapped[str] = mapped_column(default="command")
    """Who asked: command, or incident:ID."""
    state: Mapped[str]  # running, done, failed, undone
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    took_s: Mapped[float | None]
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    error: Mapped[str | None]
    switch: Mapped[Json | None]
    """Where the aliases pointed before and point after: what an undo needs."""
    report: Mapped[Json | None]
    """Writes that the backup lacks, and what became of them."""
    keep_until: Mapped[datetime | None]
    """As long at least what was live before is kept."""
    doomed_at: Mapped[datetime | None]
    """When it was first announced that what was live before goes; it goes at a later look."""
    removed_at: Mapped[datetime | None]
    """When what was live before was removed."""


class Outbox(Base):
    """Something to be done outside the database, written in the transaction that decided it."""

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("kind", "key"),
        Index("ix_outbox_waiting", "kind", "due_at", postgresql_where=text("done_at IS NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    kind: Mapped[str]  # start_flow, respond_directly, record_flow, notify
    key: Mapped[str]
    incident_id: Mapped[str | None] = mapped_column(ForeignKey("incidents.id"))
    payload: Mapped[Json] = mapped_column(default=dict)
    created_at: Mapped[datetime]
    due_at: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    done_at: Mapped[datetime | None]
    error: Mapped[str | None]


class QuotaAccount(Base):
    """One meter of one quota in one window, with all leases of it: they change together, or not at all."""

    __tablename__ = "quota_accounts"
    __table_args__ = (Index("ix_quota_accounts_ends", "ends_at"),)

    quota: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    """Empty where tenants share the quota."""
    meter: Mapped[str] = mapped_column(primary_key=True)  # tokens, requests, money (in billionths)
    pot: Mapped[str] = mapped_column(primary_key=True)  # normal, reserve
    starts_at: Mapped[datetime] = mapped_column(primary_key=True)
    ends_at: Mapped[datetime]
    version: Mapped[int] = mapped_column(BigInteger)
    """One more at each change; a writer names the one that it has read."""
    limit_amount: Mapped[int] = mapped_column(BigInteger)
    """By the settings of the gateway that asked last."""
    extra: Mapped[int] = mapped_column(BigInteger, default=0)
    """Granted on top, for this window."""
    spent: Mapped[int] = mapped_column(BigInteger, default=0)
    held: Mapped[int] = mapped_column(BigInteger, default=0)
    """Lent, and not used as far as is known."""
    settled: Mapped[int] = mapped_column(BigInteger, default=0)
    """Of `spent`, what leases have used that are not listed any more."""
    refused_at: Mapped[datetime | None]
    """When a call was last refused for lack of it."""
    leases: Mapped[Json] = mapped_column(default=dict)
    """gateway/book → [granted, drawn, spent, seq, until]."""
    terms: Mapped[Json] = mapped_column(default=dict)
    changed_at: Mapped[datetime]


class QuotaGrant(Base):
    """More for one window, or the reserve opened for a time, by somebody for a reason."""

    __tablename__ = "quota_grants"
    __table_args__ = (Index("ix_quota_grants_open", "quota", postgresql_where=text("revoked_at IS NULL")),)

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]  # grant, break_glass
    quota: Mapped[str]
    tenant: Mapped[str]
    meter: Mapped[str | None]
    amount: Mapped[int | None] = mapped_column(BigInteger)
    who: Mapped[str]
    why: Mapped[str]
    created_at: Mapped[datetime]
    starts_at: Mapped[datetime | None]
    """Of a grant: the window that it is for."""
    until: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    revoked_by: Mapped[str | None]


class QuotaAlert(Base):
    """A threshold that was crossed: one alert each, however many processes look."""

    __tablename__ = "quota_alerts"

    quota: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(primary_key=True)
    meter: Mapped[str] = mapped_column(primary_key=True)
    starts_at: Mapped[datetime] = mapped_column(primary_key=True)
    threshold: Mapped[float] = mapped_column(primary_key=True)
    limit_amount: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    """A limit that was raised can be used up anew."""
    ends_at: Mapped[datetime]
    raised_at: Mapped[datetime]
    labels: Mapped[Json]
    annotations: Mapped[Json]
    resolved_at: Mapped[datetime | None]


class QuotaEvent(Base):
    """What people, and recoveries, did about quotas. Rows are only ever added."""

    __tablename__ = "quota_events"
    __table_args__ = (Index("ix_quota_events_quota", "quota", "at"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[str]  # granted, revoked, glass_broken, glass_mended, pass_issued, reserve_lent
    quota: Mapped[str]
    tenant: Mapped[str]
    actor: Mapped[str]
    why: Mapped[str]
    incident_id: Mapped[str | None]
    data: Mapped[Json] = mapped_column(default=dict)
