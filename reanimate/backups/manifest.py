"""What a backup says of itself: everything needed to restore it and to tell whether the restore is right."""

import base64
import re
import struct
from datetime import datetime
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from reanimate.errors import Damaged

__all__ = [
    "SCHEMA_VERSION",
    "Embedding",
    "GoldenHit",
    "GoldenQuery",
    "Kind",
    "Link",
    "LiveCounts",
    "Manifest",
    "Part",
    "Sentinel",
    "Server",
    "ShardKeys",
    "ShardPart",
    "VectorManifest",
    "Whole",
    "base_name",
    "restore_name",
    "seed_name",
]

SCHEMA_VERSION = 2

Kind = Literal["vector", "postgres", "config"]

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
    """What the source said it is: `GET /` of a vector server, `server_version` of a database."""

    title: str
    version: str


class Part(_Part):
    """One file of a backup. `size` and `sha256` are the file's own, whatever was done to it for the store."""

    name: str
    """Unique in its backup: `shard-0.snapshot`, `agent.dump`."""
    blob: str
    """Its key in the repository."""
    size: int = Field(ge=0)
    sha256: str
    stored_size: int = Field(ge=0)
    stored_sha256: str
    packing: tuple[str, ...] = ()
    """What was done to it, in order: `zstd`, `age`; nothing when it is stored as it is."""

    @model_validator(mode="before")
    @classmethod
    def _stored_as_it_is(cls, given: Any) -> Any:
        """Complete a part that was stored as it is."""
        if not isinstance(given, dict):
            return given
        completed = {"stored_size": given.get("size"), "stored_sha256": given.get("sha256"), **given}
        return {"name": str(given.get("blob", "")).rsplit("/", 1)[-1], **completed}


class Whole(_Part):
    """The complete snapshot of a shard that a part with changes only stands for, when it is put on top of its base."""

    size: int = Field(ge=0)
    sha256: str
    base_sha256: str
    """Of the part of the full backup that it goes on top of."""


class ShardPart(Part):
    """One shard's snapshot, or what changed in the shard since the full backup's."""

    shard_id: int
    shard_key: str | int | None = None
    """Of a collection whose shards are chosen by keys."""
    peer_id: int | None = None
    """The peer whose replica it was taken from: only that one numbers its operations so."""
    numbers: dict[str, list[int]] | None = None
    """Of a full backup: how the server numbered the changes of each segment, by which another history is known."""
    whole: Whole | None = None
    """Of a backup of changes only."""

    @property
    def whole_size(self) -> int:
        """Bytes of the complete snapshot, which is what a server gets."""
        return self.whole.size if self.whole else self.size


class ShardKeys(_Part):
    """One custom shard key: how many shards it had, and how many replicas each of them."""

    key: str | int
    shards: int
    replicas: int


class Link(_Part):
    """The backup before this one, by the hash of its manifest as it is stored."""

    id: str
    sha256: str


class Sentinel(_Part):
    """A point by which a restore is known to be right: SHA-256 over id, payload and vectors."""

    id: int | str
    sha256: str
    vectors_sha256: str | None = None
    payload_sha256: str | None = None
    """Of either alone, to tell which of them is different."""


def _single(value: Any) -> Any:
    """Return the float32 that is nearest to a number."""
    return struct.unpack("<f", struct.pack("<f", value))[0] if isinstance(value, int | float) else value


class GoldenHit(_Part):
    id: int | str
    score: float


class GoldenQuery(_Part):
    """A stored vector and its exact nearest neighbours, read from the snapshot. `point` is whose vector it is."""

    using: str
    point: int | str
    vector: list[float]
    """Stored as base64 of its little-endian float32: a quarter of the room, and read in no time."""
    limit: int
    hits: list[GoldenHit]

    @field_validator("vector", mode="before")
    @classmethod
    def _from_stored(cls, given: Any) -> Any:
        """Read either form. All its numbers are float32, as the engine has them."""
        if isinstance(given, str):
            content = base64.b64decode(given, validate=True)
            return list(struct.unpack(f"<{len(content) // 4}f", content))
        return [_single(one) for one in given] if isinstance(given, list) else given

    @field_serializer("vector", when_used="json")
    def _stored(self, vector: list[float]) -> str:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


