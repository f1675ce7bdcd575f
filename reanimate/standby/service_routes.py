"""Routes about the server itself: what it is, whether it is up, what it counts."""

import asyncio
from importlib.metadata import version

import orjson

from reanimate import __version__
from reanimate.standby.errors import ApiError
from reanimate.standby.http import Request, Response, ok
from reanimate.standby.server import StandbyServer

__all__ = ["QDRANT_VERSION", "cluster", "health", "issues", "metrics", "ready", "welcome"]

QDRANT_VERSION = "1.18.3"
"""The version of the API that is followed; clients compare it with their own."""

_TEXT = [("content-type", "text/plain; charset=utf-8")]


async def welcome(server: StandbyServer, request: Request) -> Response:
    """Say plainly what this is."""
    body = {
        "title": "reanimate standby - Qdrant-compatible server",
        "version": QDRANT_VERSION,
        "standby": {
            "name": server.name,
            "reanimate": __version__,
            "engine": f"qdrant-edge-py {version('qdrant-edge-py')}",
            "writable": not server.keys.refuse_writes,
        },
    }
    return Response(200, orjson.dumps(body), [("content-type", "application/json")])


async def health(server: StandbyServer, request: Request) -> Response:
    return Response(200, b"healthz check passed", _TEXT)


async def ready(server: StandbyServer, request: Request) -> Response:
    """Unlike a server's, this one says no until every shard has been opened."""
    if server.ready:
        return Response(200, b"all shards are ready", _TEXT)
    return Response(503, b"some shards are not ready", _TEXT)


async def cluster(server: StandbyServer, request: Request) -> Response:
    return ok(request, {"status": "disabled"})


async def issues(server: StandbyServer, request: Request) -> Response:
    return ok(request, {"issues": []})


async def metrics(server: StandbyServer, request: Request) -> Response:
    """Figures in the text form of Prometheus, named as a server names them."""
    points = await asyncio.gather(*(_points(server, name) for name in sorted(server.collections)))
    lines = [
        "# HELP app_info information about the server",
        "# TYPE app_info gauge",
        f'app_info{{name="reanimate-standby",version="{QDRANT_VERSION}"}} 1',
        "# HELP collections_total number of collections",
        "# TYPE collections_total gauge",
        f"collections_total {len(server.collections)}",
        "# HELP collection_points number of points per collection",
        "# TYPE collection_points gauge",
        *(f'collection_points{{id="{_escaped(name)}"}} {count}' for name, count in points if count is not None),
        "# HELP collection_unreadable collections whose points cannot be counted",
        "# TYPE collection_unreadable gauge",
        f"collection_unreadable {sum(count is None for _, count in points)}",
        "# HELP rest_responses_total number of answers",
        "# TYPE rest_responses_total counter",
        *(
            f'rest_responses_total{{method="{method}",status="{status}"}} {count}'
            for (method, status), count in sorted(server.requests.items())
        ),
        "",
    ]
    return Response(200, "\n".join(lines).encode(), _TEXT)


async def _points(server: StandbyServer, name: str) -> tuple[str, int | None]:
    try:
        if server.offline:  # to be scraped must not open every copy
            held = server.collections[name].copy_of
            return name, held.points if held is not None else None
        return name, sum(await (await server.collection(name)).ask_all("count", exact=False))
    except ApiError:
        return name, None


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
