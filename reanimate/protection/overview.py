"""How everything that is protected stands: its recovery points, their age and proof, what is due next.

`overview` reads repositories and record; `assemble` is pure. The record adds what no repository remembers: attempts
that failed, and backups that retention has removed. Without it the repositories still say what can be restored.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from reanimate.backups.repositories import Repository
from reanimate.config import Settings
from reanimate.db.tables import Backup, Proof
from reanimate.incidents.wording import duration
from reanimate.protection.calendar import WEEKS, Attempt, Day, Grid, calendar, grid
from reanimate.protection.points import RecoveryPoint, read_points, thing_of
from reanimate.section import is_glob

__all__ = ["Overview", "Protected", "Standing", "assemble", "objective_s", "overview"]

_RECORD_PATIENCE_S = 3.0
_GROWTH_OVER = timedelta(days=30)
_DAILY = timedelta(hours=26)
"""What is backed up once a day is late after this: two hours are for a slow one."""


@dataclass(frozen=True)
class Standing:
    """`tone` is good, warn or bad."""

    tone: str
    text: str


@dataclass(frozen=True)
class Protected:
    """One thing that is backed up, or that the settings name."""

    kind: str
    subject: str
    points: tuple[RecoveryPoint, ...]
    """The newest first, deleted and damaged ones too."""
    days: tuple[Day, ...]
    newest: RecoveryPoint | None
    """The newest that could be restored."""
    proven: RecoveryPoint | None
    """The newest whose proof passed and has not expired."""
    age_s: float | None
    objective_s: float | None
    """How old the newest may be; None: it is only backed up when something changes."""
    late: bool
    size_bytes: int | None
    """Of the newest full backup, as it is stored."""
    growth_per_day: float | None
    """Bytes by which full backups have grown per day over the last month."""
    next_at: datetime | None
    """When the next scheduled backup is due."""

    @property
    def grid(self) -> Grid:
        return grid(self.days)

    @property
    def standing(self) -> Standing:
        """Say in one line how it stands, the worst first."""
        if self.newest is None:
            return Standing("bad", "Nothing here can be restored.")
        if self.late:
            late = f"the newest is {duration(self.age_s)} old, and {duration(self.objective_s)} is the objective"
            return Standing("bad", f"Late: {late}.")
        judged = next((point for point in self.points if point.proof in ("proven", "failed", "damaged")), None)
        if judged is not None and judged.proof != "proven":
            return Standing("bad", f"{judged.id} is not right; an older or newer one must be restored.")
        if self.proven is None and self.kind != "config":
            return Standing("warn", "In time, and not proven: nobody knows whether it can be restored.")
        return Standing("good", "In time and proven." if self.proven else "Kept.")


@dataclass(frozen=True)
class Overview:
    """Everything protected, by kind and name."""

    now: datetime
    things: tuple[Protected, ...]
    unread: dict[str, str] = field(default_factory=dict)
    """By repository, why it could not be read: what only it holds is missing."""
    record: bool = True
    """Whether the record answered."""
    zone: str = "UTC"
    """Whose days the calendars show."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; moments stay moments."""
        return {
            "now": self.now,
            "record": self.record,
            "zone": self.zone,
            "unread": self.unread,
            "things": [
                {
                    **asdict(thing),
                    "standing": asdict(thing.standing),
                    "days": [{**asdict(day), "date": day.date.isoformat()} for day in thing.days],
                }
                for thing in self.things
            ],
        }


def objective_s(kind: str, settings: Settings) -> float | None:
    """Return how old the newest backup of a kind may be; None where there is one only when something changes."""
    if kind == "vector":
        return settings.backups.rpo_s
    return max(settings.backups.rpo_s, _DAILY.total_seconds()) if kind == "postgres" else None


async def overview(
    repositories: Mapping[str, Repository],
    settings: Settings,
    sessions: async_sessionmaker[AsyncSession] | None,
    *,
    now: datetime,
    next_at: Mapping[str, datetime] | None = None,
    only: str | None = None,
) -> Overview:
    """Read repositories and record; `only` takes the things that answer to a name.

    `next_at` says by kind when the next scheduled backup is due.
    """
    proofs_last = timedelta(days=settings.backups.proof_expires_days)
    points, unread = await read_points(repositories, proofs_last=proofs_last, now=now)
    tried = await _tried(sessions, now) if sessions is not None else None
    whole = assemble(points, tried or {}, settings, now=now, next_at=next_at)
    things = tuple(thing for thing in whole if only is None or _answers(thing, only))
    return Overview(now, things, unread, record=tried is not None, zone=settings.backups.timezone)


def _answers(thing: Protected, name: str) -> bool:
    return thing_of(thing.kind, name) == thing.subject or any(point.answers_to(name) for point in thing.points)