class LiveCounts(_Part):
    """Exact counts of the live collection just before and after the snapshot; they differ when writes went on."""

    before: int
    after: int


class Embedding(_Part):
    """Which model made the vectors: those of another one are of no use, whatever their dimension."""

    model: str
    dimension: int


class Manifest(_Part):
    """The description of one published backup, of whatever kind. Its presence in the store makes the backup exist."""

    ROOT: ClassVar[str | None] = None
    """The folder of this kind in a repository."""

    schema_version: int = SCHEMA_VERSION
    kind: Kind
    id: str
    subject: str
    """What it is a backup of: a collection, a database, a set of files."""
    target: str
    """Where it was taken: the name of a target or database in the settings."""
    taken_at: AwareDatetime
    tool_version: str
    parts: tuple[Part, ...]
    previous: Link | None = None
    """The backup of the same subject before this one, as it was when this one was published."""
    recovery_point: str | None = None
    """The id of the recovery point that it was taken for."""
    base: str | None = None
    """The id of the full backup without which this one, which holds only what has changed since, is nothing."""
    warnings: list[str] = []

    @property
    def size_bytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.parts)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all parts as they are in the store."""
        return sum(part.stored_size for part in self.parts)

    def to_bytes(self) -> bytes:
        """Return it as JSON, without the signature that it is stored with."""
        return self.model_dump_json(indent=1).encode()

    @classmethod
    def from_document(cls, document: dict[str, Any], *, where: str) -> Self:
        """Read a stored manifest whose signature has been checked.

        Raises:
            Damaged: fields missing or wrong, or written by a newer version of this tool.
        """
        version = document.get("schema_version")
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise Damaged(
                f"the manifest {where} has schema {version}, this version reads up to {SCHEMA_VERSION}",
                hint="upgrade reanimate",
            )
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(str(part) for part in problem["loc"]) or "the file"
            raise Damaged(f"the manifest {where} cannot be read: {place}: {problem['msg']}") from None


class VectorManifest(Manifest):
    """A backup of a vector collection."""

    ROOT = "backups"

    kind: Literal["vector"] = "vector"
    parts: tuple[ShardPart, ...]
    collection: str
    """The collection itself, also when the backup was asked for by alias."""
    asked_as: str
    aliases: list[str]
    server: Server
    config: dict[str, Any]
    payload_schema: dict[str, dict[str, Any]]
    shard_keys: list[ShardKeys] = []
    """Of a collection whose shards are chosen by keys, in the order in which they are to be made."""
    instead_of_partial: str | None = None
    """Why this is a full backup although one of changes only was asked for."""
    embedding: Embedding | None = None
    exact_count: int = Field(ge=0)
    """Points in the snapshot, counted in the snapshot."""
    ids_sha256: str | None = None
    """Over all ids in the snapshot; see `hashing.IdsHash`."""
    live: LiveCounts
    sentinels: list[Sentinel]
    golden: list[GoldenQuery]
    index_recall: float | None = None
    """Recall of the golden queries through the snapshot's own index when the backup was taken."""
    gateway_totals: dict[str, int] | None = None
    """Writes that gateways had acknowledged at that moment, by the name they were sent to, if they were asked."""

    @model_validator(mode="before")
    @classmethod
    def _of_a_collection(cls, given: Any) -> Any:
        """The subject is the collection; manifests of schema 1 did not say so."""
        return {"subject": given.get("collection"), **given} if isinstance(given, dict) else given

    @property
    def entry_name(self) -> str:
        """The name by which clients most likely reach the data: its first alias, else the collection's name."""
        return self.aliases[0] if self.aliases else self.collection

    def answers_to(self, name: str) -> bool:
        """Say whether this is a backup of that collection or alias, or of an earlier restore of it."""
        return name in (self.collection, self.asked_as, *self.aliases) or base_name(name) == base_name(self.collection)
