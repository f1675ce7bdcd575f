"""The blob store: a folder by default, S3, GCS or Azure by URL; a crash leaves whole objects or none."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore

from reanimate.backups.transport import delete_object, sync_object, told
from reanimate.errors import Damaged, NotFound, ReanimateError, Refused, Unreachable

__all__ = ["ObjectStore", "create_object", "fetch_file", "read_object", "remove_objects", "store_file"]

Progress = Callable[[int, int], None]

_CHUNK = 8 << 20
_CONCURRENCY = 4


async def store_file(store: ObjectStore, key: str, file: Path, on_progress: Progress | None = None) -> str:
    """Stream a file into the store in constant memory and return the SHA-256 of what was sent.

    Raises:
        Unreachable: the store could not be written.
        Damaged: the store holds another number of bytes than was sent.
    """
    size = await asyncio.to_thread(_size, file)
    digest = hashlib.sha256()

    async def chunks() -> AsyncIterator[bytes]:
        done = 0
        with await asyncio.to_thread(file.open, "rb") as source:
            while chunk := await asyncio.to_thread(source.read, _CHUNK):
                await asyncio.to_thread(digest.update, chunk)
                done += len(chunk)
                yield chunk
                if on_progress:
                    on_progress(done, size)

    try:
        await obstore.put_async(store, key, chunks(), chunk_size=_CHUNK, max_concurrency=_CONCURRENCY)
        kept = (await obstore.head_async(store, key))["size"]
    except (BaseError, OSError) as error:
        raise told(error, f"storing {key}") from error
    if kept != size:
        raise Damaged(f"storing {key}: {size} bytes were sent and {kept} are there")
    await asyncio.to_thread(sync_object, store, key)
    return digest.hexdigest()


async def create_object(store: ObjectStore, key: str, content: bytes) -> None:
    """Write a small object that must not exist yet.

    Raises:
        Refused: it exists, with other content.
        Unreachable: the store could not be written.
    """
    try:
        await obstore.put_async(store, key, content, mode="create")
    except (AlreadyExistsError, FileExistsError) as error:
        # After a lost reply it is our own.
        if await read_object(store, key) != content:
            raise Refused(f"storing {key}: it exists already, with other content") from error
    except (BaseError, OSError) as error:
        failure = told(error, f"storing {key}")
        # A create is not sent again below us; it may have happened all the same.
        if not isinstance(failure, Unreachable) or not await _holds(store, key, content):
            raise failure from error
    await asyncio.to_thread(sync_object, store, key)


async def _holds(store: ObjectStore, key: str, content: bytes) -> bool:
    try:
        return await read_object(store, key) == content
    except ReanimateError:
        return False


async def read_object(store: ObjectStore, key: str) -> bytes:
    """Return the whole of a small object.

    Raises:
        NotFound: there is none.
        Unreachable: the store could not be read.
    """
    try:
        answer = await obstore.get_async(store, key)
        return bytes(await answer.bytes_async())
    except FileNotFoundError as error:
        raise NotFound(f"{key} is not in the blob store") from error
    except (BaseError, OSError) as error:
        raise told(error, f"reading {key}") from error


async def fetch_file(
    store: ObjectStore, key: str, into: Path, *, size: int, sha256: str, on_progress: Progress | None = None
) -> None:
    """Stream an object into a file and hold it against the size and SHA-256 that it must have.

    Raises:
        NotFound: there is no such object.
        Damaged: it is not what it was; `into` is removed.
        Unreachable: the store could not be read.
    """
    try:
        found = await _stream(store, key, into, on_progress, size)
    except FileNotFoundError as error:
        raise NotFound(f"{key} is not in the blob store", hint="this backup cannot be used; take another") from error
    except (BaseError, OSError) as error:
        raise told(error, f"reading {key}") from error
    kept = await asyncio.to_thread(_size, into)
    if found != sha256 or kept != size:
        await asyncio.to_thread(into.unlink, True)
        raise Damaged(
            f"reading {key}: {kept} bytes with SHA-256 {found}, the manifest says {size} bytes with {sha256}",
            hint="this backup is damaged; restore from another",
        )


async def _stream(store: ObjectStore, key: str, into: Path, on_progress: Progress | None, size: int) -> str:
    digest = hashlib.sha256()
    answer = await obstore.get_async(store, key)
    done = 0

    def keep(chunk: memoryview) -> None:
        file.write(chunk)
        digest.update(chunk)

    with await asyncio.to_thread(into.open, "wb") as file:
        async for chunk in answer.stream(min_chunk_size=1 << 20):
            await asyncio.to_thread(keep, memoryview(chunk))
            done += len(chunk)
            if on_progress:
                on_progress(done, size)
    return digest.hexdigest()


async def remove_objects(store: ObjectStore, keys: list[str]) -> None:
    """Delete objects; those that are gone already are fine.

    Raises:
        Unreachable: the store could not be written.
        Refused: the store keeps them.
    """
    for key in keys:
        await asyncio.to_thread(delete_object, store, key)


def _size(file: Path) -> int:
    return file.stat().st_size