Thing = tuple[str, str]
"""Kind and subject."""


async def _tried(sessions: async_sessionmaker[AsyncSession], now: datetime) -> dict[Thing, tuple[Attempt, ...]] | None:
    """Return what the record knows of the weeks that a calendar shows; None when it does not answer."""
    since = now - timedelta(weeks=WEEKS + 1)
    try:
        async with asyncio.timeout(_RECORD_PATIENCE_S), sessions() as session:
            backups = (await session.scalars(select(Backup).where(Backup.started_at >= since))).all()
            proofs = await session.execute(
                select(Proof.backup_id, Proof.state)
                .where(Proof.started_at >= since, Proof.state.in_(("passed", "failed")))
                .order_by(Proof.started_at)
            )
            verdicts = dict(proofs.tuples().all())  # the newest of each
    except (SQLAlchemyError, OSError, TimeoutError):
        return None
    found: dict[Thing, list[Attempt]] = {}
    for row in backups:
        if row.state in ("published", "failed"):
            verdict = verdicts.get(row.id)
            attempt = Attempt(
                row.id, row.started_at, row.state == "published", verdict == "passed", verdict == "failed"
            )
            found.setdefault((row.kind, thing_of(row.kind, row.subject)), []).append(attempt)
    return {thing: tuple(attempts) for thing, attempts in found.items()}


def assemble(
    points: Iterable[RecoveryPoint],
    tried: Mapping[Thing, Collection[Attempt]],
    settings: Settings,
    *,
    now: datetime,
    next_at: Mapping[str, datetime] | None = None,
) -> tuple[Protected, ...]:
    """Arrange recovery points, newest first, and attempts by what they are of, as it stands at `now`."""
    by_thing: dict[Thing, list[RecoveryPoint]] = {thing: [] for thing in _named(settings)}
    for thing in tried:
        by_thing.setdefault(thing, [])
    for point in points:
        by_thing.setdefault((point.kind, point.subject), []).append(point)
    zone = ZoneInfo(settings.backups.timezone)
    known = {name for thing, some in by_thing.items() if some for point in some for name in point.names}
    return tuple(
        _protected(
            thing,
            tuple(some),
            calendar(_attempts(some, tried.get(thing, ())), now=now, zone=zone),
            settings,
            now,
            (next_at or {}).get(thing[0]),
        )
        for thing, some in sorted(by_thing.items())
        # A name of the settings may be an alias of something that has backups under its own name.
        if some or tried.get(thing) or thing[1] not in known
    )


def _named(settings: Settings) -> list[Thing]:
    """Return what the settings name outright, so that what was never backed up shows as such."""
    collections = [name for name in settings.vector.collections if not is_glob(name)]
    databases = [database.name for database in settings.postgres.databases]
    return [
        *(("vector", thing_of("vector", name)) for name in collections),
        *(("postgres", name) for name in databases),
    ]


def _attempts(points: Iterable[RecoveryPoint], tried: Iterable[Attempt]) -> list[Attempt]:
    """Join what repositories and record say of the same backups; the repositories' marks are the truth about proofs."""
    found = {attempt.id: attempt for attempt in tried}
    for point in points:
        noted = found.get(point.id)
        found[point.id] = Attempt(
            point.id,
            point.taken_at,
            taken=True,
            proven=point.proof in ("proven", "expired") or (noted is not None and noted.proven),
            refuted=point.proof in ("failed", "damaged"),
        )
    return list(found.values())


def _protected(
    thing: Thing,
    points: tuple[RecoveryPoint, ...],
    days: tuple[Day, ...],
    settings: Settings,
    now: datetime,
    next_at: datetime | None,
) -> Protected:
    usable = [point for point in points if point.usable]
    newest = usable[0] if usable else None
    age_s = (now - newest.taken_at).total_seconds() if newest else None
    objective = objective_s(thing[0], settings)
    full = [point for point in usable if point.full]
    return Protected(
        kind=thing[0],
        subject=thing[1],
        points=points,
        days=days,
        newest=newest,
        proven=next((point for point in usable if point.proof == "proven"), None),
        age_s=age_s,
        objective_s=objective,
        late=objective is not None and (age_s is None or age_s > objective),
        size_bytes=full[0].size_bytes if full else None,
        growth_per_day=_growth(full, now),
        next_at=next_at,
    )


def _growth(full: Sequence[RecoveryPoint], now: datetime) -> float | None:
    recent = [point for point in full if now - point.taken_at <= _GROWTH_OVER]
    if len(recent) < 2:
        return None
    days = (recent[0].taken_at - recent[-1].taken_at).total_seconds() / 86_400
    return (recent[0].size_bytes - recent[-1].size_bytes) / days if days >= 0.5 else None
