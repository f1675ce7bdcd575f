"""Backups in the record: one row each, from the moment it begins. The manifest in the store stays the truth."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.backups.catalog import Published
from reanimate.backups.manifest import Kind, Manifest
from reanimate.clock import ensure_utc
from reanimate.db.tables import Backup
from reanimate.errors import NotFound

__all__ = ["failed", "published", "started"]


async def started(
    session: AsyncSession,
    backup_id: str,
    *,
    subject: str,
    target: str,
    trigger: str,
    now: datetime,
    kind: Kind = "vector",
) -> None:
    """Record that a backup begins. `subject` is what was asked for, `trigger` who asked: schedule, cli, flow."""
    session.add(
        Backup(
            id=backup_id,
            kind=kind,
            subject=subject,
            target=target,
            state="running",
            started_at=ensure_utc(now),
            trigger=trigger,
        )
    )
    await session.flush()


async def published(session: AsyncSession, backup: Published[Manifest], *, repository: str, now: datetime) -> None:
    """Record that it is in the store and complete.

    Raises:
        NotFound: `started` was never recorded.
    """
    manifest = backup.manifest
    row = await _row(session, manifest.id)
    row.state = "published"
    row.subject = manifest.subject
    row.ended_at = ensure_utc(now)
    row.repository = repository
    row.base_id = manifest.base
    row.recovery_point = manifest.recovery_point
    row.manifest_key = backup.key
    row.manifest_sha256 = backup.sha256
    row.size_bytes = manifest.size_bytes
    row.exact_count = getattr(manifest, "exact_count", None)
    row.error = None
    await session.flush()


async def failed(session: AsyncSession, backup_id: str, error: BaseException, *, now: datetime) -> None:
    """Record that it came to nothing, and why.

    Raises:
        NotFound: `started` was never recorded.
    """
    row = await _row(session, backup_id)
    row.state = "failed"
    row.ended_at = ensure_utc(now)
    row.error = str(error) or type(error).__name__
    await session.flush()


async def _row(session: AsyncSession, backup_id: str) -> Backup:
    row = await session.get(Backup, backup_id)
    if row is None:
        raise NotFound(f"the record has no backup {backup_id!r}")
    return row
