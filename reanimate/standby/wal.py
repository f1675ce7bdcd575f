"""The engine's write-ahead log, as far as a snapshot must know it.

Every point carries the number of the operation that wrote it, and an operation with a lower number is skipped without
a word. A log that starts again at zero below such points would acknowledge writes and lose them, so an emptied log
must say where to go on.
"""

import os
from pathlib import Path

import orjson

__all__ = ["ensure_log", "log_file_name", "write_empty_log"]

_CAPACITY = 32 << 20
_MAGIC = b"wal\0"


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
    states = [orjson.loads(path.read_bytes()) for path in (shard / "segments").glob("*/segment.json")]
    write_empty_log(log / log_file_name(max((state.get("version") or 0 for state in states), default=0)))
