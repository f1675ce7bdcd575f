"""Shard snapshots on a server: create, list, delete, with what a real server does when a client gives up too early."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from reanimate.errors import NotFound, ServerFailed, Unreachable
from reanimate.vector.server import VectorServer

__all__ = ["ShardSnapshot", "create_shard_snapshot", "delete_shard_snapshot", "list_shard_snapshots", "snapshot_path"]

_ADOPT_POLL_S = 0.25


@dataclass(frozen=True)
class ShardSnapshot:
    """A snapshot file on the server. `checksum` is the SHA-256 of the file, or None when the server keeps it on S3."""

    name: str
    size: int
    checksum: str | None


def snapshot_path(collection: str, shard_id: int, name: str = "") -> str:
    """Return the path of a shard's snapshots, or of one of them."""
    path = VectorServer.path(collection, "shards", str(shard_id), "snapshots")
    return f"{path}/{quote(name, safe='')}" if name else path


async def list_shard_snapshots(server: VectorServer, collection: str, shard_id: int) -> list[ShardSnapshot]:
    """Return the snapshots of one shard that are complete, by name."""
    doing = f"listing the snapshots of {collection!r} shard {shard_id}"
    answer = await server.request("GET", snapshot_path(collection, shard_id), doing=doing, timeout_s=30.0)
    return sorted((_snapshot(row) for row in server.result(answer, doing)), key=lambda snapshot: snapshot.name)


async def create_shard_snapshot(
    server: VectorServer,
    collection: str,
    shard_id: int,
    *,
    timeout_s: float,
    adopt_s: float = 60.0,
    before_asking: Callable[[list[str]], Awaitable[None]] | None = None,
) -> ShardSnapshot:
    """Create a snapshot of one shard under a name that nobody had before.

    `before_asking` is given the names that are there, so that whoever is killed now can be swept up after.

    A server names snapshots by the second, so two in one second share a file: that is noticed and made anew. And it
    goes on when the client has given up: what then appears within `adopt_s` seconds is adopted.

    Raises:
        Unreachable: no answer within `timeout_s`, and nothing appeared.
        NotFound: no such collection or shard.
        Refused: the key may not create snapshots.
    """
    doing = f"creating a snapshot of {collection!r} shard {shard_id}"
    for _ in range(5):
        before = {snapshot.name for snapshot in await list_shard_snapshots(server, collection, shard_id)}
        if before_asking:
            await before_asking(sorted(before))
        try:
            answer = await server.request(
                "POST",
                snapshot_path(collection, shard_id),
                doing=doing,
                timeout_s=timeout_s,
                params={"wait": "true"},
            )
        except Unreachable as error:
            return await _adopt(server, collection, shard_id, before, adopt_s, error)
        created = _snapshot(server.result(answer, doing))
        if created.name not in before:
            return created
        await asyncio.sleep(1.1)
    raise ServerFailed(f"{doing} on {server.name}: it gave the name of an older snapshot five times in a row")


async def delete_shard_snapshot(server: VectorServer, collection: str, shard_id: int, name: str) -> None:
    """Delete a snapshot on the server; one that is gone already is fine."""
    doing = f"deleting the snapshot {name!r} of {collection!r} shard {shard_id}"
    try:
        await server.request("DELETE", snapshot_path(collection, shard_id, name), doing=doing, timeout_s=60.0)
    except NotFound:
        return


async def _adopt(
    server: VectorServer, collection: str, shard_id: int, before: set[str], adopt_s: float, error: Unreachable
) -> ShardSnapshot:
    """Wait for the snapshot that the server goes on making after its client timed out.

    Raises:
        Unreachable: the one given, when nothing new appeared.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + adopt_s
    seen: ShardSnapshot | None = None
    while loop.time() < deadline:
        await asyncio.sleep(_ADOPT_POLL_S)
        try:
            listed = await list_shard_snapshots(server, collection, shard_id)
        except Unreachable:
            continue
        new = [snapshot for snapshot in listed if snapshot.name not in before]
        # A file is listed a moment before its checksum is: take it when two looks agree.
        if new and new[-1] == seen:
            return seen
        seen = new[-1] if new else None
    raise Unreachable(
        f"{error.args[0]}; no new snapshot appeared within {adopt_s:.0f} s",
        hint="see whether the server runs; look for an orphaned snapshot before trying again",
    ) from error


def _snapshot(row: dict[str, Any]) -> ShardSnapshot:
    return ShardSnapshot(name=row["name"], size=int(row["size"]), checksum=row.get("checksum") or None)
