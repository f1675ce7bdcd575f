"""What a Qdrant snapshot file holds, read without any engine: which shards, segments and vectors, of which kind."""

import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NotRequired, TypedDict

from reanimate.vector.tar_walk import ArchiveDamaged, Entry, damage_told, walk_archive

__all__ = ["ArchiveDamaged", "ArchiveFacts", "ArchiveKind", "VectorShape", "inspect_archive"]

ArchiveKind = Literal["shard", "collection"]

_LARGEST_JSON = 16 << 20
_ROCKSDB_DIRECTORIES = {"db_backup", "database"}
_ROCKSDB_PAYLOAD = {"in_memory", "on_disk"}


class VectorShape(TypedDict):
    """What a segment says about one dense vector."""

    size: int
    distance: str
    multivector: NotRequired[bool]


@dataclass(frozen=True)
class ArchiveFacts:
    """What a snapshot holds. It was whole and safe, else there would be no facts."""

    kind: ArchiveKind
    members: tuple[str, ...]
    """Names of the outer members, in order."""
    segments: tuple[str, ...]
    """Segment ids; of a collection snapshot with the shard in front: `0/{uuid}`."""
    last_member: str
    has_trailer: bool
    rocksdb_relics: tuple[str, ...]
    """Names that only a server before 1.16 wrote. No server since 1.18 and no embedded engine can load them."""
    vectors: dict[str, VectorShape] = field(default_factory=dict)
    """Dense vectors by name, the same in every segment; the unnamed vector has the name ""."""
    sparse_vectors: tuple[str, ...] = ()
    shards: tuple[int, ...] = ()
    """Shard ids in a collection snapshot; empty for a shard snapshot."""
    collection_config: dict[str, Any] | None = None
    """`config.json` of a collection snapshot."""
    payload_schema: dict[str, Any] = field(default_factory=dict)
    """Payload indexes of a collection snapshot: field name -> schema as the server writes it."""
    partial: bool = False
    """Whether it holds only what changed since another snapshot, and is nothing by itself."""


def inspect_archive(path: Path, kind: ArchiveKind = "shard") -> ArchiveFacts:
    """Read every header of the snapshot at `path`, none of its bulk data, and say what it holds.

    Raises:
        ArchiveDamaged: it is no tar, is cut, has members of a forbidden type or place, or is of the other kind.
        OSError: the file cannot be read.
    """
    members: list[str] = []
    segments: dict[str, None] = {}
    relics: list[str] = []
    top: dict[str, Any] = {}
    shapes: dict[str, tuple[dict[str, VectorShape], tuple[str, ...]]] = {}
    finished: set[str] = set()
    partial = False
    depth = 1 if kind == "collection" else 0
    for entry in walk_archive(path, members):
        parts = entry.path.parts
        if kind == "collection" and parts[0] in ("config.json", "payload_index.json") and len(parts) == 1:
            top[parts[0]] = _read_json(entry)
        if len(parts) <= depth + 1 or parts[depth] != "segments":
            continue
        segment = "/".join((*parts[:depth], parts[depth + 1]))
        segments[segment] = None
        inside = parts[depth + 2 :]
        if inside and inside[0] in _ROCKSDB_DIRECTORIES:
            relics.append(str(entry.path))
        partial = partial or inside == ("segment_manifest.json",)
        if inside == ("version.info",):  # written last: a segment without it was cut
            finished.add(segment)
        if inside == ("segment.json",):
            state = _read_json(entry)
            shapes[segment] = _shape_of(state, entry.path)
            if _needs_rocksdb(state):
                relics.append(str(entry.path))
    last = members[-1] if members else ""
    shards = _check_kind(path, kind, members, segments, top)
    for segment in segments:
        if segment not in shapes or segment not in finished:
            raise ArchiveDamaged(f"reading snapshot {path.name}: segment {segment} is not complete", "unreadable")
    vectors, sparse = _agreed_shape(path, shapes)
    return ArchiveFacts(
        kind=kind,
        members=tuple(members),
        segments=tuple(segments),
        last_member=last,
        has_trailer=True,
        rocksdb_relics=tuple(relics),
        vectors=vectors,
        sparse_vectors=sparse,
        shards=shards,
        collection_config=top.get("config.json"),
        payload_schema=dict(top.get("payload_index.json", {}).get("schema", {})),
        partial=partial,
    )


def _check_kind(
    path: Path, kind: ArchiveKind, members: list[str], segments: dict[str, None], top: dict[str, Any]
) -> tuple[int, ...]:
    """Return the shard ids of a collection snapshot; refuse what is not of `kind`."""
    if kind == "shard":
        if not segments or members[-1] != "shard_config.json":
            found = f"last member {members[-1]!r}" if members else "no members"
            raise ArchiveDamaged(
                f"reading {path.name} as a shard snapshot: {len(segments)} segments, {found} instead of "
                "'shard_config.json'",
                "wrong_kind",
                hint="a shard snapshot has its segments at the top and shard_config.json at the end",
            )
        return ()
    present = set(members)
    shards = sorted({int(head) for name in members if (head := name.split("/", 1)[0]).isdigit()})
    needed = {"config.json", "version.info"} | {f"{shard}/shard_config.json" for shard in shards}
    if missing := sorted(needed - present):
        raise ArchiveDamaged(f"reading {path.name} as a collection snapshot: {missing[0]} is missing", "wrong_kind")
    if not all(isinstance(value, dict) for value in top.values()):
        raise ArchiveDamaged(f"reading {path.name}: config.json is not an object", "unreadable")
    return tuple(shards)


def _read_json(entry: Entry) -> Any:
    if entry.member.size > _LARGEST_JSON:
        raise ArchiveDamaged(
            f"reading snapshot member {entry.path}: {entry.member.size} bytes is no settings file", "unreadable"
        )
    with damage_told(str(entry.path)), entry.open() as stream:
        content = stream.read()
    try:
        return json.loads(content)
    except ValueError as error:
        raise ArchiveDamaged(f"reading snapshot member {entry.path}: {error}", "unreadable") from error


def _shape_of(state: Any, path: PurePosixPath) -> tuple[dict[str, VectorShape], tuple[str, ...]]:
    try:
        config = state["config"]
        vectors: dict[str, VectorShape] = {}
        for name, params in (config.get("vector_data") or {}).items():
            vectors[name] = {"size": int(params["size"]), "distance": str(params["distance"])}
            if params.get("multivector_config"):
                vectors[name]["multivector"] = True
        return vectors, tuple(sorted(config.get("sparse_vector_data") or {}))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArchiveDamaged(
            f"reading snapshot member {path}: not a segment's state ({error!r})", "unreadable"
        ) from error


def _needs_rocksdb(state: dict[str, Any]) -> bool:
    config = state["config"]
    in_memory = any(params.get("storage_type") == "Memory" for params in (config.get("vector_data") or {}).values())
    payload = config.get("payload_storage_type") or {}
    return in_memory or (isinstance(payload, dict) and payload.get("type") in _ROCKSDB_PAYLOAD)


def _agreed_shape(
    path: Path, shapes: dict[str, tuple[dict[str, VectorShape], tuple[str, ...]]]
) -> tuple[dict[str, VectorShape], tuple[str, ...]]:
    if not shapes:
        return {}, ()
    first, *others = shapes.items()
    for name, shape in others:
        if shape != first[1]:
            raise ArchiveDamaged(
                f"reading snapshot {path.name}: segments {first[0]} and {name} disagree about the vectors", "unreadable"
            )
    return first[1]
