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
from qdrant_edge import (
    CountRequest,
    EdgeShard,
    Query,
    QueryBatchRequest,
    QueryRequest,
    ScrollRequest,
    SearchParams,
)

from reanimate.backups.hashing import IdsHash, payload_hash, point_hash, vectors_hash
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


_open: list[EdgeShard] = []
"""Never closed: they are copies that nobody needs afterwards, and the engine would write out all that it has."""


def read(asked: Json) -> Json:
    """Load every shard and merge what they say."""
    shards = [_load(Path(path), Path(asked["scratch"]) / shard_id) for shard_id, path in asked["shards"].items()]
    _open.extend(shards)
    ids = IdsHash()
    chosen = _chosen((page for shard in shards for page in _pages(shard)), ids, asked["salt"], asked["sentinels"])
    points = [(point_id, _point(shards, point_id)) for point_id in chosen]
    golden, index_recall = _golden(shards, asked["config"], points, asked["golden"])
    return {
        "count": sum(shard.count(CountRequest(exact=True)) for shard in shards),
        "ids_sha256": ids.hexdigest(),
        "sentinels": [
            {
                "id": point_id,
                "sha256": point_hash(point_id, point.vector, point.payload),
                "vectors_sha256": vectors_hash(point.vector),
                "payload_sha256": payload_hash(point.payload),
            }
            for point_id, point in points
        ],
        "golden": golden,
        "index_recall": index_recall,
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


def _golden(
    shards: list[EdgeShard], config: Json, points: list[tuple[Id, Any]], wanted: int
) -> tuple[list[Json], float | None]:
    """Ask for the exact neighbours of stored vectors, the dense vectors in turn; and whether the index finds them."""
    dense = {name: params for name, params in dense_vectors(config).items() if not params.get("multivector_config")}
    golden: list[Json] = []
    for point_id, point in points:
        named = point.vector if isinstance(point.vector, dict) else {"": point.vector}
        usable = [name for name in dense if named.get(name) is not None]
        if usable and len(golden) < wanted:
            using = usable[len(golden) % len(usable)]
            vector = [float(one) for one in named[using]]
            golden.append({"using": using, "point": point_id, "vector": vector, "limit": HITS})
    if not golden:
        return [], None
    ascending = [smaller_is_nearer(dense[one["using"]]["distance"]) for one in golden]
    found = missed = 0
    exact = _nearest(shards, golden, ascending, exact=True)
    if any(shard.info().indexed_vectors_count for shard in shards):
        indexed = _nearest(shards, golden, ascending, exact=False)
    else:
        indexed = exact  # without an index every search is exact
    for one, right, through_index in zip(golden, exact, indexed, strict=True):
        one["hits"] = right
        known = {hit["id"] for hit in through_index}
        missed += sum(hit["id"] not in known for hit in right)
        found += len(right)
    return golden, 1 - missed / found if found else None


def _nearest(shards: list[EdgeShard], golden: list[Json], ascending: list[bool], *, exact: bool) -> list[list[Json]]:
    """Return the hits of each query over all shards, all queries of a shard at once."""
    batch = QueryBatchRequest(
        [
            QueryRequest(
                query=Query.Nearest(one["vector"], using=one["using"])
                if one["using"]
                else Query.Nearest(one["vector"]),
                limit=HITS,
                params=SearchParams(exact=exact),
            )
            for one in golden
        ]
    )
    answers = [shard.query_batch(batch) for shard in shards]
    merged = []
    for at, smaller_first in enumerate(ascending):
        hits = [hit for answer in answers for hit in answer[at]]
        hits.sort(key=lambda hit: hit.score if smaller_first else -hit.score)
        merged.append([{"id": _plain(hit.id), "score": float(hit.score)} for hit in hits[:HITS]])
    return merged


def _plain(point_id: Any) -> Id:
    return point_id if isinstance(point_id, int) else str(point_id)


if __name__ == "__main__":
    ended = main()
    sys.stdout.flush()
    os._exit(ended)  # at once, see `_open`
