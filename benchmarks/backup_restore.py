"""How long a backup takes, and its restore into a searchable and verified collection.

100,000 points of 384 dimensions with payloads. We create a snapshot, download and check it, have the engine read it
back, store, sign and publish it; then restore it from the store into a new collection and hold that against the
manifest. Peers, in turns with us in the same run: the bare snapshot calls; scrolling everything to JSON; a plain tar.
Goals: ≤ 1.5 × the bare calls, ≥ 20 × faster than by JSON, and memory that does not grow with the data.
"""

import asyncio
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.console import Console

from benchmarks.cycle import Memory, cycle, cycle_apart
from benchmarks.peers import scroll_dump, snapshot_calls
from benchmarks.report import Goal, Report, Row, parser
from benchmarks.vectors import DIMENSION, Target, create, fill, vector_server
from reanimate.vector.config import creation_body
from reanimate.vector.server import VectorServer
from reanimate.vector.snapshots import create_shard_snapshot, delete_shard_snapshot
from reanimate.vector.transfers import download_shard_snapshot

__all__ = ["main"]

GOAL_BARE = 1.5
GOAL_USUAL = 20.0
GOAL_GROWTH = 1.2
TURNS = 2
"""How often the quick ones are measured per round, the second time in the opposite order."""
progress = Console(stderr=True)


@dataclass
class Times:
    """Seconds, one per turn."""

    backup: list[float] = field(default_factory=list)
    restore: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    tar: list[float] = field(default_factory=list)
    dump: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    to_bare: list[float] = field(default_factory=list)
    """Our time by the bare calls' of the same turn."""

    @property
    def ours(self) -> list[float]:
        return [one + other for one, other in zip(self.backup, self.restore, strict=True)]

    @property
    def usual(self) -> list[float]:
        return [one + other for one, other in zip(self.dump, self.load, strict=True)]


@dataclass(frozen=True)
class Bench:
    """One collection on one server, and a folder for files."""

    target: Target
    collection: str
    folder: Path

    @property
    def server(self) -> VectorServer:
        return self.target.server

    async def ours(self, times: Times) -> None:
        taken = await cycle(self.server, self.collection, self.folder)
        times.backup.append(taken.backup_s)
        times.restore.append(taken.restore_s)

    async def bare(self, times: Times) -> None:
        body = creation_body((await self.server.info(self.collection))["config"])
        new, file = f"{self.collection}-bare", self.folder / "bare.snapshot"
        key = self.target.api_key
        times.bare.append(
            await asyncio.to_thread(
                snapshot_calls.there_and_back, self.server.url, key, self.collection, new, body, file
            )
        )
        file.unlink()
        await self.server.delete_collection(new)

    async def usual(self, times: Times) -> None:
        url, key, file = self.server.url, self.target.api_key, self.folder / "dump.json.gz"
        began = time.perf_counter()
        await asyncio.to_thread(scroll_dump.dump, url, key, self.collection, file)
        times.dump.append(time.perf_counter() - began)
        new = f"{self.collection}-usual"
        began = time.perf_counter()
        await create(self.server, new)
        await asyncio.to_thread(scroll_dump.load, url, key, new, file)
        times.load.append(time.perf_counter() - began)
        file.unlink()
        await self.server.delete_collection(new)

    async def unpacked(self) -> Path:
        """Lay out the files of the collection's shard as a folder, for tar."""
        snapshot = await create_shard_snapshot(self.server, self.collection, 0, timeout_s=600)
        file, folder = self.folder / "once.snapshot", self.folder / "unpacked"
        await download_shard_snapshot(self.server, self.collection, 0, snapshot, file)
        await delete_shard_snapshot(self.server, self.collection, 0, snapshot.name)
        folder.mkdir()
        await asyncio.to_thread(subprocess.run, ["tar", "-xf", file, "-C", folder], check=True)
        file.unlink()
        return folder


def tar_there_and_back(folder: Path, scratch: Path) -> float:
    """Return the seconds that tar takes to pack a folder and to unpack it again."""
    with TemporaryDirectory(dir=scratch) as directory:
        file, out = Path(directory) / "it.tar", Path(directory) / "out"
        out.mkdir()
        began = time.perf_counter()
        subprocess.run(["tar", "-S", "-cf", file, "-C", folder, "."], check=True)
        subprocess.run(["tar", "-S", "-xf", file, "-C", out], check=True)
        return time.perf_counter() - began


