"""Routes about snapshots of collections and shards."""

import asyncio
import contextlib
import shutil
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from reanimate.standby.collection import Collection
from reanimate.standby.errors import ApiError, bad_request, forbidden, format_error, internal
from reanimate.standby.http import Request, Response, accepted, ok
from reanimate.standby.restores import check_checksum, restore_collection, restore_shard
from reanimate.standby.server import StandbyServer
from reanimate.standby.snapshots import (
    create_snapshot,
    delete_snapshot,
    keep_upload,
    list_snapshots,
    snapshot_file,
    stream_name,
)
from reanimate.standby.tars import file_sha256
from reanimate.standby.transfers import download, receive_upload, stream_file

__all__ = [
    "check_priority",
    "create",
    "delete",
    "found",
    "get",
    "list_all",
    "now_or_later",
    "recover",
    "stream",
    "upload_collection",
    "upload_shard",
]

Json = dict[str, Any]

_FETCH_TIMEOUT_S = 60.0
_PRIORITIES = ("no_sync", "snapshot", "replica")


def check_priority(given: Any, where: str) -> None:
    """All priorities mean the same on one node; a word that is none is refused."""
    if given is not None and given not in _PRIORITIES:
        raise ApiError(400, f"{where}: unknown variant `{given}`, expected one of `no_sync`, `snapshot`, `replica`")


def _shard(request: Request) -> int | None:
    given = request.params.get("shard")
    if given is not None and not given.isdigit():
        raise ApiError(400, f"Deserialize error in path parameters: can not parse {given!r} to a u32")
    return None if given is None else int(given)


async def found(server: StandbyServer, request: Request) -> tuple[Collection, int | None]:
    collection = await server.collection(request.params["collection"])
    shard = _shard(request)
    if shard is not None:
        collection.shard(shard)
    return collection, shard


async def now_or_later(server: StandbyServer, request: Request, work: Callable[[], Awaitable[Any]]) -> Response:
    """Do the work before the answer, or after it when the client does not want to wait."""
    if request.flag("wait", default=True):
        return ok(request, await work())

    async def later() -> None:
        await work()

    server.in_background(later())
    return accepted(request)


async def create(server: StandbyServer, request: Request) -> Response:
    collection, shard = await found(server, request)
    return await now_or_later(server, request, lambda: create_snapshot(collection, shard))


async def list_all(server: StandbyServer, request: Request) -> Response:
    collection, shard = await found(server, request)
    return ok(request, await asyncio.to_thread(list_snapshots, server.storage, collection.name, shard))


async def get(server: StandbyServer, request: Request) -> Response:
    collection, shard = await found(server, request)
    try:
        path = snapshot_file(server.storage, collection.name, shard, request.params["snapshot"])
        return await download(request, path)
    except ApiError as error:
        raise ApiError(error.status, error.text, plain=True) from None
    except FileNotFoundError:
        raise ApiError(404, f"Not found: Snapshot {request.params['snapshot']} not found", plain=True) from None


async def delete(server: StandbyServer, request: Request) -> Response:
    collection, shard = await found(server, request)
    path = snapshot_file(server.storage, collection.name, shard, request.params["snapshot"])
    await asyncio.to_thread(delete_snapshot, path)
    return ok(request, True)


async def stream(server: StandbyServer, request: Request) -> Response:
    """Send a fresh shard snapshot that is not kept."""
    collection, shard = await found(server, request)
    described = await create_snapshot(collection, shard)
    path = snapshot_file(server.storage, collection.name, shard, described["name"])
    kept = server.storage.scratch()
    await asyncio.to_thread(path.rename, kept)
    await asyncio.to_thread(delete_snapshot, path)
    headers = [
        ("content-disposition", f'attachment; filename="{stream_name(collection, shard or 0)}"'),
        ("content-type", "application/octet-stream"),
    ]
    return Response(200, stream_file(kept, 0, described["size"], remove=True), headers)


