"""Eight weeks of backups of a collection, for tests of what people see: proven, unproven, refuted, pinned, deleted."""

from datetime import datetime, timedelta
from typing import Any

from manifests import manifest
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.backups.catalog import Catalog, backup_prefix
from reanimate.backups.deletion import mark_deleted
from reanimate.backups.marks import What, write_mark
from reanimate.backups.published import Published
from reanimate.db.tables import Backup, Proof

__all__ = ["failed_night", "publish_weeks", "put", "removed_backup"]

_MB = 1_000_000


async def put(
    catalog: Catalog, collection: str, taken_at: datetime, *marks: What, size: int = 180 * _MB, **changes: Any
) -> Published[Any]:
    """Publish a backup without bytes, taken then, and mark it an hour later."""
    backup_id = f"{taken_at:%Y%m%dT%H%M%SZ}-{collection}-{taken_at.minute:04x}"
    folder = backup_prefix(collection, backup_id)
    part = {"shard_id": 0, "blob": f"{folder}/shard-0.snapshot", "size": size, "sha256": "00" * 32}
    names = {"id": backup_id, "collection": collection, "subject": collection, "asked_as": collection}
    one = await catalog.publish(manifest(**{**names, "taken_at": taken_at, "parts": [part], **changes}))
    for what in marks:
        content = {"backup": backup_id, "by": "test", "reason": "a test"}
        await write_mark(catalog.store, folder, what, content, catalog.keyring, now=taken_at + timedelta(hours=1))
    return one


async def publish_weeks(catalog: Catalog, now: datetime, *, collection: str = "kb", weeks: int = 8) -> None:
    """Publish one full backup a night, most of them proven, and changes since the last one today."""
    night = now.replace(hour=2, minute=0, second=0, microsecond=0)
    nights = [night - timedelta(days=ago) for ago in range(7 * weeks, -1, -1) if night - timedelta(days=ago) < now]
    for number, taken_at in enumerate(nights):
        ago = len(nights) - 1 - number
        if ago in (30, 31):
            continue  # the machine was off
        marks: list[What] = ["proof-failed"] if ago == 17 else [] if ago in (3, 24) else ["proof-passed"]
        if ago == 9:
            marks.append("pinned")
        if ago == 40:
            marks.append("held")
        one = await put(
            catalog,
            collection,
            taken_at,
            *marks,
            size=(150 + number) * _MB,
            exact_count=90_000 + 200 * number,
            aliases=["knowledge"],
        )
        if ago == 45:
            await mark_deleted(catalog, one.folder, by="test", reason="a test", until=now + timedelta(days=2), now=now)
    for minutes in (40, 20):
        changes = {"base": one.manifest.id, "exact_count": 101_300 - minutes, "aliases": ["knowledge"]}
        await put(catalog, collection, now - timedelta(minutes=minutes), size=400_000, **changes)


def failed_night(session: AsyncSession, night: datetime, collection: str = "kb") -> None:
    """Record a backup that came to nothing."""
    session.add(
        Backup(
            id=f"{night:%Y%m%dT%H%M%SZ}-{collection}-dead",
            kind="vector",
            subject=collection,
            target="primary",
            state="failed",
            started_at=night,
            ended_at=night + timedelta(seconds=3),
            trigger="schedule",
            error="the server did not answer",
        )
    )


def removed_backup(session: AsyncSession, night: datetime, collection: str = "kb") -> None:
    """Record a backup that was proven, and that retention has removed since."""
    backup_id = f"{night:%Y%m%dT%H%M%SZ}-{collection}-gone"
    session.add(
        Backup(
            id=backup_id,
            kind="vector",
            subject=collection,
            target="primary",
            state="published",
            started_at=night,
            ended_at=night + timedelta(seconds=4),
            size_bytes=150 * _MB,
            exact_count=90_000,
            trigger="schedule",
        )
    )
    session.add(
        Proof(
            id=f"proof-{backup_id}",
            repository="local",
            backup_id=backup_id,
            kind="vector",
            subject=collection,
            target="scratch",
            trigger="schedule",
            state="passed",
            started_at=night + timedelta(minutes=10),
            ended_at=night + timedelta(minutes=10, seconds=3),
            took_s=3.0,
        )
    )
