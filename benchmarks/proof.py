"""How long a proof takes: a stored backup restored to scratch, held against its manifest, and removed again.

100,000 points of 384 dimensions with payloads. Every part is fetched, hashed and unpacked, every id listed and hashed,
sampled points compared, known queries asked exactly and through the index. First on a server of our own, which is
started and ended within the time; with QDRANT_URL also on that server, as one that is set aside. Then the same backup
with one wrong bit, which must be found. Goal: ≤ 3 s, and every proof says what is so.
"""

import asyncio
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import httpx
import obstore
from obstore.store import LocalStore
from rich.console import Console

from benchmarks.report import Goal, Report, Row, parser
from benchmarks.vectors import DIMENSION, create, fill, vector_server
from reanimate.backups.backup import take_backup
from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import VectorManifest
from reanimate.proofs.proof import prove_collection
from reanimate.proofs.scratch import Scratch
from reanimate.restores.read_only import BadPart

__all__ = ["main"]

GOAL_S = 3.0
COLLECTION = "bench-proof"
progress = Console(stderr=True)


@dataclass
class Times:
    """Seconds of each round, whole and by stage; a stage counts from the end of the one before."""

    whole: list[float] = field(default_factory=list)
    stages: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    right: int = 0


async def prove(catalog: Catalog, manifest: VectorManifest, scratch: Scratch, times: Times) -> None:
    """Prove once and take the times."""
    ended: dict[str, float] = {}
    began = time.perf_counter()
    checks = await prove_collection(
        catalog, manifest, scratch, lambda stage, done, total: ended.__setitem__(stage, time.perf_counter())
    )
    times.whole.append(time.perf_counter() - began)
    times.right += all(check.passed for check in checks)
    before = began
    for stage in ("create", "load", "examine"):
        times.stages[stage].append(ended[stage] - before)
        before = ended[stage]


async def found_damage(catalog: Catalog, manifest: VectorManifest, scratch: Scratch) -> bool:
    """Flip one bit of a stored part and say whether a proof finds it."""
    part = manifest.parts[0]
    content = bytearray((await obstore.get_async(catalog.store, part.blob)).bytes())
    content[len(content) // 3] ^= 1
    await obstore.put_async(catalog.store, part.blob, bytes(content))
    try:
        checks = await prove_collection(catalog, manifest, scratch)
    except BadPart:
        return True
    return not all(check.passed for check in checks)


async def run(points: int, rounds: int) -> Report:
    with TemporaryDirectory(prefix="reanimate-bench-") as directory:
        folder = Path(directory)
        catalog = Catalog(LocalStore(prefix=folder / "blobs", mkdir=True), folder / "scratch")
        async with vector_server(folder) as target, httpx.AsyncClient(trust_env=False, timeout=60.0) as http:
            server = target.server
            identity = await server.version()
            title = f"proof: {points} × {DIMENSION}, backed up from {identity.title} {identity.version}"
            await server.delete_collection(COLLECTION)
            progress.print(f"filling {points} points")
            try:
                await create(server, COLLECTION)
                await fill(server, COLLECTION, points)
                manifest = await take_backup(server, COLLECTION, catalog)
                places = {"on a server of our own": Scratch(http, folder / "notes")}
                if server.name == "server":
                    places["on the server, set aside"] = Scratch(http, folder / "notes", server)
                times = {place: Times() for place in places}
                for number in range(rounds):
                    progress.print(f"round {number + 1}")
                    for place, scratch in places.items():
                        await prove(catalog, manifest, scratch, times[place])
                damage = await found_damage(catalog, manifest, next(iter(places.values())))
            finally:
                await server.delete_collection(COLLECTION)
    return report(title, times, rounds, damage)


def report(title: str, times: dict[str, Times], rounds: int, damage: bool) -> Report:
    rows = []
    for place, measured in times.items():
        rows.append(Row(place, "the whole proof", "s", tuple(measured.whole)))
        for stage, words in (
            ("create", "server and collection there, the first part fetched meanwhile"),
            ("load", "parts fetched, hashed, unpacked, opened"),
            ("examine", "held against the manifest"),
        ):
            rows.append(Row(place, words, "s", tuple(measured.stages[stage])))
    own = next(iter(times.values()))
    goals = [
        Goal("a proof on a server of our own", median(own.whole), "s", GOAL_S),
        Goal("proofs that pass what is right", min(one.right for one in times.values()), "of all", rounds, True),
        Goal("one wrong bit found", float(damage), "of 1", 1.0, at_least=True),
    ]
    return Report(title, rows, goals)


def main() -> int:
    asked = parser(__doc__ or "", points=100_000, rounds=5).parse_args()
    return asyncio.run(run(asked.points, asked.rounds)).show(asked.json)


if __name__ == "__main__":
    sys.exit(main())
