"""Restores in the record: one row each, from the moment it begins. It says how long the next one will take, what can
be undone, and how long what was live before is kept."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.backups.manifest import Kind, VectorManifest, base_name
from reanimate.clock import ensure_utc
from reanimate.db.tables import Restore
from reanimate.errors import NotFound
from reanimate.restores.aliases import AliasSwitch
from reanimate.restores.outlook import Earlier, whole_bytes

__all__ = ["earlier", "failed", "finished", "last_switch", "rows_of", "started", "switching", "undone"]

_LAST = 50
"""So many earlier restores tell how fast they go."""


async def started(
    session: AsyncSession,
    manifest: VectorManifest,
    *,
    repository: str,
    target: str,
    new_name: str,
    trigger: str,
    now: datetime,
) -> int:
    """Record that a restore begins, and return the row's id; one that is begun again under its name keeps its row."""
    found = await session.scalar(
        select(Restore).where(Restore.target == target, Restore.new_name == new_name).order_by(Restore.id.desc())
    )
    row = found or Restore(kind="vector", target=target, new_name=new_name)
    row.subject = base_name(manifest.collection)
    row.repository, row.backup_id, row.trigger = repository, manifest.id, trigger
    row.state, row.error, row.ended_at, row.took_s = "running", None, None, None
    row.started_at = ensure_utc(now)
    row.size_bytes = whole_bytes(manifest)
    if found is None:
        session.add(row)
    await session.flush()
    return row.id


async def switching(session: AsyncSession, row_id: int, switch: AliasSwitch) -> None:
    """Record where the aliases point before they are moved: afterwards nobody could say."""
    await session.execute(update(Restore).where(Restore.id == row_id).values(switch=switch.to_json()))


async def finished(
    session: AsyncSession,
    row_id: int,
    *,
    took_s: float,
    keep_until: datetime,
    report: dict[str, Any] | None = None,
    now: datetime,
) -> None:
    """Record that it is live. `took_s` is what it took by itself, without what it waited for."""
    values = {"state": "done", "ended_at": ensure_utc(now), "took_s": took_s, "report": report}
    await session.execute(
        update(Restore).where(Restore.id == row_id).values(**values, keep_until=ensure_utc(keep_until), error=None)
    )


async def failed(session: AsyncSession, row_id: int, error: BaseException, *, now: datetime) -> None:
    """Record that it came to nothing, and why."""
    said = str(error) or type(error).__name__
    await session.execute(
        update(Restore)
        .where(Restore.id == row_id, Restore.state == "running")
        .values(state="failed", ended_at=ensure_utc(now), error=said)
    )


async def undone(session: AsyncSession, target: str, new_name: str, *, now: datetime) -> None:
    """Record that its switch was put back."""
    await session.execute(
        update(Restore)
        .where(Restore.target == target, Restore.new_name == new_name, Restore.state.in_(("done", "running")))
        .values(state="undone", ended_at=ensure_utc(now))
    )


async def rows_of(session: AsyncSession, target: str, kind: Kind = "vector") -> Sequence[Restore]:
    """Return every restore to a target, oldest first."""
    rows = select(Restore).where(Restore.target == target, Restore.kind == kind).order_by(Restore.started_at)
    return (await session.scalars(rows)).all()


async def earlier(session: AsyncSession, target: str, kind: Kind = "vector") -> list[Earlier]:
    """Return the last restores to a target that ended well: how long they took."""
    rows = await session.scalars(
        select(Restore)
        .where(Restore.kind == kind, Restore.target == target, Restore.took_s.is_not(None))
        .order_by(Restore.ended_at.desc())
        .limit(_LAST)
    )
    return [
        Earlier(row.subject, row.ended_at, row.took_s, row.size_bytes or 0)
        for row in rows
        if row.ended_at is not None and row.took_s is not None
    ]


async def last_switch(session: AsyncSession, collection: str, target: str) -> Restore:
    """Return the newest restore of a collection or alias on a target that moved aliases and was not undone.

    Raises:
        NotFound: there is none.
    """
    rows = await session.scalars(
        select(Restore)
        .where(Restore.target == target, Restore.switch.is_not(None), Restore.state.in_(("done", "running")))
        .order_by(Restore.started_at.desc())
    )
    for row in rows:
        names = (row.subject, row.new_name, *(row.switch or {}).get("after", {}))
        if collection in names or base_name(collection) == row.subject:
            return row
    raise NotFound(f"no restore of {collection!r} on {target} is on record that has moved aliases")
