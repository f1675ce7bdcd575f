"""Whole objects in and out of a store as streams, in constant memory. All of this blocks; call it in a thread."""

import hashlib
import os
import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path

import httpx
import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, ObjectStore, S3Store

from reanimate.errors import ConfigInvalid, Damaged, NotFound, ReanimateError, Refused, Unreachable
from reanimate.storage.belts import Chunk, ahead, in_order

__all__ = [
    "delete_object",
    "hash_object",
    "object_ranges",
    "object_size",
    "put_stream",
    "sweep_staging",
    "sync_object",
    "told",
]

_PART_BYTES = 8 << 20
_FILE_PART_BYTES = 1 << 20
"""Of a file on this machine, which is written in pieces of any size."""
_MOST_PARTS = 9_000
"""S3 takes ten thousand."""
_PARTS_AT_ONCE = 3
_RANGE_BYTES = 2 << 20
_RANGES_AT_ONCE = 4
"""Some are on their way, and every stage that a stream goes through holds a few more: together they are the memory."""
_ATTEMPTS = 4
_FIRST_WAIT_S = 0.2
_NO_BULK: set[str] = set()
"""Servers that know no deletion of several objects at once, which is what a deletion asks for."""
_STAGED = re.compile(r"#\d+$")
_PREAMBLE = re.compile(r"^Generic \w+ error: (Error performing list request: )?(Error performing .*? - )?")


