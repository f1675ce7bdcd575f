"""A partial snapshot without the files that the full one holds just so.

A server sends every file of a segment that was touched, and a deleted point touches a whole segment of vectors: many
files come that have not changed by a byte. They need not be kept: what a partial snapshot lacks is the full one's.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from reanimate.vector.partial import Merged, PartialFacts, inside
from reanimate.vector.tar_walk import Entry, damage_told, walk_archive
from reanimate.vector.tar_write import TarWriter

__all__ = ["content_digest", "slim_partial"]

_WINDOW = 64 << 10

Name = tuple[str, str]


def slim_partial(full: Path, partial: Path, facts: PartialFacts, into: Path) -> Merged:
    """Write `partial` without what is the same in `full`; `facts` are those of `partial`. The same every time.

    Raises:
        ArchiveDamaged: one of them is not whole.
        OSError: no room.
    """
    sent = {(segment, name) for segment, names in facts.sent.items() for name in names if segment in facts.segments}
    sent -= {(segment, name) for segment, name in sent if name not in facts.segments[segment].files}
    before = dict(_digests(full, sent))
    same = {name for name, digest in _digests(partial, set(before)) if before[name] == digest}
    try:
        with into.open("xb") as file:
            writer = TarWriter(file)
            for entry in walk_archive(partial):
                segment, name = inside(entry.path)
                if segment is not None and (segment, name) in same:
                    continue
                where = f"segments/{segment}/files/{name}" if segment else str(entry.path)
                if entry.member.isdir():
                    writer.add_directory(where)
                else:
                    writer.add_entry(where, entry)
            writer.finish()
    except BaseException:
        into.unlink(missing_ok=True)
        raise
    return Merged(writer.size, writer.sha256)


def _digests(archive: Path, wanted: set[Name]) -> Iterator[tuple[Name, bytes]]:
    for entry in walk_archive(archive):
        segment, name = inside(entry.path)
        if segment is not None and (segment, name) in wanted and not entry.member.isdir():
            yield (segment, name), content_digest(entry)


def content_digest(entry: Entry) -> bytes:
    """Hash what a file holds, whether its zeros are written or are holes."""
    digest = hashlib.sha256(entry.member.size.to_bytes(8, "little"))
    with damage_told(str(entry.path)):
        for at, window in _windows(entry):
            content = window.rstrip(b"\0")
            if content:
                digest.update(at.to_bytes(8, "little") + len(content).to_bytes(4, "little"))
                digest.update(content)
    return digest.digest()


def _windows(entry: Entry) -> Iterator[tuple[int, bytes]]:
    """Yield (number, content) of every window of the file in which something is stored."""
    holes = cast("list[tuple[int, int]] | None", entry.member.sparse)
    extents = [(0, entry.member.size)] if holes is None else [(offset, length) for offset, length in holes if length]
    source = cast("IO[bytes]", entry.archive.fileobj)
    source.seek(entry.member.offset_data)
    current, gathered = -1, bytearray()
    for offset, length in extents:
        position, end = offset, offset + length
        while position < end:
            number, inner = divmod(position, _WINDOW)
            if number != current:
                if current >= 0:
                    yield current, bytes(gathered)
                current, gathered = number, bytearray()
            part = source.read(min(_WINDOW - inner, end - position))
            if not part:
                raise EOFError("it is cut")
            gathered += bytes(inner - len(gathered)) + part
            position += len(part)
    if current >= 0:
        yield current, bytes(gathered)
