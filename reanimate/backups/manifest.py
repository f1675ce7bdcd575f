"""What a backup says of itself: everything needed to restore it and to tell whether the restore is right."""

import hashlib
import re
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from reanimate.errors import Damaged

__all__ = [
    "SCHEMA_VERSION",
    "GoldenHit",
    "GoldenQuery",
    "LiveCounts",
    "Manifest",
    "Part",
    "Sentinel",
    "Server",
    "base_name",
    "restore_name",
    "seed_name",
]

SCHEMA_VERSION = 1

_SUFFIX = re.compile(r"-[rs]\d{14}$")


def base_name(collection: str) -> str:
    """Return the name without the suffix of an earlier restore, so that names do not grow."""
    return _SUFFIX.sub("", collection)


def restore_name(collection: str, now: datetime) -> str:
    """Return the name of a restore begun now: `kb-r20261123013000`."""
    return f"{base_name(collection)}-r{now:%Y%m%d%H%M%S}"


def seed_name(collection: str, taken_at: datetime) -> str:
    """Return the name of a replica's copy of the backup taken then; the same backup always gets the same one."""
    return f"{base_name(collection)}-s{taken_at:%Y%m%d%H%M%S}"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Server(_Part):
    """What `GET /` of the source said."""

    title: str
    version: str


class Part(_Part):
    """One shard's snapshot in the blob store."""

    shard_id: int
    blob: str
    size: int
    sha256: str


class Sentinel(_Part):
    """A point by which a restore is known to be right: SHA-256 over id, payload and vectors."""

    id: int | str
    sha256: str


class GoldenHit(_Part):
    id: int | str
    score: float


class GoldenQuery(_Part):
    """A stored vector and its exact nearest neighbours, read from the snapshot. `point` is whose vector it is."""

    using: str
    point: int | str
    vector: list[float]
    limit: int
    hits: list[GoldenHit]


class LiveCounts(_Part):
    """Exact counts of the live collection just before and after the snapshot; they differ when writes went on."""

    before: int
    after: int


class Manifest(_Part):
    """The description of one published backup. Its presence in the store is what makes the backup exist."""

    schema_version: int = SCHEMA_VERSION
    id: str
    collection: str
    """The collection itself, also when the backup was asked for by alias."""
    asked_as: str
    aliases: list[str]
    target: str
    server: Server
    tool_version: str
    taken_at: AwareDatetime
    config: dict[str, Any]
    payload_schema: dict[str, dict[str, Any]]
    exact_count: int = Field(ge=0)
    """Points in the snapshot, counted in the snapshot."""
    live: LiveCounts
    parts: list[Part]
    sentinels: list[Sentinel]
    golden: list[GoldenQuery]
    gateway_totals: dict[str, int] | None = None
    """Writes that gateways had acknowledged at that moment, by the name they were sent to, if they were asked."""
    warnings: list[str] = []

    @property
    def size_bytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.parts)

    @property
    def sha256(self) -> str:
        """SHA-256 of the manifest as it is stored."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def entry_name(self) -> str:
        """The name by which clients most likely reach the data: its first alias, else the collection's name."""
        return self.aliases[0] if self.aliases else self.collection

    def answers_to(self, name: str) -> bool:
        """Say whether this is a backup of that collection or alias, or of an earlier restore of it."""
        return name in (self.collection, self.asked_as, *self.aliases) or base_name(name) == base_name(self.collection)

    def to_bytes(self) -> bytes:
        """Return the JSON that is stored."""
        return self.model_dump_json(indent=1).encode()

    @classmethod
    def from_bytes(cls, content: bytes, *, where: str) -> "Manifest":
        """Read a stored manifest.

        Raises:
            Damaged: not JSON, fields missing, or written by a newer version of this tool.
        """
        try:
            manifest = cls.model_validate_json(content)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(str(part) for part in problem["loc"]) or "the file"
            raise Damaged(f"the manifest {where} cannot be read: {place}: {problem['msg']}") from None
        if manifest.schema_version > SCHEMA_VERSION:
            raise Damaged(
                f"the manifest {where} has schema {manifest.schema_version}, this version reads up to {SCHEMA_VERSION}",
                hint="upgrade reanimate",
            )
        return manifest
