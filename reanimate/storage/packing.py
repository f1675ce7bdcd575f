"""How a file becomes an object and comes back: zstd where it pays, then age where there are recipients, then the store.

Everything streams in constant memory. SHA-256 is taken of the file and of the object on the way in, and both are
checked on the way out before anybody may use the file.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import zstandard
from obstore.store import ObjectStore

from reanimate.errors import ConfigInvalid, Damaged
from reanimate.storage.belts import Chunk, Stop, Stopped, ahead, run_stoppable
from reanimate.storage.compression import Kind, choose_level, compressed, decompressed, sample
from reanimate.storage.encryption import Identity, Recipient, Sealed, decrypted, encrypted
from reanimate.storage.transport import hash_object, object_ranges, object_size, put_stream

__all__ = ["Identity", "Kind", "Packed", "Progress", "Recipient", "fetch_packed", "store_packed"]

Progress = Callable[[int, int], None]

_CHUNK = 1 << 20
_EMPTY = bytes(_CHUNK)
_STEPS = ("zstd", "age")
_KEYS = "set backups.identities to the files with the keys that it was encrypted to"
_OTHER = "this backup is damaged; restore from another"


@dataclass(frozen=True)
class Packed:
    """A file as it lies in a store."""

    size: int
    sha256: str
    stored_size: int
    stored_sha256: str
    packing: tuple[str, ...]
    """The steps that made the object out of the file, in order: of "zstd" and "age"."""


class _Tap:
    """Counts and hashes what flows by."""

    def __init__(self) -> None:
        self.size = 0
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def watch(self, chunks: Generator[Chunk, None, None]) -> Generator[Chunk, None, None]:
        with closing(chunks):
            for chunk in chunks:
                self._digest.update(chunk)
                self.size += len(chunk)
                yield chunk


async def store_packed(
    store: ObjectStore,
    key: str,
    file: Path,
    kind: Kind,
    recipients: Sequence[Recipient] = (),
    on_progress: Progress | None = None,
) -> Packed:
    """Pack a file into an object, as small as it pays, and encrypted if there are recipients.

    Raises:
        Unreachable: the store could not be written.
        Refused: the store does not allow it.
        Damaged: the file changed meanwhile, or the store holds another number of bytes than were sent.
    """
    report = _on_this_loop(on_progress)
    return await run_stoppable(lambda stop: _store(store, key, file, kind, recipients, report, stop))


def _store(
    store: ObjectStore,
    key: str,
    file: Path,
    kind: Kind,
    recipients: Sequence[Recipient],
    report: Progress,
    stop: Stop,
) -> Packed:
    size = file.stat().st_size
    level = choose_level(sample(file), kind)
    plain, stored = _Tap(), _Tap()
    packing: list[str] = []
    stream = ahead(plain.watch(ahead(_read(file, size, report, stop))))
    if level is not None:
        packing.append("zstd")
        stream = ahead(compressed(stream, size, level))
    if recipients:
        packing.append("age")
        stream = encrypted(stream, recipients)
    if packing:
        stream = ahead(stored.watch(stream))
    else:
        stored = plain
    try:
        with closing(stream):
            put_stream(store, key, stream, at_most=size + (size >> 8) + (1 << 20))
    except zstandard.ZstdError:
        pass  # compressed() was promised another size: told below, with both
    if plain.size != size:
        raise Damaged(f"storing {key}: {file} changed while it was read, from {size} to {plain.size} bytes or more")
    return Packed(size, plain.sha256, stored.size, stored.sha256, tuple(packing))


def _read(file: Path, size: int, report: Progress, stop: Stop) -> Generator[Chunk, None, None]:
    done = 0
    with file.open("rb", buffering=0) as source:
        while chunk := source.read(_CHUNK):
            if stop.is_set():
                raise Stopped
            done += len(chunk)
            yield chunk
            report(done, size)


async def fetch_packed(
    store: ObjectStore,
    key: str,
    packed: Packed,
    into: Path,
    identities: Sequence[Identity] = (),
    on_progress: Progress | None = None,
) -> None:
    """Stream an object back into the file it was made of. Where `into` exists afterwards, it is that file.

    Raises:
        NotFound: there is no such object.
        Damaged: the object is not what was stored, cannot be unpacked, or none of the identities can open it.
        Unreachable: the store could not be read.
    """
    report = _on_this_loop(on_progress)
    await run_stoppable(lambda stop: _fetch(store, key, packed, into, identities, report, stop))


def _fetch(
    store: ObjectStore,
    key: str,
    packed: Packed,
    into: Path,
    identities: Sequence[Identity],
    report: Progress,
    stop: Stop,
) -> None:
    if tuple(step for step in _STEPS if step in packed.packing) != packed.packing:
        raise Damaged(
            f"unpacking {key}: it is packed as {'+'.join(packed.packing)}, which this version does not know",
            hint="upgrade reanimate",
        )
    found = object_size(store, key)
    if found != packed.stored_size:
        raise Damaged(
            f"reading {key}: the object has {found} bytes, the manifest says {packed.stored_size}", hint=_OTHER
        )
    try:
        ranges = _watched(object_ranges(store, key, found), found, report, stop)
        stored, plain, problem = _unpack(packed, ranges, into, identities, stop)
        _judge(store, key, packed, stored, plain, problem)
    except BaseException:
        into.unlink(missing_ok=True)
        raise


def _watched(
    chunks: Generator[Chunk, None, None], size: int, report: Progress, stop: Stop
) -> Generator[Chunk, None, None]:
    done = 0
    with closing(chunks):
        for chunk in chunks:
            if stop.is_set():
                raise Stopped
            done += len(chunk)
            yield chunk
            report(done, size)


def _unpack(
    packed: Packed, stream: Generator[Chunk, None, None], into: Path, identities: Sequence[Identity], stop: Stop
) -> tuple[_Tap, _Tap, str]:
    """Write `into`, and return what was seen of the object and of the file, and what went wrong in unpacking."""
    stored, plain = _Tap(), _Tap()
    if packed.packing:
        stream = ahead(stored.watch(stream))
    else:
        stored = plain
    if "age" in packed.packing:
        stream = decrypted(stream, identities)
    if "zstd" in packed.packing:
        stream = ahead(decompressed(stream, packed.size))
    try:
        with closing(ahead(plain.watch(stream))) as chunks:
            _write(into, chunks, packed.size, stop)
    except (zstandard.ZstdError, Sealed) as error:
        return stored, plain, str(error)
    return stored, plain, ""


def _write(into: Path, chunks: Iterator[Chunk], size: int, stop: Stop) -> None:
    """Write the chunks, and never more than `size` bytes: what is packed may claim to be anything."""
    left = size
    try:
        with into.open("wb", buffering=0) as file:
            for chunk in chunks:
                if stop.is_set():
                    raise Stopped
                left -= len(chunk)
                if left < 0:
                    return  # the hash of what came says the rest
                if chunk == _EMPTY:
                    file.seek(len(chunk), os.SEEK_CUR)  # a hole, as it most likely was
                    continue
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]
            file.truncate(size - left)
    except OSError as error:
        raise ConfigInvalid(f"writing {into}: {error.strerror}", hint="make room or mend its folder") from error


def _judge(store: ObjectStore, key: str, packed: Packed, stored: _Tap, plain: _Tap, problem: str) -> None:
    """Say what is wrong, if anything is: first of the object, and of what it holds only if the object is ours.

    Raises:
        Damaged: something is.
    """
    if (stored.size, stored.sha256) != (packed.stored_size, packed.stored_sha256):
        _, found = hash_object(store, key)  # whole: unpacking may have ended early
        if found != packed.stored_sha256:
            raise Damaged(
                f"reading {key}: the object has SHA-256 {found}, the manifest says {packed.stored_sha256}", hint=_OTHER
            )
        problem = problem or "it holds more than the manifest says"
    if problem:
        raise Damaged(
            f"unpacking {key} ({'+'.join(packed.packing)}): {problem}", hint=_KEYS if "open it" in problem else _OTHER
        )
    if (plain.size, plain.sha256) != (packed.size, packed.sha256):
        raise Damaged(
            f"unpacking {key}: {plain.size} bytes with SHA-256 {plain.sha256}, the manifest says {packed.size} bytes "
            f"with {packed.sha256}",
            hint=_OTHER,
        )


def _on_this_loop(on_progress: Progress | None) -> Progress:
    """Return a function for threads that calls `on_progress` where its owner lives."""
    if on_progress is None:
        return lambda done, total: None
    call, loop = on_progress, asyncio.get_running_loop()

    def report(done: int, total: int) -> None:
        loop.call_soon_threadsafe(call, done, total)

    return report
