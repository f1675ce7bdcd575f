"""Queries over all shards of a collection: one shard answers alone, several are merged as a server merges them."""

import asyncio
from typing import Any

from reanimate.standby.collection import Collection
from reanimate.standby.errors import bad_request, format_error, not_implemented
from reanimate.standby.merging import best_first, fuse_by_distribution, fuse_by_rank, id_order, merge_facets
from reanimate.standby.points import normal_id

__all__ = ["facet", "query_batch", "scroll"]

Json = dict[str, Any]

_DEFAULT_LIMIT = 10


async def query_batch(collection: Collection, requests: list[Json]) -> list[list[Json]]:
    """Answer queries whose references are resolved, in order.

    Raises:
        ApiError: what is wrong with the first query that cannot be answered.
    """
    if len(collection.shards) == 1:
        answers: list[list[Json]] = (await collection.ask_all("query", requests=requests))[0]
        return answers
    return list(await asyncio.gather(*(_query(collection, request) for request in requests)))


async def _query(collection: Collection, request: Json) -> list[Json]:
    if not collection.shards:
        raise not_implemented("queries on a collection without vectors")
    query = request.get("query")
    if isinstance(query, dict) and query.get("mmr"):
        raise not_implemented("mmr on a collection of several shards")
    if isinstance(query, dict) and ("fusion" in query or "rrf" in query):
        return await _fused(collection, request, query)
    limit, offset = _number(request, "limit", _DEFAULT_LIMIT), _number(request, "offset", 0)
    wide = {**request, "limit": limit + offset if limit > 0 else limit, "offset": 0}
    parts = await collection.ask_all("query", requests=[wide])
    hits = [hit for (part,) in parts for hit in part]
    return best_first(request, collection.config)(hits)[offset : offset + limit]


async def _fused(collection: Collection, request: Json, query: Json) -> list[Json]:
    """Fuse at the collection: ranks and distributions mean nothing within one shard."""
    limit, offset = _number(request, "limit", _DEFAULT_LIMIT), _number(request, "offset", 0)
    lists = await asyncio.gather(
        *(_query(collection, _narrowed(one, request.get("filter"))) for one in request.get("prefetch") or ())
    )
    if "rrf" in query:
        fused = fuse_by_rank(list(lists), query["rrf"].get("k") or 2, query["rrf"].get("weights"))
    elif query["fusion"] == "rrf":
        fused = fuse_by_rank(list(lists), 2, None)
    elif query["fusion"] == "dbsf":
        fused = fuse_by_distribution(list(lists))
    else:
        raise format_error(f"unknown variant `{query['fusion']}`, expected `rrf` or `dbsf`")
    threshold = request.get("score_threshold")
    chosen = [hit for hit in fused if threshold is None or hit["score"] >= threshold][offset : offset + limit]
    with_payload, with_vector = request.get("with_payload") or False, request.get("with_vector") or False
    if not with_payload and not with_vector:
        return chosen
    records = await collection.retrieve([hit["id"] for hit in chosen], with_payload, with_vector)
    contents = {record["id"]: record for record in records}
    return [{**hit, **contents.get(hit["id"], {})} for hit in chosen]


def _narrowed(prefetch: Json, root_filter: Any) -> Json:
    if not root_filter:
        return prefetch
    own = prefetch.get("filter")
    return {**prefetch, "filter": {"must": [root_filter, own]} if own else root_filter}


def _number(request: Json, name: str, default: int) -> int:
    value = request.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise format_error(f"invalid value: `{value}`, expected usize")
    return value


async def scroll(collection: Collection, request: Json) -> Json:
    """Return one page of points, by id or by a payload field, and where the next page starts."""
    limit = _number(request, "limit", _DEFAULT_LIMIT)
    order_by = request.get("order_by")
    if limit == 0:
        raise format_error("value 0 invalid for limit, must be 1 or larger")
    if order_by is not None and request.get("offset") is not None:
        raise bad_request(
            "Cannot use an `offset` when using `order_by`. The alternative for paging is to use `order_by.start_from` "
            "and a filter to exclude the IDs that you've already seen for the `order_by.start_from` value"
        )
    if request.get("offset") is not None:
        request = {**request, "offset": normal_id(request["offset"])}
    pages = await collection.ask_all("scroll", request={**request, "limit": limit})
    if len(pages) == 1:
        page: Json = pages[0]
        return page if order_by is None else {**page, "next_page_offset": None}
    points = [point for page in pages for point in page["points"]]
    if order_by is not None:
        ordered = best_first({"query": {"order_by": order_by}}, collection.config)(points)
        return {"points": ordered[:limit], "next_page_offset": None}
    points.sort(key=id_order)
    following = [{"id": page["next_page_offset"]} for page in pages if page["next_page_offset"] is not None]
    following = sorted(points[limit:] + following, key=id_order)
    return {"points": points[:limit], "next_page_offset": following[0]["id"] if following else None}


async def facet(collection: Collection, request: Json) -> list[Json]:
    """Return how often each value of a payload field occurs, most frequent first."""
    if "key" not in request:
        raise format_error("missing field `key`")
    limit = _number(request, "limit", _DEFAULT_LIMIT)
    exact = bool(request.get("exact"))
    wide = limit if len(collection.shards) == 1 else max(limit * 10, 1000)
    parts = await collection.ask_all(
        "facet", key=request["key"], limit=wide, exact=exact, selected=request.get("filter")
    )
    return merge_facets(parts, limit)
