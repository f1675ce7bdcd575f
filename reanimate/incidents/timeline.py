"""The timeline of an incident: only ever added to, each entry sealed by the hash of the one before it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.clock import ensure_utc
from reanimate.db.tables import Incident, TimelineEntry, canonical_json
from reanimate.errors import NotFound

__all__ = ["ChainReport", "append", "check_chain", "entries", "entry_hash", "verify"]


def entry_hash(
    *,
    incident_id: str,
    seq: int,
    at: datetime,
    kind: str,
    actor: str,
    message: str,
    data: dict[str, Any],
    prev_hash: str,
) -> str:
    """Return the seal of one entry: SHA-256 in hex over its canonical JSON, the seal before it included."""
    sealed = {
        "incident_id": incident_id,
        "seq": seq,
        "at": ensure_utc(at).isoformat(timespec="microseconds"),
        "kind": kind,
        "actor": actor,
        "message": message,
        "data": data,
        "prev_hash": prev_hash,
    }
    return hashlib.sha256(canonical_json(sealed).encode()).hexdigest()


async def append(
    session: AsyncSession,
    incident_id: str,
    kind: str,
    message: str,
    *,
    actor: str,
    now: datetime,
    data: dict[str, Any] | None = None,
) -> int:
    """Add one entry in the caller's transaction and return its number, counted from 1.

    The incident's row is locked until that transaction ends, so that entries are numbered without gaps.

    Raises:
        NotFound: there is no such incident.
    """
    await session.flush()
    # FOR NO KEY UPDATE: rows that refer to the incident share its key, and two writers that both hold such a share
    # would wait for each other's for ever under a full FOR UPDATE.
    locked = await session.execute(
        select(Incident.timeline_length, Incident.timeline_head)
        .where(Incident.id == incident_id)
        .with_for_update(key_share=True)
    )
    row = locked.one_or_none()
    if row is None:
        raise NotFound(f"there is no incident {incident_id}", hint="`reanimate incident list` shows those there are")
    seq, head = row.timeline_length + 1, row.timeline_head
    content = data or {}
    seal = entry_hash(
        incident_id=incident_id,
        seq=seq,
        at=now,
        kind=kind,
        actor=actor,
        message=message,
        data=content,
        prev_hash=head,
    )
    await session.execute(
        insert(TimelineEntry).values(
            incident_id=incident_id,
            seq=seq,
            at=now,
            kind=kind,
            actor=actor,
            message=message,
            data=content,
            prev_hash=head,
            hash=seal,
        )
    )
    await session.execute(
        update(Incident)
        .where(Incident.id == incident_id)
        .values(timeline_length=seq, timeline_head=seal)
        .execution_options(synchronize_session=False)
    )
    return int(seq)


async def entries(session: AsyncSession, incident_id: str) -> Sequence[TimelineEntry]:
    """Return all entries of an incident, oldest first."""
    found = await session.scalars(
        select(TimelineEntry).where(TimelineEntry.incident_id == incident_id).order_by(TimelineEntry.seq)
    )
    return found.all()


@dataclass(frozen=True)
class ChainReport:
    """Whether a timeline is as it was written."""

    ok: bool
    length: int
    first_bad: int | None
    detail: str


def check_chain(found: Sequence[TimelineEntry], length: int, head: str) -> ChainReport:
    """Recompute the chain of `found` and hold it against the `length` and `head` that the incident's row remembers."""
    seal = ""
    for number, entry in enumerate(found, start=1):
        if entry.seq != number:
            return ChainReport(False, len(found), number, f"entry {number} is missing: the next one is {entry.seq}")
        expected = entry_hash(
            incident_id=entry.incident_id,
            seq=entry.seq,
            at=entry.at,
            kind=entry.kind,
            actor=entry.actor,
            message=entry.message,
            data=entry.data,
            prev_hash=seal,
        )
        if entry.hash != expected or entry.prev_hash != seal:
            return ChainReport(False, len(found), number, f"entry {number} is not what was written")
        seal = entry.hash
    if len(found) != length or seal != head:
        return ChainReport(
            False, len(found), len(found) + 1, f"{length} entries were written, {len(found)} are there: the end was cut"
        )
    return ChainReport(True, length, None, f"all {length} entries are as they were written")


async def verify(session: AsyncSession, incident_id: str) -> ChainReport:
    """Recompute the hash chain of an incident's timeline.

    Raises:
        NotFound: there is no such incident.
    """
    row = (
        await session.execute(
            select(Incident.timeline_length, Incident.timeline_head).where(Incident.id == incident_id)
        )
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no incident {incident_id}")
    return check_chain(await entries(session, incident_id), row.timeline_length, row.timeline_head)
