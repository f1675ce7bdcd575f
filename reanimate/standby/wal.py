"""The engine's write-ahead log, as far as a snapshot must know it.

Every point carries the number of the operation that wrote it, and an operation with a lower number is skipped without
a word. A log that starts again at zero below such points would acknowledge writes and lose them, so an emptied log
must say where to go on.
"""

import os
import shutil
import struct
from pathlib import Path

import orjson

__all__ = ["drop_applied_log", "ensure_log", "log_file_name", "write_empty_log"]

_CAPACITY = 32 << 20
_MAGIC = b"wal\0"
_HEADER = 8
_CHECKSUM = 4


def log_file_name(last_version: int) -> str:
    """Name the file of an empty log whose next operation comes after `last_version`."""
    return f"closed-{last_version + 1}"


def write_empty_log(path: Path) -> None:
    """Write an empty log file, sparse, in the form that a server puts into its shard snapshots."""
    with path.open("xb") as file:
        file.write(_MAGIC + os.urandom(4))  # the seed of its checksums
        file.truncate(_CAPACITY)


def ensure_log(shard: Path) -> None:
    """Give a shard without a log an empty one that goes on after the newest of its segments.

    Raises:
        OSError, ValueError, KeyError: a segment's state cannot be read.
    """
    log = shard / "wal"
    log.mkdir(exist_ok=True)
    if any(path.name.startswith(("open-", "closed-")) for path in log.iterdir()):
        return
    write_empty_log(log / log_file_name(_newest_applied(shard)))


def drop_applied_log(shard: Path) -> None:
    """Empty a log that holds nothing newer than the segments, as in a snapshot that was flushed when it was made.

    Operations that were refused are in the log too, and doing one again can leave half a point. So a log is done again
    only where it must: in a snapshot taken while writes were on their way. Not for a shard that crashed, whose segments
    need not all be flushed as far as the newest of them.

    Raises:
        OSError, ValueError, KeyError: the log or a segment's state cannot be read.
    """
    log = shard / "wal"
    if log.exists() and _newest_logged(log) <= _newest_applied(shard):
        shutil.rmtree(log)
    ensure_log(shard)


def _newest_applied(shard: Path) -> int:
    states = [orjson.loads(path.read_bytes()) for path in (shard / "segments").glob("*/segment.json")]
    return max((state.get("version") or 0 for state in states), default=0)


def _newest_logged(log: Path) -> int:
    """Return the number of the last operation in the log, or -1. Closed files say where they start, open ones go on."""
    closed = sorted((int(path.name.removeprefix("closed-")), path) for path in log.glob("closed-*"))
    opened = sorted((int(path.name.removeprefix("open-")), path) for path in log.glob("open-*"))
    following = 0
    for start, path in closed:
        following = start + _count_entries(path)
    for _, path in opened:
        following += _count_entries(path)
    return following - 1


def _count_entries(path: Path) -> int:
    """Count the operations in one file: each a length, the bytes, padding and a checksum, with 8-byte borders."""
    count = 0
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        offset = _HEADER
        while offset + _HEADER + _CHECKSUM < size:
            file.seek(offset)
            (length,) = struct.unpack("<Q", file.read(8))
            offset += _HEADER + length + (4 - length) % 8 + _CHECKSUM
            if length == 0 or offset > size:
                break
            count += 1
    return count
