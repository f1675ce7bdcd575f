"""Routes about partial snapshots: what a shard holds, what changed since, and putting such a change on top."""

import asyncio

from reanimate.standby.http import JSON, Request, Response, ok
from reanimate.standby.partials import check_manifest, create_partial, recover_partial, shard_manifest
from reanimate.standby.restores import check_checksum
from reanimate.standby.server import StandbyServer
from reanimate.standby.snapshot_routes import check_priority, found, now_or_later
from reanimate.standby.snapshots import stream_name
from reanimate.standby.transfers import receive_upload, stream_file

__all__ = ["create", "manifest", "recover"]


async def manifest(server: StandbyServer, request: Request) -> Response:
    collection, shard = await found(server, request)
    return ok(request, await shard_manifest(collection, shard or 0))


async def create(server: StandbyServer, request: Request) -> Response:
    """Send what is newer than the manifest in the body. It is not kept. 304: nothing is."""
    collection, shard = await found(server, request)
    base = check_manifest(await request.json())
    packed = await create_partial(collection, shard or 0, base)
    if packed is None:
        return Response(304)
    path, size = packed
    headers = [
        ("content-disposition", f'attachment; filename="{stream_name(collection, shard or 0)}"'),
        ("content-type", "application/octet-stream"),
    ]
    return Response(200, stream_file(path, 0, size, remove=True), headers)


async def recover(server: StandbyServer, request: Request) -> Response:
    """Put a partial snapshot on top of a shard; one at a time for each shard."""
    check_priority(request.query.get("priority"), "Deserialize error in query parameters")
    check_checksum(request.query.get("checksum"), None)
    collection, shard = await found(server, request)
    number = shard or 0
    if number in collection.recovering:
        return Response(503, b'{"result":null,"status":"already_in_progress","time":0.0}', JSON)
    collection.recovering.add(number)
    try:
        scratch = server.storage.scratch()
        upload = await receive_upload(request, scratch)
    except BaseException:
        collection.recovering.discard(number)
        raise

    async def work() -> None:
        try:
            check_checksum(request.query.get("checksum"), upload.sha256)
            await recover_partial(collection, number, scratch)
        finally:
            collection.recovering.discard(number)
            await asyncio.to_thread(scratch.unlink, True)

    return await now_or_later(server, request, work)
