"""Our backup and restore of one collection, timed; and once in a process of its own, whose memory is looked at."""

import asyncio
import json
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from obstore.store import LocalStore

from benchmarks.vectors import Target
from reanimate.backups.backup import take_backup
from reanimate.backups.catalog import Catalog
from reanimate.clock import utcnow
from reanimate.restores.restore import new_collection_name, restore_and_switch
from reanimate.vector.server import VectorServer

__all__ = ["Cycle", "Memory", "cycle", "cycle_apart"]

_CHILD = "from benchmarks.cycle import child; child()"
_LOOK_EVERY_S = 0.02


@dataclass(frozen=True)
class Cycle:
    """Seconds until the backup was published, and then until its restored copy was verified and searchable."""

    backup_s: float
    restore_s: float
    stored_bytes: int

    @property
    def both_s(self) -> float:
        return self.backup_s + self.restore_s


@dataclass(frozen=True)
class Memory:
    """Peaks in bytes: of our process, and of what the processes that it started allocated (files mapped excluded)."""

    ours: int
    helpers: int


async def cycle(server: VectorServer, collection: str, folder: Path) -> Cycle:
    """Back a collection up into an empty repository and restore it, verification included; then clean up."""
    with TemporaryDirectory(dir=folder) as directory:
        catalog = Catalog(LocalStore(prefix=Path(directory) / "blobs", mkdir=True), Path(directory) / "scratch")
        began = time.perf_counter()
        manifest = await take_backup(server, collection, catalog)
        backed_up = time.perf_counter()
        name = new_collection_name(collection, utcnow())
        await restore_and_switch(server, catalog, manifest, name)
        restored = time.perf_counter()
        await server.delete_collection(name)
        return Cycle(backed_up - began, restored - backed_up, manifest.stored_bytes)


async def cycle_apart(target: Target, collection: str, folder: Path) -> Memory:
    """Do the same in a process of its own and return what memory it took.

    Raises:
        RuntimeError: it failed.
    """
    environment = {**os.environ, "BENCH_KEY": target.api_key or ""}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CHILD, target.server.url, collection, str(folder)),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the cycle of {collection} in its own process ended with {process.returncode}")
    return Memory(**json.loads(out))


def child() -> None:
    """Run one cycle and print the peaks of memory."""
    url, collection, folder = sys.argv[1:]
    done = threading.Event()
    helpers: list[int] = [0]
    watcher = threading.Thread(target=_watch_helpers, args=(done, helpers))
    watcher.start()
    try:
        asyncio.run(_run(url, collection, Path(folder)))
    finally:
        done.set()
        watcher.join()
    print(json.dumps({"ours": _kilobytes(os.getpid(), "VmHWM") << 10, "helpers": helpers[0] << 10}))


async def _run(url: str, collection: str, folder: Path) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=60.0) as http:
        await cycle(VectorServer("server", url, os.environ["BENCH_KEY"] or None, http), collection, folder)


def _watch_helpers(done: threading.Event, peak: list[int]) -> None:
    """Look at the processes that this one has started, until it is done. Mapped files are not counted."""
    while not done.wait(_LOOK_EVERY_S):
        children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
        pids = [int(pid) for file in children for pid in _words(file)]
        peak[0] = max(peak[0], sum(_kilobytes(pid, "RssAnon") for pid in pids))


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _kilobytes(pid: int, name: str) -> int:
    for line in _lines(Path(f"/proc/{pid}/status")):
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
