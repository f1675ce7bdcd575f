"""The ASGI application: one request, its route, its rights, its answer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from reanimate.clock import utcnow
from reanimate.standby.auth import Right
from reanimate.standby.errors import ApiError, collection_missing, internal
from reanimate.standby.held import marked
from reanimate.standby.http import ClientGone, Message, Receive, Request, Response, Route, Send, error_answer, send
from reanimate.standby.routes import ROUTES
from reanimate.standby.server import StandbyServer

__all__ = ["Application", "make_app"]

Application = Callable[[Message, Receive, Send], Awaitable[None]]

log = logging.getLogger(__name__)


def make_app(server: StandbyServer) -> Application:
    """Build the application around a server that is started with it and stopped with it."""

    async def app(scope: Message, receive: Receive, out: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(server, receive, out)
        elif scope["type"] == "http":
            await _answer(server, Request.of(scope, receive), out)

    return app


async def _live(server: StandbyServer, receive: Receive, out: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            server.start()
            await out({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await server.stop()
            await out({"type": "lifespan.shutdown.complete"})
            return


async def _answer(server: StandbyServer, request: Request, out: Send) -> None:
    try:
        response = await _respond(server, request)
        await send(response, out)
    except ClientGone:
        return
    key = (request.method, response.status)
    server.requests[key] = server.requests.get(key, 0) + 1


async def _respond(server: StandbyServer, request: Request) -> Response:
    """Answer. On an offline standby every answer, an error too, says how old the data is that it comes from."""
    response = await _attempt(server, request)
    if not server.offline:
        return response
    named = request.params.get("collection")
    held = server.held_by(named) or server.held_by(None)
    return response if held is None else marked(response, held, utcnow())


async def _attempt(server: StandbyServer, request: Request) -> Response:
    try:
        route = _route(request)
        request.privileged = server.keys.is_control(request.headers)
        if route is None:
            server.keys.check(Right.READ, request.headers)
            return Response(404)
        server.keys.check(route.right, request.headers)
        if server.offline and not request.privileged:
            _refuse_unfinished(server, request)
        return await route.handler(server, request)
    except ApiError as error:
        return error_answer(error)
    except (ClientGone, asyncio.CancelledError):
        raise
    except OSError as error:
        log.exception("%s %s failed", request.method, request.path)
        return error_answer(internal(f"IO Error: {error}"))
    except Exception as error:
        log.exception("%s %s failed", request.method, request.path)
        return error_answer(internal(f"{type(error).__name__}: {error}"))


def _refuse_unfinished(server: StandbyServer, request: Request) -> None:
    """A copy that is being loaded is there for whoever loads it; to anybody else it does not exist.

    Raises:
        ApiError: 404.
    """
    name = request.params.get("collection")
    found = server.find(name) if name is not None else None
    if name is not None and found is not None and found.copy_of is None:
        raise collection_missing(name)


def _route(request: Request) -> Route | None:
    for route in ROUTES:
        params = route.match(request)
        if params is not None:
            request.params = params
            return route
    return None