async def upload_shard(server: StandbyServer, request: Request) -> Response:
    """Take a shard snapshot in. The file is not kept."""
    check_priority(request.query.get("priority"), "Deserialize error in query parameters")
    check_checksum(request.query.get("checksum"), None)
    collection, shard = await found(server, request)
    scratch = server.storage.scratch()
    upload = await receive_upload(request, scratch)

    async def work() -> None:
        try:
            check_checksum(request.query.get("checksum"), upload.sha256)
            await restore_shard(collection, shard or 0, scratch)
        finally:
            await asyncio.to_thread(scratch.unlink, True)

    return await now_or_later(server, request, work)


async def upload_collection(server: StandbyServer, request: Request) -> Response:
    """Take a collection snapshot in. The file stays among the collection's snapshots when it was good."""
    name = request.params["collection"]
    check_priority(request.query.get("priority"), "Deserialize error in query parameters")
    check_checksum(request.query.get("checksum"), None)
    scratch = server.storage.scratch()
    upload = await receive_upload(request, scratch)

    async def work() -> bool:
        try:
            check_checksum(request.query.get("checksum"), upload.sha256)
            await restore_collection(server, name, scratch)
            await asyncio.to_thread(keep_upload, scratch, server.storage.snapshots(name), upload.file_name)
        finally:
            await asyncio.to_thread(scratch.unlink, True)
        return True

    return await now_or_later(server, request, work)


async def recover(server: StandbyServer, request: Request) -> Response:
    """Take in a snapshot that is named: by an http URL, or a file among this server's own snapshots."""
    name, shard = request.params["collection"], _shard(request)
    body = await request.json()
    location, checksum = body.get("location"), body.get("checksum")
    if not isinstance(location, str):
        raise format_error("missing field `location`")
    check_priority(body.get("priority"), "Format error in JSON body")
    check_checksum(checksum, None)
    collection = (await found(server, request))[0] if shard is not None else None

    async def work() -> bool:
        async with _fetched(server, request, collection, shard, location, body.get("api_key")) as path:
            if checksum is not None:
                check_checksum(checksum, await asyncio.to_thread(file_sha256, path))
            if collection is not None:
                await restore_shard(collection, shard or 0, path)
            else:
                await restore_collection(server, name, path)
        return True

    return await now_or_later(server, request, work)


@contextlib.asynccontextmanager
async def _fetched(
    server: StandbyServer,
    request: Request,
    collection: Collection | None,
    shard: int | None,
    location: str,
    api_key: str | None,
) -> AsyncIterator[Path]:
    """Have the named snapshot as a local file; what was fetched for it is removed afterwards."""
    parts = urlsplit(location)
    if parts.scheme in ("http", "https"):
        path = server.storage.scratch()
        try:
            await asyncio.to_thread(_fetch, location, api_key, path)
            yield path
        finally:
            path.unlink(missing_ok=True)
    elif parts.scheme == "file":
        yield _named_file(server, Path(unquote(parts.path)), anywhere=request.privileged)
    elif collection is not None and not parts.scheme:
        yield snapshot_file(server.storage, collection.name, shard, location)
    else:
        raise bad_request(f"Snapshot location {location!r} is neither an http URL nor a file URL")


def _named_file(server: StandbyServer, path: Path, *, anywhere: bool) -> Path:
    """Only files below the snapshots directory may be read; with the control key any of this machine's."""
    if not path.is_file():
        raise bad_request(f'Snapshot file "{path}" does not exist')
    if not anywhere and not path.resolve().is_relative_to((server.storage.root / "snapshots").resolve()):
        raise forbidden(f'Snapshot file "{path}" is not in the snapshots directory')
    return path


def _fetch(location: str, api_key: str | None, path: Path) -> None:
    """Download a snapshot to `path`. Blocks; for a thread."""
    asked = urllib.request.Request(location, headers={"api-key": api_key} if api_key else {})
    try:
        with urllib.request.urlopen(asked, timeout=_FETCH_TIMEOUT_S) as answer, path.open("xb") as file:
            shutil.copyfileobj(answer, file, 1 << 20)
    except (OSError, ValueError) as error:  # URLError and HTTPError are OSErrors
        raise internal(f"Http request error: error sending request for url ({location}): {error}") from error
