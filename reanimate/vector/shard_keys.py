"""Custom shard keys of a collection: created before anything is uploaded, else a restore puts 0 points into it."""

from reanimate.vector.server import Json, VectorServer

__all__ = ["create_shard_key"]


async def create_shard_key(server: VectorServer, collection: str, body: Json) -> None:
    """Create the shards of one key; `body` is that of `PUT /collections/{name}/shards`.

    Raises:
        Refused: the key exists, or the collection or the server takes no keys.
    """
    doing = f"creating the shard key {body['shard_key']!r} of {collection!r}"
    path = server.path(collection, "shards")
    answer = await server.request("PUT", path, doing=doing, timeout_s=60.0, params={"timeout": "50"}, json=body)
    server.result(answer, doing)
