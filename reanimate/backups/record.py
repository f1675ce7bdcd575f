"""Backups in the record: one row each, from the moment it begins. The manifest in the store stays the truth."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.backups.catalog import MANIFEST, backup_prefix
from reanimate.backups.manifest import Manifest
from reanimate.clock import ensure_utc
from reanimate.db.tables import Backup
from reanimate.errors import NotFound

__all__ = ["failed", "published", "started"]


async def started(
    session: AsyncSession, backup_id: str, *, subject: str, target: str, trigger: str, now: datetime
) -> None:
    """Record that a backup begins. `subject` is what was asked for, `trigger` who asked: schedule, cli, flow."""
    session.add(
        Backup(
            id=backup_id,
            subject=subject,
            target=target,
            state="running",
            started_at=ensure_utc(now),
            trigger=trigger,
        )
    )
    await session.flush()


async def published(session: AsyncSession, manifest: Manifest, *, now: datetime) -> None:
    """Record that it is in the store and complete.

    Raises:
        NotFound: `started` was never recorded.
    """
    row = await _row(session, manifest.id)
    row.state = "published"
    row.subject = manifest.collection
    row.ended_at = ensure_utc(now)
    row.manifest_key = f"{backup_prefix(manifest.collection, manifest.id)}/{MANIFEST}"
    row.manifest_sha256 = manifest.sha256
    row.size_bytes = manifest.size_bytes
    row.exact_count = manifest.exact_count
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
