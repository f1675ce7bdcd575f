"""A walk through a Qdrant snapshot, a tar with tars in it, that lets nothing pass which is not whole and safe.

A stream that was cut at a member's border still answers 200 and still looks like a tar, and both the server and
the embedded engine accept it silently. So an archive is whole only when it ends with its end marker, and nothing else.
"""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal, cast

from reanimate.errors import Damaged

__all__ = ["ArchiveDamaged", "Entry", "damage_told", "walk_archive"]

Reason = Literal["not_a_tar", "truncated", "forbidden", "wrong_kind", "unreadable"]

_END_MARKER = 1024
_ALLOWED_TYPES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE)


class ArchiveDamaged(Damaged):
    """The file is not a whole, safe snapshot of the kind it was taken for."""

    def __init__(self, message: str, reason: Reason, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


@dataclass(frozen=True)
class Entry:
    """One file or directory of a snapshot, with nested segment archives already opened."""

    path: PurePosixPath
    """Where it belongs below the shard (or collection) directory: `segments/{uuid}/segment.json`, `0/wal/open-1`."""
    member: tarfile.TarInfo
    archive: tarfile.TarFile
    position: int | None
    """Where its content begins in the snapshot file; None when the archive that it is in is itself stored with holes.
    The pieces of a file with holes lie there one after the other."""

    def open(self) -> IO[bytes]:
        """Open the content of a regular file."""
        stream = self.archive.extractfile(self.member)
        if stream is None:
            raise ArchiveDamaged(f"reading snapshot member {self.member.name}: it is not a file", "forbidden")
        return stream


def walk_archive(path: Path, names: list[str] | None = None) -> Iterator[Entry]:
    """Yield every file and directory of a snapshot, nested segment archives included, checking each header on the way.

    `names` collects the names of the outer members, in order. The end of the file is checked when the iteration ends.

    Raises:
        ArchiveDamaged: as soon as something is wrong; what was yielded before must be thrown away.
    """
    with damage_told(path.name), path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as outer:
        for member in outer:
            location = _checked(member, path)
            if names is not None:
                names.append(member.name.rstrip("/"))
            yield from _entries_of(outer, member, location, path)
        _check_end(file, outer, path.name)


@contextmanager
def damage_told(name: str) -> Iterator[None]:
    """Turn what a tar reader raises on bad data into `ArchiveDamaged`; needed wherever an entry's content is read."""
    try:
        yield
    except tarfile.TarError as error:
        reason: Reason = "truncated" if "unexpected end" in str(error) else "not_a_tar"
        raise ArchiveDamaged(
            f"reading snapshot {name}: {error}", reason, hint="fetch it again, or take an older one"
        ) from error
    except (EOFError, ValueError, OverflowError) as error:
        raise ArchiveDamaged(f"reading snapshot {name}: {error}", "not_a_tar") from error


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
            yield Entry(location, member, outer, member.offset_data)
        elif len(parts) > at + 3:
            yield Entry(PurePosixPath(*parts[: at + 2], *parts[at + 3 :]), member, outer, member.offset_data)
    elif parts:
        yield Entry(location, member, outer, member.offset_data)


def _entries_of_segment(
    outer: tarfile.TarFile, member: tarfile.TarInfo, base: PurePosixPath, path: Path
) -> Iterator[Entry]:
    stream = outer.extractfile(member)
    if stream is None:
        raise ArchiveDamaged(f"reading snapshot {path.name}: {member.name} is not a file", "forbidden")
    begin = None if member.issparse() else member.offset_data
    with stream, tarfile.open(fileobj=stream, mode="r:") as inner:
        for item in inner:
            position = None if begin is None else begin + item.offset_data
            parts = _checked(item, path).parts
            if parts[:1] != ("snapshot",):
                raise ArchiveDamaged(
                    f"reading snapshot {path.name}: {item.name} is not where a segment keeps files", "unreadable"
                )
            if parts[1:2] == ("files",):
                if len(parts) > 2:
                    yield Entry(base.joinpath(*parts[2:]), item, inner, position)
            elif len(parts) > 1:
                yield Entry(base.joinpath(*parts[1:]), item, inner, position)
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
