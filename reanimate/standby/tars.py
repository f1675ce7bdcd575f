"""Snapshot files: shard directories packed as a server packs them, holes kept, and unpacked again."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, cast

import orjson

from reanimate.standby.wal import log_file_name, write_empty_log
from reanimate.vector.tar_walk import ArchiveDamaged, Entry, damage_told, walk_archive
from reanimate.vector.tar_write import TarWriter

__all__ = ["TarWriter", "file_sha256", "pack_end", "pack_shard", "segment_files", "unpack_archive"]

_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pack_shard(writer: TarWriter, directory: Path, last_version: int, peer_id: int, prefix: str = "") -> None:
    """Add one shard, flushed and not written to meanwhile, in the form that a server streams.

    `last_version` is the number of the newest operation in it; the log in the archive is empty and goes on after it.

    Raises:
        OSError: a file cannot be read or the archive cannot be written.
    """
    for segment in sorted((directory / "segments").iterdir()):
        for path in segment_files(segment):
            name = f"{prefix}segments/{segment.name}/files/{path.relative_to(segment).as_posix()}"
            if path.is_dir():
                writer.add_directory(name)
            else:
                writer.add_file(name, path)
    pack_end(writer, last_version, peer_id, prefix)


def pack_end(writer: TarWriter, last_version: int, peer_id: int, prefix: str = "") -> None:
    """Add what follows the segments of a shard: an empty log, and the small files of which the last must be last."""
    writer.add_directory(f"{prefix}wal")
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / log_file_name(last_version)
        write_empty_log(log)
        writer.add_file(f"{prefix}wal/{log.name}", log)
    state = {"is_local": True, "this_peer_id": peer_id, "peers": {str(peer_id): "Active"}}
    writer.add_bytes(f"{prefix}replica_state.json", orjson.dumps(state))
    writer.add_bytes(f"{prefix}shard_config.json", b'{"type":"ReplicaSet"}')


def segment_files(segment: Path) -> Iterable[Path]:
    """Yield files and empty directories. State and version come last: a segment which has them is whole."""
    last = [segment / "segment.json", segment / "version.info"]
    for path in sorted(segment.rglob("*")):
        if path not in last and (path.is_file() or not any(path.iterdir())):
            yield path
    yield from last


def unpack_archive(path: Path, destination: Path) -> None:
    """Unpack a snapshot, segments opened, holes kept, into a directory that does not exist yet.

    Raises:
        ArchiveDamaged: the archive is not whole or not safe; what was written so far is for the caller to remove.
        OSError: no room, no right.
    """
    destination.mkdir(parents=True)
    with path.open("rb") as file:
        for entry in walk_archive(path):
            target = destination.joinpath(*entry.path.parts)
            if entry.member.isdir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                _unpack_file(entry, file.fileno(), target)


def _unpack_file(entry: Entry, archive: int, target: Path) -> None:
    """Copy one file straight from where it lies; what is zeros becomes a hole."""
    holes: list[tuple[int, int]] | None = entry.member.sparse  # type: ignore[assignment]  # the stub says int
    extents = holes if holes is not None else [(0, entry.member.size)]
    pieces = _pieces(entry, archive)
    with damage_told(str(entry.path)), target.open("xb") as file:
        for offset, length in extents:
            done = 0
            while done < length:
                part = pieces(min(length - done, _CHUNK))
                if not part:
                    raise ArchiveDamaged(f"unpacking snapshot member {entry.path}: it is cut", "truncated")
                if part != (_ZEROS if len(part) == _CHUNK else _ZEROS[: len(part)]):
                    file.seek(offset + done)
                    file.write(part)
                done += len(part)
        file.truncate(entry.member.size)


def _pieces(entry: Entry, archive: int) -> Callable[[int], bytes]:
    """Return a function that gives the next bytes of what is stored of a file, at most as many as asked."""
    if entry.position is None:
        stream = cast("IO[bytes]", entry.archive.fileobj)
        stream.seek(entry.member.offset_data)
        return stream.read
    at = entry.position

    def read(size: int) -> bytes:
        nonlocal at
        part = os.pread(archive, size, at)
        at += len(part)
        return part

    return read
