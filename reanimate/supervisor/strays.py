"""Find processes by the mark that every descendant of a supervisor inherits in its environment (Linux)."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

__all__ = ["MARK", "end_strays", "marked"]

MARK = "REANIMATE_SUPERVISOR"
"""Environment variable: one value per run of `reanimate up`. A descendant that opened a session of its own keeps it."""


def marked(mark: str) -> Iterator[int]:
    """Yield the pids of live processes that carry `mark`, ours excepted; none where there is no /proc."""
    wanted = f"{MARK}={mark}".encode()
    proc = Path("/proc")
    for entry in proc.iterdir() if proc.is_dir() else ():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:  # it ended meanwhile, or is another user's
            continue
        if wanted in environment.split(b"\0"):
            yield int(entry.name)


def end_strays(mark: str, *, but: frozenset[int] = frozenset()) -> int:
    """SIGKILL every process that carries `mark` except those in `but`; return how many there were."""
    ended = 0
    for pid in marked(mark):
        if pid in but:
            continue
        try:
            os.kill(pid, signal.SIGKILL)
            ended += 1
        except ProcessLookupError:
            continue
    return ended
