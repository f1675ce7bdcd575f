"""Proofs kept: as a signed mark beside the backup, which every machine sees, and as a row of the record."""

from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import Manifest
from reanimate.backups.marks import Mark, What, write_mark
from reanimate.backups.published import Published
from reanimate.clock import ensure_utc
from reanimate.db.tables import Proof as Row
from reanimate.proofs.proof import Proof

__all__ = ["ended", "mark_backup", "proofs_of", "started"]


async def mark_backup(catalog: Catalog, backup: Published[Manifest], proof: Proof) -> Mark | None:
    """Put the evidence beside the backup; None when the proof tells nothing about it.

    Raises:
        Unreachable: the store could not be written.
    """
    if proof.outcome == "error":
        return None
    what: What = "proof-passed" if proof.outcome == "passed" else "proof-failed"
    content = {"by": proof.trigger, "manifest_sha256": backup.sha256, **proof.to_json()}
    return await write_mark(catalog.store, backup.folder, what, content, catalog.keyring, now=proof.ended_at)


async def started(
    session: AsyncSession,
    proof_id: str,
    backup: Published[Manifest],
    *,
    repository: str,
    target: str,
    trigger: str,
    now: datetime,
) -> None:
    """Record that a proof begins. One of the same backup that never ended was cut."""
    manifest = backup.manifest
    cut = update(Row).where(Row.backup_id == manifest.id, Row.repository == repository, Row.state == "running")
    await session.execute(cut.values(state="error", ended_at=ensure_utc(now), error="its process ended before it"))
    session.add(
        Row(
            id=proof_id,
            repository=repository,
            backup_id=manifest.id,
            kind=manifest.kind,
            subject=manifest.subject,
            target=target,
            trigger=trigger,
            state="running",
            started_at=ensure_utc(now),
            checks=[],
        )
    )
    await session.flush()


async def ended(session: AsyncSession, proof: Proof) -> None:
    """Record how a proof ended, also when its beginning could not be recorded."""
    evidence = proof.to_json()
    await session.merge(
        Row(
            id=proof.id,
            repository=proof.repository,
            backup_id=proof.backup_id,
            kind=proof.kind,
            subject=proof.subject,
            target=proof.target,
            trigger=proof.trigger,
            state=proof.outcome,
            started_at=proof.started_at,
            ended_at=proof.ended_at,
            expires_at=proof.expires_at,
            took_s=proof.took_s,
            checks=evidence["checks"],
            error=proof.error,
        )
    )
    await session.flush()


async def proofs_of(session: AsyncSession, backup_id: str) -> list[dict[str, Any]]:
    """Return what the record knows of the proofs of a backup, newest first."""
    rows = await session.scalars(select(Row).where(Row.backup_id == backup_id).order_by(Row.started_at.desc()))
    return [{column.name: getattr(row, column.name) for column in Row.__table__.columns} for row in rows]
