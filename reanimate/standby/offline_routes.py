"""Routes of an offline standby alone: what it holds, and, for whoever refreshes it, what a fresh copy is a copy of."""

from typing import Any

from reanimate.clock import utcnow
from reanimate.standby.errors import collection_missing, not_implemented
from reanimate.standby.held import Held
from reanimate.standby.http import Request, Response, ok
from reanimate.standby.server import StandbyServer

__all__ = ["list_held", "note_held"]


async def list_held(server: StandbyServer, request: Request) -> Response:
    """Say of every copy which backup it is, how old, and which names lead to it."""
    _require_offline(server)
    now = utcnow()
    copies: list[dict[str, Any]] = []
    for name, collection in sorted(server.collections.items()):
        held = collection.copy_of
        if held is None:
            copies.append({"name": name, "held": None, "age_s": None, "aliases": []})
            continue
        aliases = sorted(alias for alias, target in server.aliases.items() if target == name)
        copies.append({"name": name, "held": held.as_json(), "age_s": held.age_s(now), "aliases": aliases})
    return ok(request, {"copies": copies})


async def note_held(server: StandbyServer, request: Request) -> Response:
    """Note of which backup a collection is a copy. From here on it is served."""
    _require_offline(server)
    held = Held.of(await request.json())
    collection = server.collections.get(request.params["collection"])
    if collection is None:
        raise collection_missing(request.params["collection"])
    await collection.note_copy_of(held)
    return ok(request, True)


def _require_offline(server: StandbyServer) -> None:
    if not server.offline:
        raise not_implemented("held backups, for it was not started with --offline")
