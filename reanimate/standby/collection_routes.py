"""Routes about collections, their payload indexes and their aliases."""

from typing import Any

from reanimate.standby.collection import Collection
from reanimate.standby.config_defaults import check_collection_name
from reanimate.standby.errors import format_error
from reanimate.standby.http import Request, Response, ok
from reanimate.standby.server import StandbyServer

__all__ = [
    "aliases_of",
    "change",
    "cluster_info",
    "create",
    "create_index",
    "delete",
    "delete_index",
    "exists",
    "info",
    "list_aliases",
    "list_collections",
    "update_aliases",
]

_INDEX_TYPES = ("keyword", "integer", "float", "geo", "text", "bool", "datetime", "uuid")


async def _collection(server: StandbyServer, request: Request) -> Collection:
    return await server.collection(request.params["collection"])


async def list_collections(server: StandbyServer, request: Request) -> Response:
    hidden = server.offline and not request.privileged  # copies that are still being loaded
    names = [name for name, one in sorted(server.collections.items()) if not hidden or one.copy_of is not None]
    return ok(request, {"collections": [{"name": name} for name in names]})


async def exists(server: StandbyServer, request: Request) -> Response:
    return ok(request, {"exists": server.find(request.params["collection"]) is not None})


async def info(server: StandbyServer, request: Request) -> Response:
    return ok(request, await (await _collection(server, request)).info())


async def create(server: StandbyServer, request: Request) -> Response:
    check_collection_name(request.params["collection"], new=True)
    await server.create_collection(request.params["collection"], await request.json())
    return ok(request, True)


async def change(server: StandbyServer, request: Request) -> Response:
    await server.change_collection(request.params["collection"], await request.json())
    return ok(request, True)


async def delete(server: StandbyServer, request: Request) -> Response:
    return ok(request, await server.delete_collection(request.params["collection"]))


async def cluster_info(server: StandbyServer, request: Request) -> Response:
    collection = await _collection(server, request)
    counts = await collection.ask_all("count", exact=False)
    shards = [
        {"shard_id": shard, "points_count": count, "state": "Active"}
        for shard, count in zip(sorted(collection.shards), counts, strict=True)
    ]
    return ok(
        request,
        {
            "peer_id": server.storage.peer_id,
            "shard_count": len(shards),
            "local_shards": shards,
            "remote_shards": [],
            "shard_transfers": [],
        },
    )


async def create_index(server: StandbyServer, request: Request) -> Response:
    collection = await _collection(server, request)
    body = await request.json()
    if "field_name" not in body:
        raise format_error("missing field `field_name`")
    schema = body.get("field_schema") or body.get("field_type")
    kind = schema.get("type") if isinstance(schema, dict) else schema
    if kind not in _INDEX_TYPES:
        raise format_error("data did not match any variant of untagged enum PayloadFieldSchema")
    operation = {"create_index": {"field_name": body["field_name"], "field_schema": schema}}
    return await _indexed(request, collection, operation)


async def delete_index(server: StandbyServer, request: Request) -> Response:
    collection = await _collection(server, request)
    return await _indexed(request, collection, {"delete_index": {"field_name": request.params["field"]}})


async def _indexed(request: Request, collection: Collection, operation: dict[str, Any]) -> Response:
    status = "completed" if request.flag("wait", default=False) else "acknowledged"
    (number,) = await collection.update([operation])
    return ok(request, {"operation_id": number, "status": status})


def _described(aliases: dict[str, str]) -> dict[str, list[dict[str, str]]]:
    return {"aliases": [{"alias_name": alias, "collection_name": target} for alias, target in sorted(aliases.items())]}


async def list_aliases(server: StandbyServer, request: Request) -> Response:
    return ok(request, _described(server.aliases))


async def aliases_of(server: StandbyServer, request: Request) -> Response:
    collection = await _collection(server, request)
    own = {alias: target for alias, target in server.aliases.items() if target == collection.name}
    return ok(request, _described(own))


async def update_aliases(server: StandbyServer, request: Request) -> Response:
    await server.update_aliases((await request.json()).get("actions"))
    return ok(request, True)
