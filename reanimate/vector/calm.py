"""Whether a server is rewriting segments just now, which is no moment for a snapshot.

While an optimizer rewrites a segment, deletions of its points are kept beside it, in memory and in the log. A shard
snapshot holds the segment without them (seen on 1.18.3): points that were deleted since the rewriting began come back
with it, and all answers are 200. So snapshots are taken between two rewritings, and what was taken during one is not
kept when there is time for another.
"""

import asyncio

from reanimate.errors import NotFound, Refused, ServerFailed
from reanimate.vector.server import VectorServer

__all__ = ["is_optimizing", "wait_until_calm"]

_POLL_S = 0.1


async def is_optimizing(server: VectorServer, collection: str) -> bool:
    """Say whether this peer is rewriting segments of a collection.

    Raises:
        NotFound: no such collection.
        Unreachable, ServerFailed: the server did not answer.
    """
    doing = f"asking whether {collection!r} is being optimized"
    try:
        answer = await server.request("GET", server.path(collection, "optimizations"), doing=doing, timeout_s=10.0)
    except (NotFound, Refused, ServerFailed):
        # A standby, which never does; a server before 1.17; or one that asks a dead peer too, for shards of others.
        return bool((await server.info(collection))["status"] == "yellow")
    return bool(server.result(answer, doing).get("running"))


async def wait_until_calm(server: VectorServer, collection: str, *, timeout_s: float) -> bool:
    """Wait until no segment is being rewritten; say whether it came to that.

    Raises:
        NotFound, Unreachable, ServerFailed: as `is_optimizing`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while await is_optimizing(server, collection):
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(_POLL_S)
    return True
