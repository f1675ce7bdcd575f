"""`python -m reanimate.backups.reader`: load shard snapshots into the engine and print what is in them, as JSON.

Run by `facts.py` only. One JSON object comes on standard input; a failure is one line on standard error, exit code 1.
"""

import hashlib
import heapq
import json
import os
import sys
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from qdrant_edge import CountRequest, EdgeShard, Query, QueryRequest, ScrollRequest, SearchParams

from reanimate.backups.hashing import IdsHash, point_hash, shortest_floats
from reanimate.vector.config import dense_vectors, smaller_is_nearer

__all__ = ["main", "read"]

HITS = 10
"""Neighbours kept per golden query."""

_PAGE = 4096

Json = dict[str, Any]
Id = int | str


def main() -> int:
    """Read the request, print the facts."""
    asked = json.load(sys.stdin)
    try:
        facts = read(asked)
    except Exception as error:  # noqa: BLE001 - the engine raises plain Exception; its words are handed to the parent
        sys.stderr.write(f"{error}\n".replace("\n", " ").strip() + "\n")
        return 1
    sys.stdout.write(json.dumps(facts))
    return 0


def read(asked: Json) -> Json:
    """Load every shard and merge what they say. The shards stay open: they are copies that nobody needs afterwards."""
    shards = [_load(Path(path), Path(asked["scratch"]) / shard_id) for shard_id, path in asked["shards"].items()]
    ids = IdsHash()
    chosen = _chosen((page for shard in shards for page in _pages(shard)), ids, asked["salt"], asked["sentinels"])
    points = [(point_id, _point(shards, point_id)) for point_id in chosen]
    return {
        "count": sum(shard.count(CountRequest(exact=True)) for shard in shards),
        "ids_sha256": ids.hexdigest(),
        "sentinels": [
            {"id": point_id, "sha256": point_hash(point_id, point.vector, point.payload)} for point_id, point in points
        ],
        "golden": list(_golden(shards, asked["config"], points, asked["golden"])),
    }


def _load(snapshot: Path, into: Path) -> EdgeShard:
    into.parent.mkdir(parents=True, exist_ok=True)
    EdgeShard.unpack_snapshot(str(snapshot), str(into))
    return EdgeShard.load(str(into))


def _pages(shard: EdgeShard) -> Iterator[list[Id]]:
    """Give every id of a shard, some thousands at a time."""
    offset = None
    while True:
        page, offset = shard.scroll(ScrollRequest(limit=_PAGE, offset=offset, with_payload=False, with_vector=False))
        yield [_plain(record.id) for record in page]
        if offset is None:
            return


def _chosen(pages: Iterable[list[Id]], ids: IdsHash, salt: str, wanted: int) -> list[Id]:
    """Add every id to `ids`, and return an even sample of them that depends on the salt, and on nothing else."""
    mask = np.uint64(int.from_bytes(hashlib.sha256(salt.encode()).digest()[:8], "big"))
    best: list[tuple[int, Id]] = []
    for page in pages:
        ranks = np.frombuffer(ids.add_all(page), dtype=">u8")[::4].astype(np.uint64) ^ mask
        lowest = [(int(ranks[at]), page[at]) for at in np.argsort(ranks)[:wanted]]
        best = heapq.nsmallest(wanted, [*best, *lowest], key=itemgetter(0))
    return [point_id for _, point_id in best]


def _point(shards: list[EdgeShard], point_id: Id) -> Any:
    for shard in shards:
        if found := shard.retrieve([point_id], True, True):
            return found[0]
    raise LookupError(f"point {point_id} is listed and cannot be read")


def _golden(shards: list[EdgeShard], config: Json, points: list[tuple[Id, Any]], wanted: int) -> Iterator[Json]:
    """Ask for the exact neighbours of stored vectors, taking the dense vectors in turn."""
    dense = {name: params for name, params in dense_vectors(config).items() if not params.get("multivector_config")}
    asked = 0
    for point_id, point in points:
        named = point.vector if isinstance(point.vector, dict) else {"": point.vector}
        usable = [name for name in dense if named.get(name) is not None]
        if not usable or asked == wanted:
            continue
        using = usable[asked % len(usable)]
        vector = shortest_floats(named[using])
        ascending = smaller_is_nearer(dense[using]["distance"])
        hits = _nearest(shards, vector, using, ascending)
        yield {"using": using, "point": point_id, "vector": vector, "limit": HITS, "hits": hits}
        asked += 1


def _nearest(shards: list[EdgeShard], vector: list[float], using: str, ascending: bool) -> list[Json]:
    request = QueryRequest(
        query=Query.Nearest(vector, using=using) if using else Query.Nearest(vector),
        limit=HITS,
        params=SearchParams(exact=True),
    )
    hits = [hit for shard in shards for hit in shard.query(request)]
    hits.sort(key=lambda hit: hit.score if ascending else -hit.score)
    return [{"id": _plain(hit.id), "score": float(hit.score)} for hit in hits[:HITS]]


def _plain(point_id: Any) -> Id:
    return point_id if isinstance(point_id, int) else str(point_id)


if __name__ == "__main__":
    ended = main()
    sys.stdout.flush()
    os._exit(ended)  # at once: the engine would first write what it has in memory back to files that are thrown away
