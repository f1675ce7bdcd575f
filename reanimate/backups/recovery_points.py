"""Recovery points: what was taken together, so that it can be restored as one, and how far apart its parts are.

points/{id}.json     signed, written once, after all of its members are published

A member is a backup like any other, usable and kept by itself; a point only names it, with the hash of its manifest.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Literal

import obstore
from obstore.exceptions import BaseError
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import Kind, Manifest
from reanimate.backups.published import Published
from reanimate.backups.signature import open_signed, sign
from reanimate.errors import Damaged, NotFound, Unreachable
from reanimate.storage.blobs import create_object, read_object

__all__ = [
    "DamagedPoint",
    "Member",
    "Missing",
    "PointState",
    "RecoveryPoint",
    "carry_points",
    "list_points",
    "member_of",
    "new_point_id",
    "publish_point",
    "read_point",
    "state_of",
]

ROOT = "points"
SCHEMA_VERSION = 1

MemberState = Literal["proven", "unproven", "proof failed", "deleted", "gone", "another"]
"""another: a backup of that id is there, and it is not the one that the point names."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True)


class Member(_Document):
    """One backup of a point."""

    kind: Kind
    subject: str
    id: str
    sha256: str
    """Of its manifest as it is stored."""
    taken_at: AwareDatetime
    """The moment it shows. Of configuration that had not changed since its manifest: when that was seen."""

    @property
    def label(self) -> str:
        return f"{self.kind} {self.subject}"


class Missing(_Document):
    """What should have been a member, and why it is none."""

    kind: Kind
    subject: str
    reason: str

    @property
    def label(self) -> str:
        return f"{self.kind} {self.subject}"


class RecoveryPoint(_Document):
    """What was taken together."""

    schema_version: int = SCHEMA_VERSION
    id: str
    began_at: AwareDatetime
    tool_version: str
    members: tuple[Member, ...]
    missing: tuple[Missing, ...] = ()

    @property
    def complete(self) -> bool:
        return not self.missing

    @property
    def earliest(self) -> datetime:
        return min((member.taken_at for member in self.members), default=self.began_at)

    @property
    def latest(self) -> datetime:
        return max((member.taken_at for member in self.members), default=self.began_at)

    @property
    def spread_s(self) -> float:
        """How far apart its members are: what changed within these seconds may be in one and not in another."""
        return round((self.latest - self.earliest).total_seconds(), 3)

    def member(self, kind: Kind, subject: str) -> Member | None:
        return next((each for each in self.members if (each.kind, each.subject) == (kind, subject)), None)


@dataclass(frozen=True)
class DamagedPoint:
    """A point that cannot be used, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class PointState:
    """A point, and what its members are worth now."""

    point: RecoveryPoint
    members: Mapping[Member, MemberState]

    @property
    def usable(self) -> bool:
        """Whether every member is still there and is the one that was taken."""
        return all(state in ("proven", "unproven", "proof failed") for state in self.members.values())

    @property
    def proven(self) -> bool:
        """Whether everything was proven by restoring it; configuration has hashes, and is not tried anywhere."""
        states = [state for member, state in self.members.items() if member.kind != "config"]
        return self.usable and bool(states) and all(state == "proven" for state in states)


def new_point_id(now: datetime) -> str:
    """Return an id that sorts by time: `20261123T013000Z-1a2b`."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


async def publish_point(catalog: Catalog, point: RecoveryPoint) -> None:
    """Write a point, which makes it exist.

    Raises:
        Refused: one of that id exists.
        Unreachable: the store could not be written.
    """
    await create_object(catalog.store, _key(point.id), sign(point.model_dump_json(indent=1).encode(), catalog.keyring))


def read_point(catalog: Catalog, point_id: str) -> RecoveryPoint:
    """Return one point. Blocks.

    Raises:
        NotFound: there is none of that id.
        Damaged: it is not signed by a trusted key, was changed, or cannot be read.
        Unreachable: the store could not be read.
    """
    if PurePosixPath(point_id).name != point_id:
        raise NotFound(f"no recovery point is called {point_id!r}")
    try:
        content = bytes(obstore.get(catalog.store, _key(point_id)).bytes())
    except FileNotFoundError:
        raise NotFound(
            f"no recovery point is called {point_id!r}", hint="`reanimate backup points` lists those there are"
        ) from None
    except (BaseError, OSError) as error:
        raise Unreachable(f"reading the recovery point {point_id}: {error}") from error
    where = f"the recovery point {_key(point_id)}"
    document = open_signed(content, catalog.keyring, where=where)
    version = document.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise Damaged(f"{where} has schema {version}, this version reads up to {SCHEMA_VERSION}", hint="upgrade")
    try:
        point = RecoveryPoint.model_validate(document)
    except ValidationError as error:
        raise Damaged(f"{where} cannot be read: {error.errors()[0]['msg']}") from None
    if point.id != point_id:
        raise Damaged(f"{where} is that of another point, {point.id}")
    return point


def list_points(catalog: Catalog) -> tuple[list[RecoveryPoint], list[DamagedPoint]]:
    """Return all points, newest first, and those that cannot be used. Blocks.

    Raises:
        Unreachable: the store could not be read.
    """
    points, damaged = [], []
    for key in sorted(catalog.keys(ROOT), reverse=True):
        path = PurePosixPath(key)
        if path.suffix != ".json" or str(path.parent) != ROOT:
            continue
        try:
            points.append(read_point(catalog, path.stem))
        except Damaged as error:
            damaged.append(DamagedPoint(path.stem, str(error)))
        except NotFound:
            continue  # removed since it was listed
    return sorted(points, key=lambda point: (point.began_at, point.id), reverse=True), damaged


async def carry_points(source: Catalog, target: Catalog) -> list[str]:
    """Bring over every point whose members are all in the other repository, as it was signed; return their ids.

    Raises:
        Unreachable: a repository could not be read or written.
    """
    there = {PurePosixPath(key).stem for key in await asyncio.to_thread(target.keys, ROOT)}
    points, _ = await asyncio.to_thread(list_points, source)
    missing = [point for point in points if point.id not in there]
    if not missing:
        return []
    published = await asyncio.to_thread(target.published, Manifest)
    whole = [point for point in missing if state_of(point, published).usable]
    for point in whole:
        await create_object(target.store, _key(point.id), await read_object(source.store, _key(point.id)))
    return [point.id for point in whole]


def state_of(point: RecoveryPoint, published: Sequence[Published[Manifest]]) -> PointState:
    """Say of each member what it is worth; `published` is every usable backup of the repository."""
    by_id = {(one.manifest.kind, one.manifest.id): one for one in published}
    return PointState(point, {member: _state(member, by_id.get((member.kind, member.id))) for member in point.members})


def _state(member: Member, found: Published[Any] | None) -> MemberState:
    if found is None:
        return "gone"
    if found.sha256 != member.sha256:
        return "another"
    if found.deleted:
        return "deleted"
    if found.proven_at:
        return "proven"
    return "proof failed" if found.last_proof else "unproven"


def _key(point_id: str) -> str:
    return f"{ROOT}/{point_id}.json"


def member_of(one: Published[Any], *, seen_at: datetime | None = None) -> Member:
    """Return a published backup as a member. `seen_at`: the moment that it shows, if it was taken at another."""
    manifest, taken_at = one.manifest, seen_at or one.manifest.taken_at
    return Member(kind=manifest.kind, subject=manifest.subject, id=manifest.id, sha256=one.sha256, taken_at=taken_at)
