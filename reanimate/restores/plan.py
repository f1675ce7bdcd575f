"""Which backup to restore, and why: a pure decision that explains itself before anything is touched."""

import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from reanimate.backups.catalog import DamagedBackup
from reanimate.backups.manifest import Server, VectorManifest, base_name, restore_name
from reanimate.errors import NotFound, Refused
from reanimate.vector.server import ServerIdentity

__all__ = ["Candidate", "RestorePlan", "plan_restore", "version_problem"]


@dataclass(frozen=True)
class Candidate:
    """A backup that is not the one, and why not."""

    id: str
    taken_at: str | None
    points: int | None
    reason: str


@dataclass(frozen=True)
class RestorePlan:
    """What a restore would do. Ages in seconds, sizes in bytes."""

    backup_id: str
    why: str
    collection: str
    aliases: tuple[str, ...]
    target: str
    new_name: str
    taken_at: datetime
    age_s: float
    points: int
    size_bytes: int
    shards: int
    made_by: str
    server: str
    lost: str
    writes_since: int | None
    warnings: tuple[str, ...]
    others: tuple[Candidate, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {**asdict(self), "taken_at": self.taken_at.isoformat()}


def plan_restore(
    manifests: Sequence[VectorManifest],
    *,
    collection: str,
    target: str,
    server: ServerIdentity,
    now: datetime,
    backup_id: str | None = None,
    at: datetime | None = None,
    damaged: Sequence[DamagedBackup] = (),
    live_count: int | None = None,
    existing: Collection[str] = (),
    totals: dict[str, int] | None = None,
) -> RestorePlan:
    """Choose among the manifests (newest first) of a collection or alias.

    By default the newest that this server can load and that holds points; with `at`, the newest taken until then; with
    `backup_id`, that one. `live_count`, `existing` (collections on the target) and `totals` (writes acknowledged by
    gateways until now) make the plan say more, and change nothing about the choice.

    Raises:
        NotFound: there is none to choose from; the message says why each one is not.
        Refused: the backup asked for by id cannot be loaded by this server.
    """
    others = [Candidate(entry.id, None, None, entry.reason) for entry in damaged]
    chosen: VectorManifest | None = None
    for manifest in manifests:
        reason = _why_not(manifest, manifests, server, backup_id, at)
        if reason is None and chosen is None:
            chosen = manifest
        else:
            others.append(_candidate(manifest, reason or "an earlier one; a newer is chosen"))
    if chosen is None:
        raise _nothing(collection, backup_id, manifests, server, others)
    return RestorePlan(
        backup_id=chosen.id,
        why=_why(chosen, backup_id, at),
        collection=chosen.collection,
        aliases=tuple(chosen.aliases),
        target=target,
        new_name=restore_name(chosen.collection, now),
        taken_at=chosen.taken_at,
        age_s=round((now - chosen.taken_at).total_seconds(), 1),
        points=chosen.exact_count,
        size_bytes=chosen.size_bytes,
        shards=len(chosen.parts),
        made_by=_named(chosen.server),
        server=f"{server.title} {server.version}",
        lost=_lost(chosen, now, live_count),
        writes_since=_writes_since(chosen, totals),
        warnings=tuple(_warnings(chosen, existing)),
        others=tuple(others),
    )


def version_problem(made_by: Server, server: ServerIdentity) -> str | None:
    """Say why a snapshot made by one version cannot be loaded by another, or None.

    The rule is the vendor's: the same minor version or the next one. Nothing in a snapshot says so; its server would
    try, and fail halfway.
    """
    source, target = _minor(made_by.version), _minor(server.version)
    if source is None or target is None:
        return f"the versions {made_by.version!r} and {server.version!r} cannot be compared"
    if source[0] == target[0] and source[1] <= target[1] <= source[1] + 1:
        return None
    return (
        f"made by version {made_by.version}, and this server is {server.version}: "
        "only the same minor version or the next one can load it"
    )


def _minor(version: str) -> tuple[int, int] | None:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None


def _why_not(
    manifest: VectorManifest,
    manifests: Sequence[VectorManifest],
    server: ServerIdentity,
    backup_id: str | None,
    at: datetime | None,
) -> str | None:
    """Say why this one cannot be the one, or None."""
    if backup_id is not None and manifest.id != backup_id:
        return "another was asked for by its id"
    if problem := version_problem(manifest.server, server):
        return problem
    if backup_id is not None:
        return None
    if at is not None and manifest.taken_at > at:
        return f"taken after {at.isoformat()}"
    fuller = any(
        other.exact_count and (at is None or other.taken_at <= at) and version_problem(other.server, server) is None
        for other in manifests
    )
    if manifest.exact_count == 0 and fuller:
        return "it is empty, and another one holds points; name it by its id if you want it"
    return None


def _why(chosen: VectorManifest, backup_id: str | None, at: datetime | None) -> str:
    if backup_id is not None:
        return "asked for by its id"
    if at is not None:
        return f"the newest taken until {at.isoformat()} that this server can load"
    if chosen.exact_count == 0:
        return "the newest that this server can load; no backup of this collection holds points"
    return "the newest that holds points and that this server can load"


def _nothing(
    collection: str,
    backup_id: str | None,
    manifests: Sequence[VectorManifest],
    server: ServerIdentity,
    others: Sequence[Candidate],
) -> Refused | NotFound:
    named = next((manifest for manifest in manifests if manifest.id == backup_id), None)
    if named is not None and (problem := version_problem(named.server, server)):
        return Refused(f"backup {backup_id} cannot be restored here: it was {problem}")
    if backup_id is not None:
        return NotFound(
            f"no backup of {collection!r} is called {backup_id!r}", hint="`reanimate backup list` shows those there are"
        )
    reasons = "; ".join(f"{other.id}: {other.reason}" for other in others[:5])
    return NotFound(
        f"no backup of {collection!r} can be restored" + (f" ({reasons})" if reasons else ": there is none"),
        hint=f"`reanimate backup run {collection}` takes one",
    )


def _candidate(manifest: VectorManifest, reason: str) -> Candidate:
    return Candidate(manifest.id, manifest.taken_at.isoformat(), manifest.exact_count, reason)


def _lost(chosen: VectorManifest, now: datetime, live_count: int | None) -> str:
    since = f"everything written after {chosen.taken_at:%Y-%m-%d %H:%M:%S} UTC ({_span(now, chosen.taken_at)} ago)"
    if live_count is None:
        return since
    difference = live_count - chosen.exact_count
    compared = (
        "as many points" if not difference else f"{abs(difference)} points {'more' if difference > 0 else 'fewer'}"
    )
    return f"{since}; the live collection holds {live_count}, {compared}" + (" as the backup" if not difference else "")


def _span(now: datetime, then: datetime) -> str:
    seconds = max(0, round((now - then).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds} s"


def _writes_since(chosen: VectorManifest, totals: dict[str, int] | None) -> int | None:
    if totals is None or chosen.gateway_totals is None:
        return None
    names = {chosen.collection, *chosen.aliases}
    now, then = (sum(known.get(name, 0) for name in names) for known in (totals, chosen.gateway_totals))
    return max(0, now - then)


def _warnings(chosen: VectorManifest, existing: Collection[str]) -> list[str]:
    warnings = list(chosen.warnings)
    own = base_name(chosen.collection)
    if own == chosen.collection and own in existing:
        reached = f"through {', '.join(chosen.aliases)}" if chosen.aliases else "by its new name only"
        warnings.append(
            f"the collection {own} still exists on the target and is kept: "
            f"the restored data is reached {reached}, and who asks for {own} itself goes on reading the old"
        )
    return warnings


def _named(server: Server) -> str:
    return f"{server.title} {server.version}"
