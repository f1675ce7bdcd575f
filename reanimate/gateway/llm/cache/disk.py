"""The answers on disk, which outlive the process: a file each, named by its key, at most so many bytes together.

They are written aside, in batches, in a thread. What is not written yet is answered from the batch; what waits in too
great a number is let go: a cache may forget. Several gateways of one home share the folder.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import time
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from reanimate.errors import Damaged
from reanimate.gateway.llm.cache.entry import Entry, decode, encode

__all__ = ["Disk"]

log = logging.getLogger("reanimate.gateway")

_EACH_S = 0.2
_BATCH = 25
"""At most so many files each time: making one takes hundreds of microseconds, and calls come first."""
_WAITING_LIMIT = 16 * 1024 * 1024
_SWEEP_EACH_S = 300.0
_SWEEP_SHARE = 20
"""Also swept whenever the limit divided by this has been written."""
_BLOCK = 4096
"""What a file takes on disk is a multiple of this."""
_BLOCK_BITS = 20
_MOST_BLOCKS = (1 << _BLOCK_BITS) - 1
_PAUSE_S = 0.001
_ROOM = 0.9
"""A sweep makes room down to this share of the limit."""


class Disk:
    """A folder. With a limit of 0 it is not used."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.limit = limit
        self.size = 0
        """Bytes in the folder at the last sweep, and what was written since."""
        self.corrupt = 0
        """Files that were not what their checksum says, and were removed."""
        self.dropped = 0
        """Answers that were not written, because too many waited or the disk refused them."""
        self._folder = folder
        self._waiting: OrderedDict[bytes, Entry] = OrderedDict()
        self._waiting_size = 0
        self._underway: dict[bytes, Entry] = {}
        self._asked: dict[bytes, asyncio.Future[Entry | None]] = {}
        """What the next turn of a thread reads."""
        self._reading: asyncio.Task[None] | None = None
        self._written = 0
        self._refused = False

    async def get(self, key: bytes) -> Entry | None:
        """Return what is kept under `key`; a damaged file is nothing, and is removed."""
        if not self.limit:
            return None
        if (entry := self._waiting.get(key) or self._underway.get(key)) is not None:
            return entry
        return await asyncio.to_thread(self._read, key)

    async def get_with_others(self, key: bytes) -> Entry | None:
        """Return the same as `get`, for whom nobody waits: all that is asked for meanwhile takes one turn of a thread.

        In an outage that is every call, and threads are in the way of the calls themselves.
        """
        if not self.limit:
            return None
        if (entry := self._waiting.get(key) or self._underway.get(key)) is not None:
            return entry
        loop = asyncio.get_running_loop()
        asked = self._asked.setdefault(key, loop.create_future())
        if self._reading is None:
            self._reading = loop.create_task(self._read_asked())
        return await asyncio.shield(asked)

    async def _read_asked(self) -> None:
        asked: dict[bytes, asyncio.Future[Entry | None]] = {}
        try:
            while self._asked:
                asked, self._asked = self._asked, {}
                found = await asyncio.to_thread(self._read_each, list(asked))
                for future, entry in zip(asked.values(), found, strict=True):
                    future.set_result(entry)
        finally:
            self._reading = None
            for future in (*asked.values(), *self._asked.values()):  # when the process ends in between
                future.cancel()
            self._asked = {}

    def put(self, entry: Entry) -> None:
        """Have an entry written."""
        if entry.size > self.limit // _SWEEP_SHARE:
            return
        if (old := self._waiting.pop(entry.key, None)) is not None:
            self._waiting_size -= old.size
        self._waiting[entry.key] = entry
        self._waiting_size += entry.size
        while self._waiting_size > _WAITING_LIMIT:
            _, oldest = self._waiting.popitem(last=False)
            self._waiting_size -= oldest.size
            self.dropped += 1

    async def keep(self) -> None:
        """Write what waits, and make room, until cancelled; then write the rest."""
        swept = 0.0
        loop = asyncio.get_running_loop()
        try:
            while True:
                if self.limit and (not swept or loop.time() - swept > _SWEEP_EACH_S or self._is_full()):
                    swept = loop.time()
                    await asyncio.to_thread(self._sweep)
                await asyncio.sleep(_EACH_S)
                if self._waiting:
                    await asyncio.to_thread(self._write, self._take(_BATCH))
                    self._underway = {}
        finally:
            self._write([*self._underway.values(), *self._take(len(self._waiting))])

    def _is_full(self) -> bool:
        return self._written * _SWEEP_SHARE > self.limit

    def _take(self, count: int) -> list[Entry]:
        taken = [self._waiting.popitem(last=False)[1] for _ in range(min(count, len(self._waiting)))]
        self._waiting_size -= sum(entry.size for entry in taken)
        self._underway = {entry.key: entry for entry in taken}
        return taken

    def _path(self, key: bytes) -> Path:
        name = key.hex()
        return self._folder / name[:2] / name

    def _read(self, key: bytes) -> Entry | None:
        path = self._path(key)
        try:
            entry = decode(path.read_bytes())
            if entry.key != key:
                raise Damaged("a cached answer is in another's place")
        except FileNotFoundError:
            return None
        except (Damaged, OSError) as error:
            self.corrupt += 1
            log.warning("%s is not used: %s", path, error)
            try:
                path.unlink(missing_ok=True)
            except OSError:
                log.warning("%s cannot be removed", path)
            return None
        return entry

    def _read_each(self, keys: list[bytes]) -> list[Entry | None]:
        return [self._read(key) for key in keys]

    def _write(self, entries: list[Entry]) -> None:
        """Write files, each whole or not at all. Not synced: the checksum tells after a crash, and a miss is cheap."""
        for entry in entries:
            path = str(self._path(entry.key))
            content = encode(entry)
            try:
                try:
                    _put(path, content)
                except FileNotFoundError:
                    Path(path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                    _put(path, content)
            except OSError as error:
                self.dropped += 1
                if not self._refused:  # said once until it works again
                    log.error("cannot keep answers in %s: %s", self._folder, error)  # noqa: TRY400
                self._refused = True
            else:
                self._refused = False
                size = _blocks(len(content)) * _BLOCK
                self.size += size
                self._written += size

    def _sweep(self) -> None:
        """Remove the oldest files until the folder is within its limit.

        There can be tens of thousands: they are gone through twice instead of being remembered, and slowly, since the
        calls need this process too.
        """
        self._written = 0
        stamps = array("Q", (int(changed * 1000) << _BLOCK_BITS | blocks for changed, blocks, _ in self._files()))
        left = sum(stamp & _MOST_BLOCKS for stamp in stamps)
        self.size = left * _BLOCK
        if self.size <= self.limit:
            return
        last = 0
        for stamp in sorted(stamps):
            left -= stamp & _MOST_BLOCKS
            last = stamp >> _BLOCK_BITS
            if left * _BLOCK <= self.limit * _ROOM:
                break
        for changed, blocks, path in self._files():
            if int(changed * 1000) > last:
                continue
            try:
                Path(path).unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s cannot be removed: %s", path, error)
            else:
                self.size -= blocks * _BLOCK

    def _files(self) -> Iterator[tuple[float, int, str]]:
        """Yield time of change, blocks and path of each file, also of those that a crash left aside."""
        try:
            folders = [item.path for item in os.scandir(self._folder) if item.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return
        for folder in folders:
            for item in os.scandir(folder):
                try:
                    found = item.stat(follow_symlinks=False)
                except FileNotFoundError:  # another gateway removed it
                    continue
                yield found.st_mtime, min(_blocks(found.st_size), _MOST_BLOCKS), item.path
            time.sleep(_PAUSE_S)


def _blocks(size: int) -> int:
    return -(-size // _BLOCK)


def _put(path: str, content: bytes) -> None:
    """Replace a file, in few system calls."""
    aside = f"{path}.{secrets.token_hex(4)}"
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        try:
            if os.write(descriptor, content) != len(content):
                raise OSError("the disk took only a part")
        finally:
            os.close(descriptor)
        Path(aside).rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(aside).unlink()
        raise