async def measured(bench: Bench, rounds: int) -> Times:
    """Measure everybody in turns."""
    times, files = Times(), await bench.unpacked()
    await bench.ours(Times())  # once, unmeasured
    for number in range(rounds):
        for turn in range(TURNS):
            order = [bench.ours, bench.bare]
            for one in order if turn % 2 == 0 else reversed(order):
                await one(times)
            times.to_bare.append(times.ours[-1] / times.bare[-1])
            times.tar.append(await asyncio.to_thread(tar_there_and_back, files, bench.folder))
        await bench.usual(times)
        progress.print(
            f"round {number + 1} of {rounds}: ours {times.ours[-1]:.2f} s, bare calls {times.bare[-1]:.2f} s, "
            f"by JSON {times.usual[-1]:.1f} s, tar {times.tar[-1]:.2f} s; load average {os.getloadavg()[0]:.1f}"
        )
    return times


async def memory(target: Target, sizes: list[int], folder: Path) -> dict[int, Memory]:
    """Return what memory one backup and restore takes, by the number of points."""
    found, server = {}, target.server
    for points in sizes:
        name = f"bench-memory-{points}"
        progress.print(f"memory: {points} points")
        await create(server, name, index=False)
        try:
            await fill(server, name, points)
            found[points] = await cycle_apart(target, name, folder)
        finally:
            await server.delete_collection(name)
    return found


async def run(points: int, rounds: int, full: bool) -> Report:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="reanimate-bench-")))
        async with vector_server(folder) as target:
            server = target.server
            identity = await server.version()
            title = f"backup-restore: {points} × {DIMENSION} on {identity.title} {identity.version}"
            bench = Bench(target, "bench-backup", folder)
            await server.delete_collection(bench.collection)
            progress.print(f"filling {points} points")
            try:
                await create(server, bench.collection)
                await fill(server, bench.collection, points)
                times = await measured(bench, rounds)
            finally:
                for name in ("", "-bare", "-usual"):
                    await server.delete_collection(f"{bench.collection}{name}")
            sizes = [points // 10, points, *([points * 10] if full else [])]
            used = await memory(target, sizes, folder)
    return report(title, times, used)


def report(title: str, times: Times, used: dict[int, Memory]) -> Report:
    rows = [
        Row("reanimate", "backup, read back and published", "s", tuple(times.backup)),
        Row("reanimate", "restore, verified and searchable", "s", tuple(times.restore)),
        Row("reanimate", "both", "s", tuple(times.ours)),
        Row("bare snapshot calls", "both, nothing checked", "s", tuple(times.bare)),
        Row("scroll + JSON + gzip", "backup", "s", tuple(times.dump)),
        Row("scroll + JSON + gzip", "restore, index built", "s", tuple(times.load)),
        Row("scroll + JSON + gzip", "both", "s", tuple(times.usual)),
        Row("tar", "packed and unpacked, the floor", "s", tuple(times.tar)),
        Row("reanimate", "by the bare calls", "×", tuple(times.to_bare)),
    ]
    for points, memory in used.items():
        rows.append(Row("reanimate", f"peak memory, {points} points", "MB", (memory.ours / 1e6,)))
        rows.append(Row("its reader", f"allocated, {points} points", "MB", (memory.helpers / 1e6,)))
    ours = [memory.ours for memory in used.values()]
    goals = [
        Goal("backup + restore, by the bare snapshot calls", median(times.to_bare), "×", GOAL_BARE),
        Goal("faster than by JSON", median(times.usual) / median(times.ours), "×", GOAL_USUAL, at_least=True),
        Goal(f"peak memory at {max(used)} points by that at {min(used)}", max(ours) / ours[0], "×", GOAL_GROWTH),
    ]
    return Report(title, rows, goals)


def main() -> int:
    given = parser(__doc__ or "", points=100_000, rounds=3)
    given.add_argument("--full", action="store_true", help="memory also with ten times the points")
    asked = given.parse_args()
    return asyncio.run(run(asked.points, asked.rounds, asked.full)).show(asked.json)


if __name__ == "__main__":
    sys.exit(main())
