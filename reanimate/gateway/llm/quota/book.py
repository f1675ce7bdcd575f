"""What this gateway has used, in a file that is mapped into memory: a store of eight bytes per change, and a kill at
any line loses none of them. The disk itself gets it every few seconds, for when the machine dies.
"""

import contextlib
import fcntl
import logging
import mmap
import os
import secrets
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson

from reanimate.quota.demand import AccountKey

__all__ = ["Book", "Page"]

log = logging.getLogger("reanimate.gateway")

_MAGIC = b"RQBOOK1\n"
_PAGE_BYTES = 512
_PAGES = 1024
_CELLS = 8
"""Whole numbers at the head of a page; what the page is about follows as text."""
_HEADER = struct.Struct("<8s32sq")
_SEQ_CELL = 5  # of the header: after 40 bytes
_TEXT = struct.Struct("<IH")
_TEXT_AT = _CELLS * 8
_BOOKS = 64

DRAWN, GRANTED, LEFT, TOLD, HEARD, ENDS, USED = range(7)
"""The cells of a page: used and reserved; lent; what was left then; `drawn` when the control plane was last heard;
whether it ever was; when the window ends; whether the page is in use."""


class Page(NamedTuple):
    """One account's place in the book: `cells[base + DRAWN]` and so on."""

    cells: "memoryview[int]"
    base: int
    number: int


class Book:
    """One file, of one process: the first `quota*.book` in `home` that no other process has.

    Where none can be had (a full disk, say), the book is in memory only: calls matter more than it does.
    """

    def __init__(self, home: Path) -> None:
        self.path = home
        self._file: int | None = None
        size = _PAGE_BYTES * (_PAGES + 1)
        try:
            self.path, self._file = _take(home)
            self._memory = mmap.mmap(self._file, size)
        except OSError as error:
            log.error("no book of quotas can be kept in %s, a restart will forget what was used: %s", home, error)  # noqa: TRY400
            self._memory = mmap.mmap(-1, size)
        self._cells = memoryview(self._memory).cast("q")
        magic, name, _ = _HEADER.unpack_from(self._memory)
        if magic != _MAGIC:
            if any(magic):
                log.error("%s is no book of quotas: it begins anew, leases that it held count as used", self.path)
                self._memory[:] = bytes(size)
            name = secrets.token_hex(16).encode()
            _HEADER.pack_into(self._memory, 0, _MAGIC, name, 0)
        self.name: str = name.decode("ascii", "replace")
        """Of this book; another one is another story of what was used."""
        self._free = [n for n in range(_PAGES, 0, -1) if not self._cells[self._base(n) + USED]]

    @staticmethod
    def _base(number: int) -> int:
        return number * _PAGE_BYTES // 8

    def next_seq(self) -> int:
        """Return a number larger than all before, restarts included."""
        self._cells[_SEQ_CELL] += 1
        return self._cells[_SEQ_CELL]

    def pages(self) -> Iterator[tuple[AccountKey, Page]]:
        """Yield what is written in the book. A page that is not readable is cleared: its lease runs out unused."""
        for number in range(1, _PAGES + 1):
            base = self._base(number)
            if not self._cells[base + USED]:
                continue
            at = number * _PAGE_BYTES + _TEXT_AT
            check, length = _TEXT.unpack_from(self._memory, at)
            text = self._memory[at + _TEXT.size : at + _TEXT.size + min(length, _PAGE_BYTES)]
            if zlib.crc32(text) != check:
                log.error("page %d of %s is damaged and is cleared", number, self.path)
                self.clear(Page(self._cells, base, number))
                continue
            yield AccountKey(*orjson.loads(text)), Page(self._cells, base, number)

    def page(self, key: AccountKey, ends: int) -> Page:
        """Begin a page; when the book is full, or the names are too long for it, one that lives in memory only."""
        text = orjson.dumps(list(key))
        if not self._free or len(text) > _PAGE_BYTES - _TEXT_AT - _TEXT.size:
            return self.loose()
        number = self._free.pop()
        base = self._base(number)
        at = number * _PAGE_BYTES + _TEXT_AT
        for cell in range(_CELLS):
            self._cells[base + cell] = 0
        _TEXT.pack_into(self._memory, at, zlib.crc32(text), len(text))
        self._memory[at + _TEXT.size : at + _TEXT.size + len(text)] = text
        self._cells[base + ENDS] = ends
        self._cells[base + USED] = 1
        return Page(self._cells, base, number)

    @staticmethod
    def loose() -> Page:
        """Return a page that is in no book."""
        return Page(memoryview(bytearray(_CELLS * 8)).cast("q"), 0, 0)

    def clear(self, page: Page) -> None:
        """Give a page back: all that it says has been told."""
        page.cells[page.base + USED] = 0
        if page.number:
            self._free.append(page.number)

    def sync(self) -> None:
        """Have it written to the disk (blocks)."""
        self._memory.flush()

    def close(self) -> None:
        self._memory.flush()
        self._cells.release()
        with contextlib.suppress(BufferError):  # a page is still held somewhere: it is unmapped with the process
            self._memory.close()
        if self._file is not None:
            os.close(self._file)


def _take(home: Path) -> tuple[Path, int]:
    """Return the first book that is free, locked.

    Raises:
        OSError: it cannot be opened, or filled.
    """
    home.mkdir(parents=True, exist_ok=True)
    for number in range(1, _BOOKS + 1):
        path = home / ("quota.book" if number == 1 else f"quota-{number}.book")
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _fill(file, _PAGE_BYTES * (_PAGES + 1))
        except BlockingIOError:
            os.close(file)
        except OSError:
            os.close(file)
            raise
        else:
            return path, file
    raise OSError(f"{_BOOKS} processes have one there already")


def _fill(file: int, size: int) -> None:
    """Give the file blocks that are really there: a disk that is full later would be a signal amid a call."""
    if (lacking := size - os.fstat(file).st_size) > 0:
        os.lseek(file, 0, os.SEEK_END)
        os.write(file, bytes(lacking))
