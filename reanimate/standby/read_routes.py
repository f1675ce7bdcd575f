"""Routes that read points."""

import asyncio
from typing import Any

from reanimate.standby.collection import Collection
from reanimate.standby.errors import ApiError, format_error, not_found, not_implemented, wrong_input
from reanimate.standby.exactness import made_exact
from reanimate.standby.http import Request, Response, ok
from reanimate.standby.points import PointId, normal_id
from reanimate.standby.references import VectorSource, resolve_references
from reanimate.standby.searches import facet, query_batch, scroll
from reanimate.standby.server import StandbyServer

__all__ = [
    "count",
    "facets",
    "point",
    "query",
    "query_many",
    "recommend",
    "recommend_many",
    "retrieve",
    "scroll_points",
    "search",
    "search_many",
]

Json = dict[str, Any]


async def _opened(server: StandbyServer, request: Request) -> tuple[Collection, Json]:
    """Read the body before the collection is looked for, as a server does."""
    body = await request.json()
    if body.get("shard_key") is not None:
        raise not_implemented("custom sharding")
    return await server.collection(request.params["collection"]), body


def _vectors_of(server: StandbyServer, queried: Collection) -> VectorSource:
    async def vector(collection: str | None, point: PointId, name: str) -> Any:
        source = queried if collection is None else await server.collection(collection)
        found = await source.retrieve([point], False, True)
        if not found:
            return None
        vectors = found[0].get("vector", {})
        if not isinstance(vectors, dict):
            vectors = {"": vectors}
        if name not in vectors:
            raise wrong_input(f"Not existing vector name error: {name}")
        return vectors[name]

    return vector


async def _answers(server: StandbyServer, collection: Collection, requests: list[Json]) -> list[list[Json]]:
    source = _vectors_of(server, collection)
    resolved = list(await asyncio.gather(*(resolve_references(one, source) for one in requests)))
    if server.offline:
        held = collection.copy_of
        points = 0 if held is None else held.points
        resolved = [made_exact(one, points) for one in resolved]
    return await query_batch(collection, resolved)


def _several(body: Json) -> list[Json]:
    searches = body.get("searches")
    if not isinstance(searches, list) or not all(isinstance(one, dict) for one in searches):
        raise format_error("missing field `searches`")
    return searches


async def query(server: StandbyServer, request: Request) -> Response:
    collection, body = await _opened(server, request)
    (points,) = await _answers(server, collection, [body])
    return ok(request, {"points": points})


async def query_many(server: StandbyServer, request: Request) -> Response:
    collection, body = await _opened(server, request)
    answers = await _answers(server, collection, _several(body)) if _several(body) else []
    return ok(request, [{"points": points} for points in answers])


def _from_search(body: Json) -> Json:
    """Say a request of the older search route as a query."""
    vector = body.get("vector")
    if vector is None:
        raise format_error("missing field `vector`")
    if "limit" not in body:
        raise format_error("missing field `limit`")
    named = {"query": vector["vector"], "using": vector["name"]} if isinstance(vector, dict) else {"query": vector}
    return {name: value for name, value in body.items() if name != "vector"} | named


async def search(server: StandbyServer, request: Request) -> Response:
    collection, body = await _opened(server, request)
    (points,) = await _answers(server, collection, [_from_search(body)])
    return ok(request, points)


async def search_many(server: StandbyServer, request: Request) -> Response:
    collection, body = await _opened(server, request)
    return ok(request, await _answers(server, collection, [_from_search(one) for one in _several(body)]))


def _from_recommend(body: Json) -> Json:
    """Say a request of the older recommend route as a query."""
    examples = {name: body[name] for name in ("positive", "negative", "strategy") if name in body}
    rest = {name: value for name, value in body.items() if name not in examples}
    return {**rest, "query": {"recommend": examples}}


async def recommend(server: StandbyServer, request: Request) -> Response:
    collection, body = await _opened(server, request)
    (points,) = await _answers(server, collection, [_from_recommend(body)])
    return ok(request, points)


async def recommend_many(server: StandbyServer, request: Request) -> Response:
    collection, body = await _opened(server, request)
    return ok(request, await _answers(server, collection, [_from_recommend(one) for one in _several(body)]))


async def scroll_points(server: StandbyServer, request: Request) -> Response:
    collection, body = await _opened(server, request)
    return ok(request, await scroll(collection, body))


async def retrieve(server: StandbyServer, request: Request) -> Response:
    collection, body = await _opened(server, request)
    if not isinstance(body.get("ids"), list):
        raise format_error("missing field `ids`")
    ids = [normal_id(one) for one in body["ids"]]
    return ok(request, await collection.retrieve(ids, body.get("with_payload"), body.get("with_vector")))


async def point(server: StandbyServer, request: Request) -> Response:
    collection = await server.collection(request.params["collection"])
    given = request.params["id"]
    try:
        wanted = normal_id(int(given) if given.isdigit() else given)
    except ApiError as error:
        raise wrong_input(f'Can not recognize "{given}" as point id') from error
    found = await collection.retrieve([wanted], True, True)
    if not found:
        raise not_found(f"Point with id {given} does not exists!")
    return ok(request, found[0])


async def count(server: StandbyServer, request: Request) -> Response:
    collection, body = await _opened(server, request)
    exact = body.get("exact")
    counts = await collection.ask_all("count", selected=body.get("filter"), exact=True if exact is None else exact)
    return ok(request, {"count": sum(counts)})


async def facets(server: StandbyServer, request: Request) -> Response:
    collection, body = await _opened(server, request)
    return ok(request, {"hits": await facet(collection, body)})
