"""What the process takes of the machine: memory, open files, tasks. All three stay flat in a process that is well."""

import asyncio
import os
from pathlib import Path

__all__ = ["footprint"]


def footprint() -> dict[str, float]:
    """Return resident memory in MB, open files and sockets, and tasks of the event loop; -1 where it is not known."""
    try:
        rss = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        files = sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:  # not Linux
        rss = files = -1
    return {"rss_mb": round(rss, 1), "open_files": files, "tasks": len(asyncio.all_tasks())}
