"""Routes that change points."""

from collections.abc import Awaitable, Callable
from typing import Any

from reanimate.standby.errors import format_error
from reanimate.standby.http import Request, Response, ok
from reanimate.standby.points import checked_operation
from reanimate.standby.server import StandbyServer

__all__ = ["batch", "change_points"]

Json = dict[str, Any]


def _status(request: Request) -> str:
    """Both mean the same here: an operation is logged and applied before the answer."""
    return "completed" if request.flag("wait", default=False) else "acknowledged"


def change_points(kind: str) -> Callable[[StandbyServer, Request], Awaitable[Response]]:
    """Make the handler of the route that does one kind of operation; its body is the operation."""

    async def handle(server: StandbyServer, request: Request) -> Response:
        body = await request.json()
        collection = await server.collection(request.params["collection"])
        status = _status(request)
        (number,) = await collection.update([checked_operation({kind: body}, collection.config)])
        return ok(request, {"operation_id": number, "status": status})

    return handle


async def batch(server: StandbyServer, request: Request) -> Response:
    """Do several operations in order. All are checked before the first is done."""
    operations = (await request.json()).get("operations")
    collection = await server.collection(request.params["collection"])
    if not isinstance(operations, list):
        raise format_error("missing field `operations`")
    status = _status(request)
    numbers = await collection.update([checked_operation(one, collection.config) for one in operations])
    return ok(request, [{"operation_id": number, "status": status} for number in numbers])
