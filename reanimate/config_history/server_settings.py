"""A vector server's settings as its REST API tells them: config, indexes, aliases, placement. No data, no secrets.

Counts, states and clocks are left out: what moves by itself would make a version every time.
"""

import json
from typing import Any

from reanimate.config_history.subjects import Setting
from reanimate.errors import NotFound
from reanimate.vector.config import payload_schema
from reanimate.vector.server import Json, VectorServer

__all__ = ["read_setting", "read_settings", "to_content"]

_WHOLE = ("aliases", "server")


async def read_settings(server: VectorServer) -> dict[Setting, Json]:
    """Return every setting of a server.

    Raises:
        Unreachable, ServerFailed, Refused: it does not answer, or not to this key. Then nothing is known of any.
    """
    settings = {Setting(server.name, what): await read_setting(server, Setting(server.name, what)) for what in _WHOLE}
    for name in await server.collections():
        setting = Setting(server.name, "collections", name)
        try:
            settings[setting] = await read_setting(server, setting)
        except NotFound:
            continue  # deleted since it was listed
    return settings


async def read_setting(server: VectorServer, setting: Setting) -> Json:
    """Return one setting as it is now.

    Raises:
        NotFound: there is no such collection.
        Unreachable, ServerFailed, Refused: the server did not answer, or not to this key.
    """
    if setting.what == "aliases":
        return {"aliases": dict(sorted((await server.aliases()).items()))}
    if setting.what == "server":
        identity = await server.version()
        return {"title": identity.title, "version": identity.version, "cluster": await _cluster(server)}
    info = await server.info(setting.name)
    return {
        "config": info["config"],
        "payload_schema": payload_schema(info),
        "placement": await _placement(server, setting.name),
    }


def to_content(setting: Json) -> bytes:
    """Return the text that is kept: the same settings, the same bytes."""
    return json.dumps(setting, indent=1, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")


async def _cluster(server: VectorServer) -> Json:
    """Return which peers there are and where; who leads and what was last agreed on moves by itself."""
    found = await _get(server, "/cluster", "reading the cluster's settings")
    peers = found.get("peers") or {}
    return {
        "status": found.get("status", "unknown"),
        "peers": {peer: about.get("uri") for peer, about in sorted(peers.items())},
    }


async def _placement(server: VectorServer, collection: str) -> Json:
    """Return shard → key and the peers that hold it."""
    found = await _get(server, server.path(collection, "cluster"), f"reading where {collection!r} lies")
    shards: dict[int, dict[str, Any]] = {}
    for row in found.get("local_shards") or []:
        shards.setdefault(row["shard_id"], {"key": row.get("shard_key"), "peers": []})["peers"].append(found["peer_id"])
    for row in found.get("remote_shards") or []:
        shards.setdefault(row["shard_id"], {"key": row.get("shard_key"), "peers": []})["peers"].append(row["peer_id"])
    return {
        str(shard_id): {"peers": sorted(place["peers"]), **({"key": place["key"]} if place["key"] is not None else {})}
        for shard_id, place in sorted(shards.items())
    }


async def _get(server: VectorServer, path: str, doing: str) -> Json:
    answer = await server.request("GET", path, doing=doing, timeout_s=5.0)
    result: Json = server.result(answer, doing)
    return result
