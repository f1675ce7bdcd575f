"""Figures about backups and proofs for a scrape: from the record alone, so that no repository is asked each time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.config import Settings
from reanimate.db.tables import Backup, Proof
from reanimate.protection.overview import objective_s
from reanimate.protection.points import thing_of

__all__ = ["ProtectionFigures", "protection_figures", "summed_up"]


@dataclass(frozen=True)
class ProtectionFigures:
    """What is known of one thing that has been backed up. Ages are of the data: they count from when it was read."""

    kind: str
    subject: str
    age_s: float
    took_s: float | None
    size_bytes: int | None
    late: int | None
    """1 or 0; None where there is a backup only when something changes."""
    proof_age_s: float | None = None
    proof_took_s: float | None = None
    refuted: int | None = None
    """1 when the newest proof found its backup wrong, 0 when it passed, None when there was none."""


async def protection_figures(
    session: AsyncSession, settings: Settings, *, now: datetime
) -> Sequence[ProtectionFigures]:
    """Return the figures of everything that the record knows a published backup of."""
    backups = select(Backup).where(Backup.state == "published")
    backups = backups.distinct(Backup.kind, Backup.subject).order_by(
        Backup.kind, Backup.subject, Backup.started_at.desc()
    )
    proofs = select(Proof).where(Proof.state.in_(("passed", "failed")))
    proofs = proofs.distinct(Proof.kind, Proof.subject, Proof.state).order_by(
        Proof.kind, Proof.subject, Proof.state, Proof.started_at.desc()
    )
    return summed_up((await session.scalars(backups)).all(), (await session.scalars(proofs)).all(), settings, now=now)


def summed_up(
    backups: Iterable[Backup], proofs: Iterable[Proof], settings: Settings, *, now: datetime
) -> tuple[ProtectionFigures, ...]:
    """Take the newest of each thing: a collection stays the same thing when a restore gives it another name."""
    newest: dict[tuple[str, str], Backup] = {}
    for backup in sorted(backups, key=lambda row: row.started_at):
        newest[backup.kind, thing_of(backup.kind, backup.subject)] = backup
    found = {thing: _of(thing, backup, objective_s(thing[0], settings), now) for thing, backup in newest.items()}
    for proof in sorted(proofs, key=lambda row: row.started_at):
        thing = (proof.kind, thing_of(proof.kind, proof.subject))
        if thing not in found:
            continue
        if proof.state == "failed":
            found[thing] = replace(found[thing], refuted=1)
        else:
            age_s = (now - (proof.ended_at or proof.started_at)).total_seconds()
            found[thing] = replace(found[thing], refuted=0, proof_age_s=age_s, proof_took_s=proof.took_s)
    return tuple(found[thing] for thing in sorted(found))


def _of(thing: tuple[str, str], backup: Backup, objective: float | None, now: datetime) -> ProtectionFigures:
    age_s = (now - backup.started_at).total_seconds()
    return ProtectionFigures(
        kind=thing[0],
        subject=thing[1],
        age_s=age_s,
        took_s=(backup.ended_at - backup.started_at).total_seconds() if backup.ended_at else None,
        size_bytes=backup.size_bytes,
        late=None if objective is None else int(age_s > objective),
    )