def put_stream(store: ObjectStore, key: str, chunks: Iterator[Chunk], at_most: int) -> int:
    """Send a stream as one object, which is there whole or not at all, and return its size. Errors of the stream pass.

    Raises:
        Unreachable: the store could not be written.
        Refused: the store does not allow it.
        ConfigInvalid: there is no such bucket.
        Damaged: the store holds another number of bytes than were sent.
    """
    sent = 0

    def counted() -> Iterator[Chunk]:
        nonlocal sent
        for chunk in chunks:
            sent += len(chunk)
            yield chunk

    smallest = _FILE_PART_BYTES if isinstance(store, LocalStore) else _PART_BYTES
    part = max(smallest, -(-at_most // _MOST_PARTS))
    stream = counted()
    try:
        first = _up_to(stream, part)
        if sent < part:  # the whole of it: one request instead of three
            obstore.put(store, key, b"".join(first))
        else:
            obstore.put(store, key, chain(first, stream), chunk_size=part, max_concurrency=_PARTS_AT_ONCE)
        kept = obstore.head(store, key)["size"]
    except FileNotFoundError as error:
        raise ConfigInvalid(f"storing {key}: the bucket does not exist", hint="make it, or mend the url") from error
    except (BaseError, OSError) as error:
        raise told(error, f"storing {key}") from error
    if kept != sent:
        raise Damaged(f"storing {key}: {sent} bytes were sent and {kept} are there", hint="try again")
    sync_object(store, key)
    return sent


def _up_to(stream: Iterator[Chunk], size: int) -> list[Chunk]:
    taken: list[Chunk] = []
    while size > 0 and (chunk := next(stream, None)) is not None:
        taken.append(chunk)
        size -= len(chunk)
    return taken


def object_size(store: ObjectStore, key: str) -> int:
    """Return the size of an object.

    Raises:
        NotFound: there is none.
        Unreachable, Refused: the store could not be read.
    """
    try:
        return obstore.head(store, key)["size"]
    except (BaseError, OSError) as error:
        raise told(error, f"reading {key}") from error


def object_ranges(store: ObjectStore, key: str, size: int) -> Generator[Chunk, None, None]:
    """Yield an object's first `size` bytes in order, some ranges at once. A cut costs its range, not the whole.

    Raises:
        NotFound: there is no such object.
        Unreachable, Refused: the store could not be read.
    """
    starts = range(0, size, _RANGE_BYTES)
    return in_order(
        (partial(_range, store, key, start, min(start + _RANGE_BYTES, size)) for start in starts), _RANGES_AT_ONCE
    )


def _range(store: ObjectStore, key: str, start: int, end: int) -> Chunk:
    for attempt in range(_ATTEMPTS):
        try:
            chunk = memoryview(obstore.get_range(store, key, start=start, end=end))
        except (BaseError, OSError) as error:
            failure = told(error, f"reading {key}")
            if not isinstance(failure, Unreachable) or attempt == _ATTEMPTS - 1:
                raise failure from error
            time.sleep(_FIRST_WAIT_S * 2**attempt)
            continue
        if len(chunk) != end - start:
            raise Damaged(f"reading {key}: it ends at byte {start + len(chunk)}, before byte {end}")
        return chunk
    raise AssertionError("unreachable: the last attempt returns or raises")


def hash_object(store: ObjectStore, key: str, on_progress: Callable[[int, int], None] | None = None) -> tuple[int, str]:
    """Read a whole object and return its size and SHA-256.

    Raises:
        NotFound: there is none.
        Unreachable, Refused: the store could not be read.
    """
    size = object_size(store, key)
    digest = hashlib.sha256()
    done = 0
    with closing(ahead(object_ranges(store, key, size))) as chunks:
        for chunk in chunks:
            digest.update(chunk)
            done += len(chunk)
            if on_progress:
                on_progress(done, size)
    return size, digest.hexdigest()


def delete_object(store: ObjectStore, key: str) -> None:
    """Delete an object; one that is gone already is fine.

    Raises:
        Unreachable: the store could not be written.
        Refused: the store keeps it.
    """
    if isinstance(store, S3Store) and _server(store) in _NO_BULK:
        _delete_alone(store, key)
        return
    try:
        obstore.delete(store, key)
    except FileNotFoundError:
        return
    except (BaseError, OSError) as error:
        if isinstance(store, S3Store) and "501 Not Implemented" in str(error):
            _NO_BULK.add(_server(store))
            _delete_alone(store, key)
            return
        failure = told(error, f"deleting {key}")
        if isinstance(failure, Refused):
            failure.hint = "the credentials may not, or a retention rule of the store keeps it"
        raise failure from error


def _server(store: S3Store) -> str:
    return store.config.get("endpoint") or ""


def _delete_alone(store: S3Store, key: str) -> None:
    try:
        answer = httpx.delete(obstore.sign(store, "DELETE", key, timedelta(minutes=5)), timeout=60)
    except (BaseError, httpx.HTTPError) as error:
        raise Unreachable(f"deleting {key}: {error!r}", hint="see whether the store is reachable") from None
    if answer.is_error and answer.status_code != httpx.codes.NOT_FOUND:
        raise Unreachable(f"deleting {key}: the store answered {answer.status_code}")


def sweep_staging(store: ObjectStore, before: datetime, under: str = "") -> list[str]:
    """Remove what killed uploads into a folder left, if it is that old, and return its keys.

    Such files are no objects: no listing shows them. (A bucket keeps the parts of cut uploads likewise out of sight;
    there a lifecycle rule of the bucket removes them.)
    """
    if not isinstance(store, LocalStore) or store.prefix is None:
        return []
    root, swept = Path(store.prefix), []
    for path in (root / under).rglob("*#*"):
        with suppress(OSError):  # it was finished or removed meanwhile
            if _STAGED.search(path.name) and path.is_file() and path.stat().st_mtime < before.timestamp():
                path.unlink()
                swept.append(str(path.relative_to(root)))
    return swept


def told(error: BaseException, doing: str) -> ReanimateError:
    """Return what a store said as an error of ours, in one line."""
    said = _PREAMBLE.sub("", str(error).split("\n", 1)[0].strip())
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{doing}: it is not in the store")
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
        said = said.split(": Error performing")[0]
        return Refused(f"{doing}: {said}", hint="see whether the credentials are right and may do this")
    return Unreachable(f"{doing}: {said}", hint="see whether the store is reachable and has room")


def sync_object(store: ObjectStore, key: str) -> None:
    """Make a stored object survive a power cut. Only a folder needs it, and its own put does not do it."""
    if not isinstance(store, LocalStore) or store.prefix is None:
        return
    root = Path(store.prefix)
    path = root / key
    for place in (path, *path.parents):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if place == root:
            return
