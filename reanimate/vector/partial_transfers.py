"""Fetching a partial snapshot: what changed in a shard since what we have, streamed and kept by nobody but us."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import stamina

from reanimate.errors import Damaged, ServerFailed, Transient
from reanimate.vector.partial import SegmentManifest, inspect_partial, manifest_json
from reanimate.vector.server import Json, VectorServer
from reanimate.vector.transfers import Received, TransferLimits

__all__ = ["TooLarge", "fetch_partial_snapshot", "partial_manifest"]

_NOT_MODIFIED = 304
_CHUNK = 1 << 20


def _path(collection: str, shard_id: int, what: str) -> str:
    return VectorServer.path(collection, "shards", str(shard_id), "snapshot", "partial", what)


async def partial_manifest(server: VectorServer, collection: str, shard_id: int) -> Json:
    """Return what the server holds of a shard: segment -> its version and files.

    Raises:
        NotFound: no such collection, or the shard is not on this peer.
        Refused: the server makes no partial snapshots.
    """
    doing = f"asking for the files of {collection!r} shard {shard_id}"
    answer = await server.request("GET", _path(collection, shard_id, "manifest"), doing=doing, timeout_s=60.0)
    manifest: Json = server.result(answer, doing)
    return manifest


async def fetch_partial_snapshot(
    server: VectorServer,
    collection: str,
    shard_id: int,
    base: dict[str, SegmentManifest],
    into: Path,
    limits: TransferLimits | None = None,
    *,
    at_most: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Received | None:
    """Stream what changed since `base` into the file `into`, and see that it came whole. None: nothing changed.

    The server sends no length and no checksum, and ends a stream that failed as if it were whole; the archive's own
    end says so. A cut cannot be resumed, since the next stream is another one: it begins again.

    Raises:
        TooLarge: more than `at_most` bytes came; the rest was not taken.
        Unreachable, ServerFailed: the last attempt was cut as well.
        NotFound, Refused: no such shard on this peer, or the server makes no partial snapshots.
    """
    limits = limits or TransferLimits()
    received: Received | None = None
    async for attempt in stamina.retry_context(
        on=Transient,
        attempts=limits.attempts,
        timeout=None,
        wait_initial=limits.first_wait_s,
        wait_max=5.0,
        wait_jitter=limits.first_wait_s,
    ):
        with attempt:
            received = await _stream(server, collection, shard_id, base, into, limits, at_most, on_progress)
            if received is not None:
                await _require_whole(into, server)
    return received


class TooLarge(Damaged):
    """The changed part is larger than it is worth."""


async def _stream(
    server: VectorServer,
    collection: str,
    shard_id: int,
    base: dict[str, SegmentManifest],
    into: Path,
    limits: TransferLimits,
    at_most: int | None,
    on_progress: Callable[[int, int], None] | None,
) -> Received | None:
    doing = f"fetching a partial snapshot of {collection!r} shard {shard_id}"
    request = server.build(
        "POST",
        _path(collection, shard_id, "create"),
        # Before its first byte the server waits until all accepted writes are applied.
        timeout=httpx.Timeout(limits.stall_s, connect=5.0, read=max(limits.stall_s, 120.0)),
        # Its 304 has a body, which the next request on this connection would take for its answer.
        headers={"connection": "close", "accept-encoding": "identity"},
        json=manifest_json(base),
    )
    answer = await server.send(request, doing=doing, stream=True)
    digest, done = hashlib.sha256(), 0
    try:
        if answer.status_code == _NOT_MODIFIED:
            return None
        with await asyncio.to_thread(into.open, "wb") as file:
            async for piece in answer.aiter_raw(_CHUNK):
                done += len(piece)
                if at_most is not None and done > at_most:
                    raise TooLarge(f"{doing} from {server.name}: more than {at_most} bytes have changed")
                await asyncio.to_thread(file.write, piece)
                digest.update(piece)
                if on_progress:
                    on_progress(done, max(done, at_most or 0))
    except httpx.HTTPError as error:
        raise server.unreachable(f"{doing}, cut after {done} bytes,", error) from error
    finally:
        await answer.aclose()
    return Received(done, digest.hexdigest(), 0)


async def _require_whole(file: Path, server: VectorServer) -> None:
    """See that the stream was not cut.

    Raises:
        ServerFailed: it was; the next attempt may fare better.
    """
    try:
        await asyncio.to_thread(inspect_partial, file)
    except Damaged as error:
        raise ServerFailed(f"{server.name} did not send a whole partial snapshot: {error}") from error
