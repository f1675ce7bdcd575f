"""How soon, how fast and how well an offline standby answers, when no other server is left.

100,000 points of 384 dimensions with payloads, backed up. From the stored backup to the first answer: fetched, hashed,
loaded beside what is served, verified, switched. Then searches with a filter over HTTP, one at a time, held against
exact search in numpy. Peers: the same points as gzip JSON loaded into numpy, and into the vendor's local mode. Goals:
≤ 2 s to the first answer, recall with filters ≥ 0.99; and every answer says how old it is.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
from obstore.store import LocalStore
from rich.console import Console

from benchmarks.peers import scroll_dump
from benchmarks.peers.json_search import LocalMode, NumpyExport
from benchmarks.report import Goal, Report, Row, parser, percentile
from benchmarks.vectors import DIMENSION, create, fill, vector_server
from reanimate.backups.backup import take_backup
from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import VectorManifest
from reanimate.backups.published import Published
from reanimate.proofs.own_server import own_server
from reanimate.restores.offline import refresh
from reanimate.vector.server import Json, VectorServer

__all__ = ["main"]

GOAL_S = 2.0
GOAL_RECALL = 0.99
COLLECTION = "bench-offline"
LIMIT = 10
AGE = "x-reanimate-snapshot-age"
progress = Console(stderr=True)


@dataclass
class Found:
    """What was measured of one way to search."""

    first_s: list[float] = field(default_factory=list)
    started_s: list[float] = field(default_factory=list)
    """The same, with the start of the standby's process in it."""
    took_ms: list[float] = field(default_factory=list)
    recalls: list[float] = field(default_factory=list)
    without_age: int = 0


@dataclass(frozen=True)
class Questions:
    """Vectors to ask for, and the right answers of each among the points of one language."""

    vectors: list[list[float]]
    answers: list[set[int]]

    @classmethod
    def about(cls, export: NumpyExport, count: int) -> "Questions":
        """Ask for points between stored ones, so that none is its own answer."""
        random = np.random.default_rng(11)
        places = random.integers(0, len(export.payloads), (count, 2))
        wanted = export.matrix[places[:, 0]] + export.matrix[places[:, 1]]
        vectors = [row.tolist() for row in wanted / np.linalg.norm(wanted, axis=1, keepdims=True)]
        return cls(vectors, [set(export.search(vector, "de", LIMIT)) for vector in vectors])


async def ask(standby: VectorServer, vector: list[float], found: Found) -> set[int]:
    """Search for German points near a vector, as a client would, and take note of an answer without its age."""
    body: Json = {
        "query": vector,
        "limit": LIMIT,
        "with_payload": True,
        "filter": {"must": [{"key": "lang", "match": {"value": "de"}}]},
    }
    path = standby.path(COLLECTION, "points/query")
    answer = await standby.request("POST", path, doing="searching", timeout_s=60.0, json=body)
    found.without_age += AGE not in answer.headers
    return {int(point["id"]) for point in standby.result(answer, "searching")["points"]}


async def offline(
    catalog: Catalog, backup: Published[VectorManifest], questions: Questions, folder: Path, rounds: int
) -> Found:
    """Load the backup into a fresh standby, round by round, and search in the last one."""
    found = Found()
    async with httpx.AsyncClient(trust_env=False, timeout=60.0) as http:
        for number in range(rounds):
            progress.print(f"offline standby, round {number + 1}")
            began = time.perf_counter()
            async with own_server("offline", folder / f"offline-{number}", http, "--offline") as standby:
                await standby.version()
                ready = time.perf_counter()
                await refresh(standby, catalog, backup)
                await ask(standby, questions.vectors[0], found)
                ended = time.perf_counter()
                found.first_s.append(ended - ready)
                found.started_s.append(ended - began)
                if number + 1 == rounds:
                    await search_all(standby, questions, found)
    return found


async def search_all(standby: VectorServer, questions: Questions, found: Found) -> None:
    for vector, right in zip(questions.vectors, questions.answers, strict=True):
        began = time.perf_counter()
        answer = await ask(standby, vector, found)
        found.took_ms.append((time.perf_counter() - began) * 1000)
        found.recalls.append(len(answer & right) / LIMIT)


def searched(search: Callable[[list[float], str, int], list[int]], questions: Questions, count: int) -> Found:
    """Ask a peer in this process the first of the questions."""
    found = Found()
    for vector, right in zip(questions.vectors[:count], questions.answers, strict=False):
        began = time.perf_counter()
        answer = search(vector, "de", LIMIT)
        found.took_ms.append((time.perf_counter() - began) * 1000)
        found.recalls.append(len(right.intersection(answer)) / LIMIT)
    return found


async def run(points: int, rounds: int, searches: int) -> Report:
    with TemporaryDirectory(prefix="reanimate-bench-") as directory:
        folder = Path(directory)
        catalog = Catalog(LocalStore(prefix=folder / "blobs", mkdir=True), folder / "scratch")
        dump = folder / "export.json.gz"
        async with vector_server(folder) as target:
            server = target.server
            identity = await server.version()
            title = f"offline-search: {points} × {DIMENSION}, backed up from {identity.title} {identity.version}"
            await server.delete_collection(COLLECTION)
            progress.print(f"filling {points} points")
            try:
                await create(server, COLLECTION)
                await fill(server, COLLECTION, points)
                taken = await take_backup(server, COLLECTION, catalog)
                progress.print("exporting to JSON, for the peers")
                await asyncio.to_thread(scroll_dump.dump, server.url, target.api_key, COLLECTION, dump)
            finally:
                await server.delete_collection(COLLECTION)
        began = time.perf_counter()
        export = NumpyExport.load(dump)
        export_s = time.perf_counter() - began
        questions = Questions.about(export, searches)
        backup = catalog.find(taken.id, VectorManifest)
        ours = await offline(catalog, backup, questions, folder, rounds)
        progress.print("peers")
        numpy = searched(export.search, questions, searches)
        numpy.first_s.append(export_s + numpy.took_ms[0] / 1000)
        local_mode = LocalMode(export)
        local = searched(local_mode.search, questions, max(5, searches // 20))
        local.first_s.append(export_s + local_mode.filled_s + local.took_ms[0] / 1000)
        local_mode.close()
    return report(title, {"offline standby": ours, "JSON in numpy": numpy, "JSON in the client's local mode": local})


def report(title: str, found: dict[str, Found]) -> Report:
    rows: list[Row] = []
    for who, one in found.items():
        rows.append(Row(who, "stored to first answer", "s", tuple(one.first_s)))
        if one.started_s:
            rows.append(Row(who, "the same, its process started too", "s", tuple(one.started_s)))
        rows.append(Row(who, "filtered search, p50", "ms", (percentile(one.took_ms, 50),)))
        rows.append(Row(who, "filtered search, p99", "ms", (percentile(one.took_ms, 99),)))
        rows.append(Row(who, "recall@10 with the filter", "", (sum(one.recalls) / len(one.recalls),)))
    ours = found["offline standby"]
    goals = [
        Goal("from a stored backup to the first answer", median(ours.first_s), "s", GOAL_S),
        Goal("recall with filters", sum(ours.recalls) / len(ours.recalls), "", GOAL_RECALL, at_least=True),
        Goal("answers without their age", float(ours.without_age), "", 0.0),
    ]
    return Report(title, rows, goals)


def main() -> int:
    given: Any = parser(__doc__ or "", points=100_000, rounds=5, searches=400).parse_args()
    return asyncio.run(run(given.points, given.rounds, given.searches)).show(given.json)


if __name__ == "__main__":
    sys.exit(main())
