"""Qdrant snapshot files read as tar archives, without any engine: is it whole, is it safe, what is in it.

A stream that was cut at a member's border still answers 200 and still looks like a tar, and both the server and
the embedded engine accept it silently. So an archive is whole only when it ends with its end marker, and nothing else.
"""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, NotRequired, TypedDict, cast

from reanimate.errors import Damaged

__all__ = [
    "ArchiveDamaged",
    "ArchiveFacts",
    "ArchiveKind",
    "Entry",
    "VectorShape",
    "inspect_archive",
    "walk_archive",
]

ArchiveKind = Literal["shard", "collection"]
Reason = Literal["not_a_tar", "truncated", "forbidden", "wrong_kind", "unreadable"]

_END_MARKER = 1024
_ALLOWED_TYPES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE)
_LARGEST_JSON = 16 << 20
_ROCKSDB_DIRECTORIES = {"db_backup", "database"}
_ROCKSDB_PAYLOAD = {"in_memory", "on_disk"}


class ArchiveDamaged(Damaged):
    """The file is not a whole, safe snapshot of the kind it was taken for."""

    def __init__(self, message: str, reason: Reason, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


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


@dataclass(frozen=True)
class Entry:
    """One file or directory of a snapshot, with nested segment archives already opened."""

    path: PurePosixPath
    """Where it belongs below the shard (or collection) directory: `segments/{uuid}/segment.json`, `0/wal/open-1`."""
    member: tarfile.TarInfo
    archive: tarfile.TarFile

    def open(self) -> IO[bytes]:
        """Open the content of a regular file."""
        stream = self.archive.extractfile(self.member)
        if stream is None:
            raise ArchiveDamaged(f"reading snapshot member {self.member.name}: it is not a file", "forbidden")
        return stream


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
    )


def walk_archive(path: Path, names: list[str] | None = None) -> Iterator[Entry]:
    """Yield every file and directory of a snapshot, nested segment archives included, checking each header on the way.

    `names` collects the names of the outer members, in order. The end of the file is checked when the iteration ends.

    Raises:
        ArchiveDamaged: as soon as something is wrong; what was yielded before must be thrown away.
    """
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as outer:
            for member in outer:
                location = _checked(member, path)
                if names is not None:
                    names.append(member.name.rstrip("/"))
                yield from _entries_of(outer, member, location, path)
            _check_end(file, outer, path.name)
    except tarfile.TarError as error:
        reason: Reason = "truncated" if "unexpected end" in str(error) else "not_a_tar"
        raise ArchiveDamaged(
            f"reading snapshot {path.name}: {error}", reason, hint="fetch it again, or take an older one"
        ) from error
    except (EOFError, ValueError, OverflowError) as error:
        raise ArchiveDamaged(f"reading snapshot {path.name}: {error}", "not_a_tar") from error


def _entries_of(
    outer: tarfile.TarFile, member: tarfile.TarInfo, location: PurePosixPath, path: Path
) -> Iterator[Entry]:
    """Yield the member itself, or what is inside when it is a segment's own archive."""
    parts = location.parts
    at = 1 if parts and parts[0].isdigit() else 0
    is_segment = len(parts) >= at + 2 and parts[at] == "segments"
    if is_segment and len(parts) == at + 2 and member.isreg() and location.suffix == ".tar":
        yield from _entries_of_segment(outer, member, location.with_suffix(""), path)
    elif is_segment and len(parts) > at + 2:
        if parts[at + 2] != "files":  # only `files/` is data; other directories are relics of old servers
            yield Entry(location, member, outer)
        elif len(parts) > at + 3:
            yield Entry(PurePosixPath(*parts[: at + 2], *parts[at + 3 :]), member, outer)
    elif parts:
        yield Entry(location, member, outer)


def _entries_of_segment(
    outer: tarfile.TarFile, member: tarfile.TarInfo, base: PurePosixPath, path: Path
) -> Iterator[Entry]:
    stream = outer.extractfile(member)
    if stream is None:
        raise ArchiveDamaged(f"reading snapshot {path.name}: {member.name} is not a file", "forbidden")
    with stream, tarfile.open(fileobj=stream, mode="r:") as inner:
        for item in inner:
            parts = _checked(item, path).parts
            if parts[:1] != ("snapshot",):
                raise ArchiveDamaged(
                    f"reading snapshot {path.name}: {item.name} is not where a segment keeps files", "unreadable"
                )
            if parts[1:2] == ("files",):
                if len(parts) > 2:
                    yield Entry(base.joinpath(*parts[2:]), item, inner)
            elif len(parts) > 1:
                yield Entry(base.joinpath(*parts[1:]), item, inner)
        _check_end(stream, inner, member.name, needs_marker=False)  # servers write segments without one


def _checked(member: tarfile.TarInfo, path: Path) -> PurePosixPath:
    location = PurePosixPath(member.name)
    if location.is_absolute() or ".." in location.parts or "\0" in member.name:
        raise ArchiveDamaged(f"reading snapshot {path.name}: {member.name!r} points outside of it", "forbidden")
    if member.type not in _ALLOWED_TYPES:
        raise ArchiveDamaged(
            f"reading snapshot {path.name}: {member.name!r} is of type {member.type!r}; "
            "only files, sparse files and directories belong there",
            "forbidden",
        )
    _check_holes(member, path)
    return location


def _check_holes(member: tarfile.TarInfo, path: Path) -> None:
    """The map of a sparse file comes from the archive; it must lie inside the file and in order."""
    holes = cast("list[tuple[int, int]] | None", member.sparse)
    end = 0
    for offset, size in holes or ():
        if size == 0:  # padding of the map
            continue
        if offset < end or offset + size > member.size:
            raise ArchiveDamaged(f"reading snapshot {path.name}: {member.name!r} has a bad map of holes", "unreadable")
        end = offset + size


def _check_end(file: IO[bytes], archive: tarfile.TarFile, name: str, *, needs_marker: bool = True) -> None:
    """The reader stops quietly at a header that it cannot read; only the end marker tells that from the end."""
    file.seek(archive.offset)
    length = 0
    while block := file.read(1 << 20):
        if block.count(0) != len(block):
            raise ArchiveDamaged(f"reading snapshot {name}: unreadable data after the last member", "not_a_tar")
        length += len(block)
    if needs_marker and length < _END_MARKER:
        raise ArchiveDamaged(
            f"reading snapshot {name}: it ends without the end-of-archive marker, so it was cut",
            "truncated",
            hint="fetch it again",
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
    with entry.open() as stream:
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
