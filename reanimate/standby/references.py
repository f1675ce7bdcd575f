"""Queries that name points instead of vectors: vectors are fetched, and the named points are left out of the answer."""

from collections.abc import Awaitable, Callable
from typing import Any

from reanimate.standby.errors import bad_request, not_found, not_implemented
from reanimate.standby.points import PointId, normal_id

__all__ = ["VectorSource", "resolve_references"]

Json = dict[str, Any]

VectorSource = Callable[[str | None, PointId, str], Awaitable[Any]]
"""Given a collection (or nothing for the queried one), a point and a vector's name, return the vector or None."""


async def resolve_references(request: Json, source: VectorSource) -> Json:
    """Return the query with vectors in place of ids, in itself and in its prefetches.

    Raises:
        ApiError: 404 for a point that is not there, 400 or 501 for examples that cannot be averaged.
    """
    prefetch = request.get("prefetch")
    if prefetch is not None:
        several = prefetch if isinstance(prefetch, list) else [prefetch]
        request = {**request, "prefetch": [await resolve_references(one, source) for one in several]}
    if request.get("query") is None:
        return request
    resolver = _Resolver(request, source)
    query = await resolver.query(request["query"])
    resolved = {name: value for name, value in request.items() if name != "lookup_from"} | {"query": query}
    if resolver.excluded:
        own = {"must_not": [{"has_id": resolver.excluded}]}
        given = request.get("filter")
        resolved["filter"] = own if not given else {"must": [given, own]}
    return resolved


class _Resolver:
    """Replaces the ids of one query and remembers which points were named."""

    def __init__(self, request: Json, source: VectorSource) -> None:
        lookup = request.get("lookup_from") or {}
        self._collection: str | None = lookup.get("collection")
        self._name: str = lookup.get("vector") or request.get("using") or ""
        self._source = source
        self.excluded: list[PointId] = []

    async def query(self, query: Any) -> Any:
        if not isinstance(query, dict):
            return await self._vector(query)
        if "nearest" in query:
            return {**query, "nearest": await self._vector(query["nearest"])}
        if "recommend" in query:
            return await self._recommend(query["recommend"])
        if "discover" in query:
            given = query["discover"]
            pairs = await self._pairs(given.get("context") or [])
            return {"discover": {"target": await self._vector(given["target"]), "context": pairs}}
        if "context" in query:
            return {"context": await self._pairs(query["context"])}
        return query

    async def _vector(self, given: Any) -> Any:
        if not isinstance(given, (int, str)) or isinstance(given, bool):
            return given
        point = normal_id(given)
        vector = await self._source(self._collection, point, self._name)
        if vector is None:
            raise not_found(f"No point with id {given} found")
        if self._collection is None:
            self.excluded.append(point)
        return vector

    async def _pairs(self, given: Any) -> list[Json]:
        several = given if isinstance(given, list) else [given]
        return [
            {"positive": await self._vector(one["positive"]), "negative": await self._vector(one["negative"])}
            for one in several
        ]

    async def _recommend(self, given: Json) -> Any:
        positive = [await self._vector(one) for one in given.get("positive") or ()]
        negative = [await self._vector(one) for one in given.get("negative") or ()]
        if (given.get("strategy") or "average_vector") != "average_vector":
            if not positive and not negative:
                raise bad_request("At least one positive or negative vector ID required with this strategy")
            return {"recommend": {**given, "positive": positive, "negative": negative}}
        if not positive:
            raise bad_request("At least one positive vector ID required with this strategy")
        if any(not isinstance(one, list) or (one and isinstance(one[0], list)) for one in positive + negative):
            raise not_implemented("recommendation by the average of sparse or multi vectors")
        return _averaged(positive, negative)


def _averaged(positive: list[list[float]], negative: list[list[float]]) -> list[float]:
    """The mean of the good examples, moved away from the mean of the bad ones by as much again."""
    good = [sum(column) / len(positive) for column in zip(*positive, strict=True)]
    if not negative:
        return good
    bad = [sum(column) / len(negative) for column in zip(*negative, strict=True)]
    return [2 * wanted - unwanted for wanted, unwanted in zip(good, bad, strict=True)]
