"""Streams of chunks whose stages run beside each other, each in a thread, with a bounded number of chunks between.

Reading, hashing, compressing and sending all leave the interpreter's lock, so that two cores do twice as much.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeAlias, TypeVar

__all__ = ["Chunk", "ChunkReader", "Stop", "Stopped", "ahead", "beside", "in_order", "run_stoppable"]

Chunk: TypeAlias = bytes | bytearray | memoryview
Write: TypeAlias = Callable[[Chunk], None]
Stop: TypeAlias = threading.Event
T = TypeVar("T")

_DEPTH = 3


class Stopped(Exception):
    """Nobody wants the rest of this stream any more."""


class _Belt:
    """A queue that holds a few chunks, that its reader can stop, and that hands an error of its writer on."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._chunks: deque[Chunk] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._stopped = False
        self._error: BaseException | None = None

    def put(self, chunk: Chunk) -> None:
        with self._changed:
            while len(self._chunks) >= self._depth and not self._stopped:
                self._changed.wait()
            if self._stopped:
                raise Stopped
            self._chunks.append(chunk)
            self._changed.notify_all()

    def end(self, error: BaseException | None) -> None:
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def get(self) -> Chunk | None:
        with self._changed:
            while not self._chunks and not self._ended:
                self._changed.wait()
            if self._chunks:
                chunk = self._chunks.popleft()
                self._changed.notify_all()
                return chunk
            if self._error is not None:
                raise self._error
            return None

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._chunks.clear()
            self._changed.notify_all()


def beside(work: Callable[[Write], None], depth: int = _DEPTH) -> Generator[Chunk, None, None]:
    """Yield what `work` writes while it runs in a thread of its own; its error, if any, is raised here at the end.

    Closing the generator makes the next write raise `Stopped` and waits until `work` has ended.
    """
    belt = _Belt(depth)

    def run() -> None:
        try:
            work(belt.put)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to whoever reads
            belt.end(error)
        else:
            belt.end(None)

    thread = threading.Thread(target=run, name="belt", daemon=True)
    thread.start()
    try:
        while (chunk := belt.get()) is not None:
            yield chunk
    finally:
        belt.stop()
        thread.join()


def ahead(source: Generator[Chunk, None, None], depth: int = _DEPTH) -> Generator[Chunk, None, None]:
    """Run a generator in a thread of its own, a few chunks ahead of whoever reads."""

    def work(write: Write) -> None:
        with closing(source):
            for chunk in source:
                write(chunk)

    return beside(work, depth)


def in_order(jobs: Iterable[Callable[[], T]], at_once: int) -> Generator[T, None, None]:
    """Yield the results of some jobs in their order, a few of them running ahead at once."""
    with ThreadPoolExecutor(at_once, thread_name_prefix="belt") as pool:
        running: deque[Future[T]] = deque()
        try:
            for job in jobs:
                running.append(pool.submit(job))
                if len(running) >= at_once:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


class ChunkReader:
    """A stream of chunks as a file that can only be read. Keeps the stream's error, which callers in C turn to text."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self.error: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        if not self._rest:
            try:
                self._rest = memoryview(next(self._chunks, b""))
            except BaseException as error:
                self.error = error
                raise
        taken = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(taken) :]
        return bytes(taken)


async def run_stoppable(work: Callable[[Stop], T]) -> T:
    """Run `work` in a thread; a cancellation sets its event and is passed on when it has ended."""
    stop = threading.Event()
    running = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # looked at, so that nobody is told of an error that was never fetched
        raise
