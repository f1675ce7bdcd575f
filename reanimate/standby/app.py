"""The ASGI application: one request, its route, its rights, its answer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from reanimate.standby.auth import Right
from reanimate.standby.errors import ApiError, internal
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
    try:
        route = _route(request)
        if route is None:
            server.keys.check(Right.READ, request.headers)
            return Response(404)
        server.keys.check(route.right, request.headers)
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


def _route(request: Request) -> Route | None:
    for route in ROUTES:
        params = route.match(request)
        if params is not None:
            request.params = params
            return route
    return None
