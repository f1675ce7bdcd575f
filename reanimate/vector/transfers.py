"""Moving a shard snapshot between a server and a file: hashed on the way, resumed after a cut, in constant memory."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import httpx
import stamina

from reanimate.errors import Damaged, ServerFailed, Transient
from reanimate.vector.server import VectorServer
from reanimate.vector.snapshots import ShardSnapshot, snapshot_path

__all__ = ["Received", "TransferLimits", "download_shard_snapshot", "upload_shard_snapshot"]

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in total."""

_CHUNK = 1 << 20


@dataclass(frozen=True)
class TransferLimits:
    """How patient a transfer is. Seconds."""

    attempts: int = 5
    stall_s: float = 30.0
    """A transfer in which no byte moves for this long is cut and resumed."""
    first_wait_s: float = 0.2
    apply_s: float = 3600.0
    """After the last byte of an upload the server unpacks and loads; it answers only then."""


@dataclass(frozen=True)
class Received:
    """A downloaded file. `resumed` counts the cuts that were mended."""

    size: int
    sha256: str
    resumed: int


@dataclass
class _Download:
    """How far a download has got, over all its attempts."""

    file: BinaryIO
    total: int
    done: int = 0
    tag: str | None = None
    cuts: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def restart(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.done, self.tag, self.digest = 0, None, hashlib.sha256()


async def download_shard_snapshot(
    server: VectorServer,
    collection: str,
    shard_id: int,
    snapshot: ShardSnapshot,
    into: Path,
    limits: TransferLimits | None = None,
    on_progress: Progress | None = None,
) -> Received:
    """Download a snapshot into the file `into`, and hold its size and SHA-256 against what the server said of it.

    A cut is resumed from the byte it happened at, as long as the file on the server is still the same (If-Range).

    Raises:
        Unreachable, ServerFailed: the last attempt was cut as well.
        NotFound: the snapshot is gone.
        Damaged: size or SHA-256 differ.
    """
    limits = limits or TransferLimits()
    with into.open("wb") as file:
        state = _Download(file, snapshot.size)
        async for attempt in stamina.retry_context(
            on=Transient,
            attempts=limits.attempts,
            timeout=None,
            wait_initial=limits.first_wait_s,
            wait_max=5.0,
            wait_jitter=limits.first_wait_s,
        ):
            with attempt:
                state.cuts = attempt.num - 1
                await _receive(server, snapshot_path(collection, shard_id, snapshot.name), state, limits, on_progress)
    what = f"downloading the snapshot {snapshot.name!r} of {collection!r} from {server.name}"
    if state.done != snapshot.size:
        raise Damaged(f"{what}: {state.done} bytes came, the server says {snapshot.size}")
    sha256 = state.digest.hexdigest()
    if snapshot.checksum and sha256 != snapshot.checksum:
        raise Damaged(f"{what}: SHA-256 is {sha256}, the server says {snapshot.checksum}")
    return Received(state.done, sha256, state.cuts)


async def _receive(
    server: VectorServer, path: str, state: _Download, limits: TransferLimits, on_progress: Progress | None
) -> None:
    """Receive from where `state` stands to the end of the file."""
    doing = f"downloading {path}"
    # Without `identity` the server compresses, and then neither lengths nor ranges are the file's.
    headers = {"accept-encoding": "identity"}
    if state.done and state.tag:
        headers |= {"range": f"bytes={state.done}-", "if-range": state.tag}
    elif state.done:
        state.restart()  # a server without ETags: from the beginning
    request = server.build("GET", path, timeout=httpx.Timeout(limits.stall_s, connect=5.0), headers=headers)
    answer = await server.send(request, doing=doing, stream=True)
    try:
        if state.done and answer.status_code == 206 and answer.headers.get("etag") != state.tag:
            state.restart()  # Qdrant does not heed If-Range: this is the tail of another file
            raise ServerFailed(f"{doing}: the file on {server.name} is another one now; once more from the beginning")
        if state.done and answer.status_code != 206:
            state.restart()  # the file is another one now
        state.tag = answer.headers.get("etag")
        await _keep_all(answer, state, on_progress)
    except httpx.HTTPError as error:
        raise server.unreachable(f"{doing}, cut after {state.done} bytes,", error) from error
    finally:
        await answer.aclose()
    if state.done < state.total:
        raise ServerFailed(f"{doing} from {server.name}: it ended after {state.done} of {state.total} bytes")


async def _keep_all(answer: httpx.Response, state: _Download, on_progress: Progress | None) -> None:
    """Write and hash what comes, a megabyte at a time, while the next one comes.

    What came before a cut is kept to the last byte.
    """
    gathered = bytearray()
    keeping: asyncio.Future[None] | None = None
    try:
        async for piece in answer.aiter_raw():
            gathered += piece
            if len(gathered) >= _CHUNK:
                whole, gathered = gathered, bytearray()
                if keeping:
                    await keeping
                    if on_progress:
                        on_progress(state.done, state.total)
                keeping = asyncio.ensure_future(asyncio.to_thread(_keep, state, whole))
    finally:
        if keeping:
            await asyncio.wait([keeping])
            keeping.result()
        _keep(state, gathered)
        if on_progress:
            on_progress(state.done, state.total)


def _keep(state: _Download, chunk: bytearray) -> None:
    state.file.write(chunk)
    state.digest.update(chunk)
    state.done += len(chunk)


async def upload_shard_snapshot(
    server: VectorServer,
    collection: str,
    shard_id: int,
    file: Path,
    sha256: str,
    limits: TransferLimits | None = None,
    on_progress: Progress | None = None,
) -> None:
    """Upload a snapshot file into a shard of an existing collection, replacing what is in the shard.

    The answer comes only when the server has loaded it. Not retried here: after a cut the state of the shard is
    unknown, and the caller deletes the collection and begins again.

    Raises:
        Unreachable, ServerFailed: cut, stalled, or the server could not load it.
        Refused: wrong checksum, or the key may not do this.
        NotFound: no such collection or shard.
    """
    limits = limits or TransferLimits()
    if server.reads_files:
        await _hand_over(server, collection, shard_id, file, limits, on_progress)
        return
    boundary = secrets.token_hex(16)
    head = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="snapshot"; filename="shard.snapshot"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    size = (await asyncio.to_thread(file.stat)).st_size
    request = server.build(
        "POST",
        f"{snapshot_path(collection, shard_id)}/upload",
        timeout=httpx.Timeout(limits.stall_s, connect=5.0, read=limits.apply_s),
        headers={
            "content-type": f"multipart/form-data; boundary={boundary}",
            "content-length": str(len(head) + size + len(tail)),
        },
        params={"wait": "true", "priority": "snapshot", "checksum": sha256},
        content=_body(head, file, size, tail, on_progress),
    )
    await server.send(request, doing=f"uploading a snapshot into {collection!r} shard {shard_id}")


async def _hand_over(
    server: VectorServer,
    collection: str,
    shard_id: int,
    file: Path,
    limits: TransferLimits,
    on_progress: Progress | None,
) -> None:
    """Tell a standby on this machine where the file is. Whoever brought the file here has just checked its SHA-256."""
    place = await asyncio.to_thread(file.absolute)
    await server.request(
        "PUT",
        f"{snapshot_path(collection, shard_id)}/recover",
        doing=f"handing a snapshot to {collection!r} shard {shard_id}",
        timeout_s=limits.apply_s,
        json={"location": place.as_uri(), "priority": "snapshot"},
    )
    if on_progress:
        size = (await asyncio.to_thread(place.stat)).st_size
        on_progress(size, size)


async def _body(head: bytes, file: Path, size: int, tail: bytes, on_progress: Progress | None) -> AsyncIterator[bytes]:
    yield head
    done = 0
    with await asyncio.to_thread(file.open, "rb") as source:
        while chunk := await asyncio.to_thread(source.read, _CHUNK):
            yield chunk
            done += len(chunk)
            if on_progress:
                on_progress(done, size)
    yield tail
