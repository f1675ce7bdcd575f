"""Writing snapshot files: a GNU tar as servers read and write it, sparse files kept sparse, hashed on the way."""

import hashlib
import os
import tarfile
from pathlib import Path
from typing import IO, cast

from reanimate.vector.tar_walk import ArchiveDamaged, Entry, damage_told

__all__ = ["TarWriter"]

_BLOCK = 512
_CHUNK = 1 << 20
_ENTRIES_IN_HEADER = 4
_ENTRIES_IN_EXTENSION = 21


class TarWriter:
    """Writes a GNU tar to a file, sparse files as sparse, and hashes what it writes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def add_bytes(self, name: str, content: bytes) -> None:
        info = _info(name, len(content))
        self._write(info.tobuf(tarfile.GNU_FORMAT))
        self._write(content)
        self._pad(len(content))

    def add_directory(self, name: str) -> None:
        info = _info(name, 0)
        info.type = tarfile.DIRTYPE
        info.mode = 0o755
        self._write(info.tobuf(tarfile.GNU_FORMAT))

    def add_file(self, name: str, path: Path) -> None:
        """Add a file; its holes take no room in the archive."""
        with path.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            extents = _data_extents(source.fileno(), size)
            stored = sum(length for _, length in extents)
            if stored == size:
                self._write(_info(name, size).tobuf(tarfile.GNU_FORMAT))
            else:
                self._write(_sparse_header(name, size, stored, extents))
            for offset, length in extents:
                self._copy(source, offset, length)
            self._pad(stored)

    def add_entry(self, name: str, entry: Entry) -> None:
        """Copy a file of another archive, its holes with it.

        Raises:
            ArchiveDamaged: it is cut.
        """
        size = entry.member.size
        holes = cast("list[tuple[int, int]] | None", entry.member.sparse)
        extents = [(0, size)] if holes is None else [(offset, length) for offset, length in holes if length]
        stored = sum(length for _, length in extents)
        if stored == size:
            self._write(_info(name, size).tobuf(tarfile.GNU_FORMAT))
        else:
            self._write(_sparse_header(name, size, stored, extents))
        with damage_told(str(entry.path)):
            source = cast("IO[bytes]", entry.archive.fileobj)
            source.seek(entry.member.offset_data)  # the pieces lie there one after the other
            left = stored
            while left:
                part = source.read(min(left, _CHUNK))
                if not part:
                    raise ArchiveDamaged(f"copying snapshot member {entry.path}: it is cut", "truncated")
                self._write(part)
                left -= len(part)
        self._pad(stored)

    def finish(self) -> None:
        """Write the end marker and sync."""
        self._write(bytes(2 * _BLOCK))
        self._file.flush()
        os.fsync(self._file.fileno())

    def _copy(self, source: IO[bytes], offset: int, length: int) -> None:
        source.seek(offset)
        while length:
            part = source.read(min(length, _CHUNK))
            if not part:
                raise OSError(f"a file of the shard became shorter while it was packed: {source.name}")
            self._write(part)
            length -= len(part)

    def _pad(self, size: int) -> None:
        if size % _BLOCK:
            self._write(bytes(_BLOCK - size % _BLOCK))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    return info


def _data_extents(descriptor: int, size: int) -> list[tuple[int, int]]:
    """Return (offset, length) of what is not a hole; block borders, so that readers need no read-modify-write."""
    extents: list[tuple[int, int]] = []
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:  # only a hole is left
            break
        end = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        extents.append((start, end - start))
        position = end
    return extents


def _sparse_header(name: str, size: int, stored: int, extents: list[tuple[int, int]]) -> bytes:
    """Build the header of a sparse file in the old GNU form, the one that servers write and read."""
    entries = [*extents, (size, 0)]  # the last says where the file ends when it ends with a hole
    info = _info(name, stored)
    info.type = tarfile.GNUTYPE_SPARSE
    blocks = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    at = len(blocks) - _BLOCK  # a long name has blocks of its own in front
    header = blocks[at:]
    first, rest = entries[:_ENTRIES_IN_HEADER], entries[_ENTRIES_IN_HEADER:]
    packed = b"".join(_octal(offset) + _octal(length) for offset, length in first)
    header[386 : 386 + len(packed)] = packed
    header[482] = 1 if rest else 0
    header[483:495] = _octal(size)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    blocks[at:] = header
    while rest:
        part, rest = rest[:_ENTRIES_IN_EXTENSION], rest[_ENTRIES_IN_EXTENSION:]
        block = bytearray(_BLOCK)
        packed = b"".join(_octal(offset) + _octal(length) for offset, length in part)
        block[: len(packed)] = packed
        block[504] = 1 if rest else 0
        blocks += block
    return bytes(blocks)


def _octal(number: int) -> bytes:
    if number < 8**11:
        return b"%011o\0" % number
    return b"\x80" + number.to_bytes(11, "big")
