"""Answers of several shards made one: best first, fused, counted together."""

import math
from collections.abc import Callable
from typing import Any

from reanimate.standby.config_defaults import named_vectors
from reanimate.standby.errors import wrong_input
from reanimate.standby.singles import shortest

__all__ = ["best_first", "fuse_by_distribution", "fuse_by_rank", "id_order", "merge_facets"]

Json = dict[str, Any]

_SMALLER_IS_BETTER = ("Euclid", "Manhattan")
_SCORED_BY_RANK = ("recommend", "discover", "context", "fusion", "rrf", "formula")


def id_order(record: Json) -> tuple[int, int | str]:
    """Sort key of a point: numbers first, then UUIDs."""
    point = record["id"]
    return (0, point) if isinstance(point, int) else (1, point)


def best_first(request: Json, config: Json) -> Callable[[list[Json]], list[Json]]:
    """Return how to bring hits of one query from several shards into its order."""
    query = request.get("query")
    if query is None:
        return lambda hits: sorted(hits, key=id_order)
    if isinstance(query, dict) and "sample" in query:
        return lambda hits: hits
    if isinstance(query, dict) and "order_by" in query:
        order = query["order_by"]
        descending = isinstance(order, dict) and order.get("direction") == "desc"
        return lambda hits: sorted(hits, key=lambda hit: hit["order_value"], reverse=descending)
    scored_by_rank = isinstance(query, dict) and any(name in query for name in _SCORED_BY_RANK)
    shape = named_vectors(config).get(request.get("using") or "", {})
    ascending = not scored_by_rank and shape.get("distance") in _SMALLER_IS_BETTER
    return lambda hits: sorted(hits, key=lambda hit: hit["score"], reverse=not ascending)


def fuse_by_rank(lists: list[list[Json]], k: int, weights: list[float] | None) -> list[Json]:
    """Reciprocal rank fusion: 1 / ((rank + 1) / weight + k - 1), summed over the lists; ranks count from zero.

    Raises:
        ApiError: 400, there are not as many weights as lists.
    """
    if weights is not None and len(weights) != len(lists):
        raise wrong_input(
            f"Number of weights in RRF should match number of pre-fetches: got {len(weights)}, expected {len(lists)}"
        )
    scored = []
    for hits, weight in zip(lists, weights or [1.0] * len(lists), strict=True):
        for rank, hit in enumerate(hits):
            score = 1.0 / ((rank + 1) / weight + k - 1.0) if weight > 0 else 0.0
            scored.append({**hit, "score": score})
    return _summed(scored)


def fuse_by_distribution(lists: list[list[Json]]) -> list[Json]:
    """Distribution-based score fusion: mean minus three deviations becomes 0, plus three 1; then scores add up."""
    return _summed([hit for hits in lists for hit in _normalised(hits)])


def _normalised(hits: list[Json]) -> list[Json]:
    if len(hits) < 2:
        return [{**hit, "score": 0.5} for hit in hits]
    scores = [hit["score"] for hit in hits]
    mean = sum(scores) / len(scores)
    deviation = math.sqrt(sum((score - mean) ** 2 for score in scores) / (len(scores) - 1))
    low, high = mean - 3 * deviation, mean + 3 * deviation
    if low == high:
        return [{**hit, "score": 0.5} for hit in hits]
    return [{**hit, "score": (hit["score"] - low) / (high - low)} for hit in hits]


def _summed(hits: list[Json]) -> list[Json]:
    found: dict[int | str, Json] = {}
    for hit in hits:
        known = found.get(hit["id"])
        found[hit["id"]] = hit if known is None else {**known, "score": known["score"] + hit["score"]}
    ordered = sorted(found.values(), key=lambda hit: hit["score"], reverse=True)
    return [{**hit, "score": shortest(hit["score"])} for hit in ordered]


def merge_facets(parts: list[list[Json]], limit: int) -> list[Json]:
    """Add up the counts of equal values; most frequent first."""
    counts: dict[tuple[str, Any], int] = {}
    for part in parts:
        for one in part:
            key = (type(one["value"]).__name__, one["value"])
            counts[key] = counts.get(key, 0) + one["count"]
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0][1])))
    return [{"value": value, "count": count} for (_, value), count in ordered[:limit]]
