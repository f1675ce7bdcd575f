"""Which backups are to be proven tonight, and why: a pure rule; chance and time are passed in."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reanimate.backups.manifest import Manifest, base_name
from reanimate.backups.published import Published

__all__ = ["Due", "due_proofs"]

_KINDS = ("vector", "postgres")
"""Configuration is small files kept by their hashes; reading them again is all the proof there is."""
_CAUGHT_UP = timedelta(days=8)
"""A week of missed nights is caught up; what is older than that waits for the weekly draw."""
_OLDER = timedelta(hours=36)
"""A backup this old has had its own night."""
_WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Due:
    """A backup to prove, and why."""

    backup: Published[Manifest]
    why: str


def due_proofs(
    published: Iterable[Published[Manifest]],
    *,
    now: datetime,
    valid_for: timedelta,
    draw: float,
    copies: bool = False,
) -> list[Due]:
    """Return what to prove, newest first.

    Every full backup of the last week that was never proven; of those with changes only, the newest of each subject,
    which stands on its full one; the newest of each subject when its proof has expired; and once a week an older one,
    which `draw`, in [0, 1), picks. What was found wrong is not tried again by itself.

    Of `copies`, which what was proven of their originals holds for, only the weekly one: it tries the way back from
    where they are, which may be far and charged by the byte.
    """
    kept = [one for one in published if one.manifest.kind in _KINDS and not one.deleted]
    kept.sort(key=lambda one: (one.manifest.taken_at, one.manifest.id), reverse=True)
    due: dict[str, Due] = {}
    for group in _by_subject(kept) if not copies else ():
        for one, why in _of_subject(group, now, valid_for):
            due.setdefault(one.key, Due(one, why))
    if (older := _weekly(kept, due.keys(), now, draw)) is not None:
        due[older.key] = Due(older, "an older one, drawn for this week")
    return sorted(due.values(), key=lambda one: one.backup.manifest.taken_at, reverse=True)


def _by_subject(kept: Sequence[Published[Manifest]]) -> list[list[Published[Manifest]]]:
    groups: dict[tuple[str, str], list[Published[Manifest]]] = {}
    for one in kept:
        groups.setdefault((one.manifest.kind, base_name(one.manifest.subject)), []).append(one)
    return list(groups.values())


def _of_subject(
    group: Sequence[Published[Manifest]], now: datetime, valid_for: timedelta
) -> Iterable[tuple[Published[Manifest], str]]:
    """Yield what is due of one subject, whose backups come newest first."""
    full = [one for one in group if one.manifest.base is None]
    changes = [one for one in group if one.manifest.base is not None]
    for at, one in enumerate(full):
        if one.last_proof is None and (at == 0 or now - one.manifest.taken_at <= _CAUGHT_UP):
            yield one, "never proven"
    if changes and changes[0].last_proof is None:
        yield changes[0], "the newest with changes only, never proven"
    for newest in (*full[:1], *changes[:1]):
        if newest.proven_at is not None and now - newest.proven_at > valid_for:
            yield newest, f"its proof of {newest.proven_at:%Y-%m-%d} has expired"


def _weekly(
    kept: Sequence[Published[Manifest]], due: Iterable[str], now: datetime, draw: float
) -> Published[Manifest] | None:
    """Return the older backup of this week, or None when this week had one or there is none."""
    older = [one for one in kept if now - one.manifest.taken_at > _OLDER]
    for one in older:
        proof = one.last_proof
        if proof is not None and now - proof.at < _WEEK and proof.at - one.manifest.taken_at > _OLDER:
            return None
    taken = set(due)
    candidates = [
        one
        for one in older
        if one.key not in taken
        and (one.last_proof is None or (one.proven_at is not None and now - one.proven_at >= _WEEK))
    ]
    return candidates[int(draw * len(candidates))] if candidates else None
