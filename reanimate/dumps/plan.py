"""Which dump to restore, and why: a pure decision that explains itself before anything is touched."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from reanimate.backups.catalog import DamagedBackup, Published
from reanimate.dumps.manifest import PostgresManifest
from reanimate.dumps.markers import beside_name, kept_name
from reanimate.errors import NotFound, Refused

__all__ = ["Candidate", "DatabasePlan", "Live", "plan_database_restore"]


@dataclass(frozen=True)
class Live:
    """The server as it is now."""

    where: str
    server_major: int
    system_id: str | None
    database: str
    """The name on the server."""
    exists: bool
    size_bytes: int | None
    sessions: tuple[str, ...]
    """Who is connected to the live database."""
    kept: tuple[str, ...]
    """Databases that earlier restores made or set aside."""


@dataclass(frozen=True)
class Candidate:
    """A backup that is not the one, and why not."""

    id: str
    taken_at: str | None
    rows: int | None
    reason: str


@dataclass(frozen=True)
class DatabasePlan:
    """What a restore would do. Ages in seconds, sizes in bytes."""

    backup_id: str
    why: str
    made_at: datetime
    """The moment in the names."""
    name: str
    """In the settings."""
    database: str
    where: str
    new_name: str
    kept_name: str | None
    taken_at: datetime
    age_s: float
    proven_at: datetime | None
    tables: int
    rows: int
    dump_bytes: int
    database_bytes: int
    made_by: str
    server_major: int
    took_last_s: float | None
    """How long the last restore of this database took."""
    lost: str
    steps: tuple[str, ...]
    warnings: tuple[str, ...]
    others: tuple[Candidate, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            **asdict(self),
            "made_at": self.made_at.isoformat(),
            "taken_at": self.taken_at.isoformat(),
            "proven_at": self.proven_at.isoformat() if self.proven_at else None,
        }


def plan_database_restore(
    published: Sequence[Published[PostgresManifest]],
    live: Live,
    *,
    name: str,
    now: datetime,
    backup_id: str | None = None,
    at: datetime | None = None,
    newest_proven: bool = False,
    damaged: Sequence[DamagedBackup] = (),
    is_record: bool = False,
    took_last_s: float | None = None,
) -> DatabasePlan:
    """Choose among the backups (newest first, of any database) one of the database that the settings call `name`.

    By default the newest that this server can take; with `at`, the newest taken until then; with `newest_proven`, the
    newest whose last proof passed; with `backup_id`, that one.

    Raises:
        NotFound: there is none to choose from; the message says why each one is not.
        Refused: the backup asked for by id is of another database, or this server cannot take it.
    """
    others = [Candidate(entry.id, None, None, entry.reason) for entry in damaged]
    chosen: Published[PostgresManifest] | None = None
    for entry in published:
        if entry.manifest.subject != name and entry.manifest.id != backup_id:
            continue
        reason = _why_not(entry, live, name, backup_id, at, newest_proven=newest_proven)
        if reason is None and chosen is None and backup_id is None:
            reason = _empty(entry, published, live, name, at)
        if reason is None and chosen is None:
            chosen = entry
        elif entry.manifest.id == backup_id:
            raise Refused(f"backup {backup_id} cannot be restored as {name!r} on {live.where}: {reason}")
        else:
            others.append(_candidate(entry, reason or "an earlier one; a newer is chosen"))
    if chosen is None:
        raise _nothing(name, backup_id, others)
    manifest = chosen.manifest
    return DatabasePlan(
        backup_id=manifest.id,
        why=_why(backup_id, at, newest_proven=newest_proven),
        made_at=now,
        name=name,
        database=live.database,
        where=live.where,
        new_name=beside_name(live.database, now),
        kept_name=kept_name(live.database, now) if live.exists else None,
        taken_at=manifest.taken_at,
        age_s=round((now - manifest.taken_at).total_seconds(), 1),
        proven_at=chosen.proven_at,
        tables=len(manifest.facts.tables),
        rows=manifest.facts.rows,
        dump_bytes=manifest.dump.size,
        database_bytes=manifest.facts.size_bytes,
        made_by=f"{manifest.server.title} {manifest.server.version}",
        server_major=live.server_major,
        took_last_s=took_last_s,
        lost=_lost(manifest, live, now),
        steps=tuple(_steps(manifest, live, now, is_record=is_record)),
        warnings=tuple(_warnings(chosen, live)),
        others=tuple(others),
    )


def _why_not(
    entry: Published[PostgresManifest],
    live: Live,
    name: str,
    backup_id: str | None,
    at: datetime | None,
    *,
    newest_proven: bool,
) -> str | None:
    """Say why this one cannot be the one, or None."""
    manifest = entry.manifest
    if manifest.subject != name:
        return f"it is of another database, {manifest.subject}"
    if backup_id is not None and manifest.id != backup_id:
        return "another was asked for by its id"
    if entry.deleted:
        return "it is deleted, and waits for its grace to end"
    if live.server_major < manifest.facts.server_major:
        return (
            f"it is of a server of Postgres {manifest.facts.server_major}, and this one is {live.server_major}: "
            "a dump goes to the same version or a newer one"
        )
    if backup_id is not None:
        return None
    if at is not None and manifest.taken_at > at:
        return f"taken after {at.isoformat()}"
    if newest_proven and entry.proven_at is None:
        return "not proven"
    proof = entry.last_proof
    if proof is not None and proof.what == "proof-failed":
        return f"its proof failed {proof.at:%Y-%m-%d %H:%M} UTC; name it by its id if you want it all the same"
    return None


def _empty(
    entry: Published[PostgresManifest],
    published: Sequence[Published[PostgresManifest]],
    live: Live,
    name: str,
    at: datetime | None,
) -> str | None:
    """Say that it holds no row while another that could be taken does: a database that was emptied, then backed up."""
    fuller = any(
        other.manifest.facts.rows and _why_not(other, live, name, None, at, newest_proven=False) is None
        for other in published
    )
    if entry.manifest.facts.rows == 0 and fuller:
        return "it holds no row, and another one does; name it by its id if you want it"
    return None


def _why(backup_id: str | None, at: datetime | None, *, newest_proven: bool) -> str:
    if backup_id is not None:
        return "asked for by its id"
    until = f" taken until {at.isoformat()}" if at else ""
    return f"the newest{' proven one' if newest_proven else ''}{until} that this server can take"


def _nothing(name: str, backup_id: str | None, others: Sequence[Candidate]) -> NotFound:
    if backup_id is not None:
        return NotFound(
            f"no backup of a database is called {backup_id!r}",
            hint="`reanimate backup postgres list` shows those there are",
        )
    reasons = "; ".join(f"{other.id}: {other.reason}" for other in others[:5])
    return NotFound(
        f"no backup of database {name!r} can be restored" + (f" ({reasons})" if reasons else ": there is none"),
        hint=f"`reanimate backup postgres run {name}` takes one",
    )


def _candidate(entry: Published[PostgresManifest], reason: str) -> Candidate:
    manifest = entry.manifest
    return Candidate(manifest.id, manifest.taken_at.isoformat(), manifest.facts.rows, reason)


def _lost(manifest: PostgresManifest, live: Live, now: datetime) -> str:
    since = f"everything written after {manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC ({_span(now, manifest.taken_at)} ago)"
    if not live.exists:
        return f"{since}; there is no live database now"
    size = f"; the live database takes {live.size_bytes / 1e6:.1f} MB, " if live.size_bytes is not None else "; "
    return f"{since}{size}the one that was dumped took {manifest.facts.size_bytes / 1e6:.1f} MB"


def _span(now: datetime, then: datetime) -> str:
    seconds = max(0, round((now - then).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds} s"


def _steps(manifest: PostgresManifest, live: Live, now: datetime, *, is_record: bool) -> list[str]:
    new = beside_name(live.database, now)
    steps = [
        f"fetch {manifest.dump.size / 1e6:.1f} MB and hold them against the manifest",
        f"make {new} and fill it; {live.database} goes on untouched",
        f"hold {len(manifest.facts.tables)} tables, {manifest.facts.rows} rows and "
        f"{len(manifest.facts.schema_objects)} objects of it against the manifest",
    ]
    if is_record:
        return [
            *steps,
            f"if nothing is connected to {live.database}: rename as below; while the system runs it is connected, and "
            f"{new} only stands beside, to be named in DATABASE_URL, or to be switched to after `reanimate down`",
            *_renames(live, new, now),
        ]
    left = "new sessions wait for it; those that are there must have left, or --end-sessions ends them"
    return [*steps, *_renames(live, new, now, left)]


def _renames(live: Live, new: str, now: datetime, left: str = "") -> list[str]:
    if not live.exists:
        return [f"rename {new} to {live.database}"]
    kept = kept_name(live.database, now)
    return [
        f"in one transaction rename {live.database} to {kept} and {new} to {live.database}"
        + (f"; {left}" if left else ""),
        "the old database is kept; undo renames back",
    ]


def _warnings(chosen: Published[PostgresManifest], live: Live) -> list[str]:
    manifest = chosen.manifest
    warnings = list(manifest.warnings)
    if live.sessions:
        told = ", ".join(live.sessions[:5])
        more = f" and {len(live.sessions) - 5} more" if len(live.sessions) > 5 else ""
        warnings.append(f"{len(live.sessions)} session(s) are connected to {live.database}: {told}{more}")
    if chosen.proven_at is None:
        warnings.append("this backup has not been proven yet")
    if live.system_id and manifest.facts.system_id and live.system_id != manifest.facts.system_id:
        warnings.append("the dump was taken from another server than this one")
    if live.database != manifest.facts.database:
        warnings.append(f"the dump is of a database called {manifest.facts.database} on its server")
    if live.server_major != manifest.facts.server_major:
        warnings.append(
            f"from Postgres {manifest.facts.server_major} to {live.server_major}: "
            "printed definitions are compared by presence only"
        )
    if live.kept:
        warnings.append(f"databases of earlier restores take room: {', '.join(live.kept)}")
    return warnings
