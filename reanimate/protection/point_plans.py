"""What restoring a recovery point would do to each of its members, before anything is touched."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from reanimate.backups.comparison import count_points
from reanimate.backups.manifest import VectorManifest, base_name
from reanimate.backups.published import Published
from reanimate.backups.recovery_points import Member, PointState
from reanimate.backups.repositories import Repository, named
from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.config import PREFECT_NAME, RECORD_NAME
from reanimate.config_history.keeping import ConfigHistory
from reanimate.config_history.versions import ConfigManifest
from reanimate.config_history.whole import WholePlan, plan_files
from reanimate.dumps.login import Login
from reanimate.dumps.manifest import PostgresManifest
from reanimate.dumps.plan import DatabasePlan
from reanimate.errors import NotFound, ReanimateError, Refused
from reanimate.protection.configuration import history_of
from reanimate.protection.databases import login_to, plan_database
from reanimate.protection.recovery_points import point_state
from reanimate.restores.plan import version_problem
from reanimate.restores.restore import new_collection_name

__all__ = [
    "CollectionMember",
    "CollectionPlan",
    "DatabaseMember",
    "FilesMember",
    "PointPlan",
    "plan_point",
    "unreached",
]


@dataclass(frozen=True)
class CollectionPlan:
    """What would be done for a collection. Ages in seconds, sizes in bytes."""

    backup_id: str
    collection: str
    target: str
    new_name: str
    aliases: tuple[str, ...]
    points: int
    points_now: int | None
    """None: there is no such collection or alias now."""
    taken_at: datetime
    age_s: float
    size_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {**asdict(self), "taken_at": self.taken_at.isoformat()}


@dataclass(frozen=True)
class CollectionMember:
    member: Member
    manifest: VectorManifest
    plan: CollectionPlan


@dataclass(frozen=True)
class DatabaseMember:
    member: Member
    manifest: PostgresManifest
    plan: DatabasePlan
    login: Login
    place: Repository


@dataclass(frozen=True)
class FilesMember:
    member: Member
    history: ConfigHistory
    """Where what is there now is kept."""
    source: ConfigHistory
    """Where the point's contents are."""
    plan: WholePlan


@dataclass(frozen=True)
class PointPlan:
    """What restoring a point would do."""

    state: PointState
    collections: tuple[CollectionMember, ...]
    databases: tuple[DatabaseMember, ...]
    files: tuple[FilesMember, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    """Why it cannot be restored as one; none if it can."""

    @property
    def id(self) -> str:
        return self.state.point.id

    def require(self) -> None:
        """Say no when some member cannot be restored.

        Raises:
            Refused: naming each.
        """
        if self.problems:
            raise Refused(
                f"the recovery point {self.id} cannot be restored as one: {'; '.join(self.problems)}",
                hint="nothing was touched; its other members can be restored by themselves",
            )

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        point = self.state.point
        return {
            "id": point.id,
            "complete": point.complete,
            "spread_s": point.spread_s,
            "earliest": point.earliest.isoformat(),
            "latest": point.latest.isoformat(),
            "collections": [each.plan.to_json() for each in self.collections],
            "databases": [each.plan.to_json() for each in self.databases],
            "files": [each.plan.to_json() for each in self.files],
            "notes": list(self.notes),
            "problems": list(self.problems),
        }


async def plan_point(services: Services, point_id: str, *, repository: str | None = None) -> PointPlan:
    """Plan the restore of every member. Touches nothing.

    Raises:
        NotFound, Damaged: there is no such point, or it cannot be used.
        Unreachable: the repository does not answer.
    """
    place = named(services.repositories, repository)
    state = await point_state(place.catalog, point_id)
    point = state.point
    collections: list[CollectionMember] = []
    databases: list[DatabaseMember] = []
    files: list[FilesMember] = []
    notes = [f"it goes without {missing.label}: {missing.reason}" for missing in point.missing]
    problems = []
    if point.spread_s:
        notes.append(f"its members are {point.spread_s:.1f} s apart: what changed in between may be in one only")
    for member in point.members:
        worth = state.members[member]
        if worth not in ("proven", "unproven", "proof failed"):
            problems.append(f"{member.label}: backup {member.id} is {worth}")
            continue
        if worth == "proof failed":
            notes.append(f"{member.label}: the last proof of {member.id} failed")
        if member.kind == "postgres" and member.subject in (RECORD_NAME, PREFECT_NAME):
            notes.append(
                f"{member.label} is reanimate's own and stays: `reanimate restore postgres run --database "
                f"{member.subject} --backup {member.id}` restores it by itself"
            )
            continue
        try:
            if member.kind == "vector":
                collections.append(await _collection(services, place, member))
            elif member.kind == "postgres":
                databases.append(await _database(services, place, member))
            else:
                files.append(await _files(services, place, member))
        except ReanimateError as error:
            problems.append(f"{member.label}: {error}")
    notes += unreached([each.plan for each in collections])
    notes += [note for each in files for note in (*each.plan.notes, *each.plan.cannot)]
    if files:
        notes.append("settings of vector servers come back with their collections, not from the configuration")
    return PointPlan(state, tuple(collections), tuple(databases), tuple(files), tuple(notes), tuple(problems))


def unreached(plans: Sequence[CollectionPlan]) -> list[str]:
    """Say which collections go on being read as they are, for no alias can lead to what is restored."""
    names = [
        plan.collection
        for plan in plans
        if not plan.aliases and plan.points_now is not None and base_name(plan.collection) == plan.collection
    ]
    if not names:
        return []
    return [
        f"no alias leads to {', '.join(names)}: what is there stays and goes on being read, and the restored data is "
        "reached by its new name only"
    ]


async def _collection(services: Services, place: Repository, member: Member) -> CollectionMember:
    one: Published[VectorManifest] = await asyncio.to_thread(place.catalog.find, member.id, VectorManifest)
    manifest = one.manifest
    server, now = services.vector(manifest.target), utcnow()
    if problem := version_problem(manifest.server, await server.version()):
        raise Refused(f"backup {manifest.id} cannot be restored on {server.name}: it was {problem}")
    try:
        live, _ = await count_points(server, manifest.entry_name)
    except NotFound:
        live = None
    plan = CollectionPlan(
        backup_id=manifest.id,
        collection=manifest.collection,
        target=server.name,
        new_name=new_collection_name(manifest.collection, now),
        aliases=tuple(manifest.aliases),
        points=manifest.exact_count,
        points_now=live,
        taken_at=manifest.taken_at,
        age_s=round((now - manifest.taken_at).total_seconds(), 1),
        size_bytes=manifest.size_bytes,
    )
    return CollectionMember(member, manifest, plan)


async def _database(services: Services, place: Repository, member: Member) -> DatabaseMember:
    login = login_to(services, member.subject)
    plan, manifest, found = await plan_database(
        services, member.subject, login, backup_id=member.id, repository=place.name
    )
    return DatabaseMember(member, manifest, plan, login, found)


async def _files(services: Services, place: Repository, member: Member) -> FilesMember:
    one: Published[ConfigManifest] = await asyncio.to_thread(place.catalog.find, member.id, ConfigManifest)
    source = ConfigHistory.of(services.settings, place.catalog)
    return FilesMember(member, history_of(services), source, await plan_files(source, one.manifest))
