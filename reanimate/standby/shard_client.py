"""The other end of a shard process: starts it, asks it, restarts it when it dies."""

import asyncio
import contextlib
import logging
import os
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import orjson

from reanimate.standby.errors import ApiError, internal

__all__ = ["ShardClient"]

Json = dict[str, Any]

_LENGTH = struct.Struct("<I")
_RESTART_PAUSE_S = 1.0

log = logging.getLogger(__name__)


class _Connection:
    """One life of the process."""

    def __init__(
        self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.process = process
        self._reader = reader
        self._writer = writer
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self.alive = True
        self.reading = asyncio.create_task(self._read())

    async def ask(self, message: Json) -> Any:
        """Send one request and wait for its answer; requests are answered in order."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        body = orjson.dumps(message)
        self._waiting.append(answer)
        self._writer.write(_LENGTH.pack(len(body)))
        self._writer.write(body)
        with contextlib.suppress(ConnectionError, RuntimeError):  # the reader sees the end too, and fails what waits
            await self._writer.drain()
        return await answer

    async def _read(self) -> None:
        try:
            while True:
                (size,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
                found = orjson.loads(await self._reader.readexactly(size))
                answer = self._waiting.popleft()
                if answer.done():
                    continue
                if "ok" in found:
                    answer.set_result(found["ok"])
                else:
                    answer.set_exception(ApiError(found["status"], found["error"]))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the process is gone; what waits is told below
        finally:
            self.alive = False
            self._writer.close()
            while self._waiting:
                answer = self._waiting.popleft()
                if not answer.done():
                    answer.set_exception(internal("the shard's process died while it worked on this request"))

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._waiting)

    async def end(self, *, at_once: bool = False) -> None:
        """Close the socket, which ends the process after it has flushed; kill it when that takes too long."""
        self._writer.close()
        if at_once:
            self.process.kill()
        try:
            await asyncio.wait_for(asyncio.to_thread(self.process.wait), timeout=3.0)
        except TimeoutError:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
        self.reading.cancel()
        await asyncio.gather(self.reading, return_exceptions=True)


class ShardClient:
    """One shard copy on disk and the process that serves it."""

    def __init__(self, directory: Path, config: Json) -> None:
        self.directory = directory
        self.config = config
        self.info: Json = {}
        """What the shard said about itself when it was opened."""
        self._connection: _Connection | None = None
        self._starting = asyncio.Lock()
        self._closed = False
        self._failed: tuple[float, ApiError] | None = None
        self._used_at = time.monotonic()
        self._prepared: _Connection | None = None
        self._watching: asyncio.Task[None] | None = None

    async def prepare(self) -> None:
        """Start the process, which takes a moment, before the shard is there that it will open."""
        async with self._starting:
            if self._connection is None and self._prepared is None and not self._closed:
                self._prepared = await _spawn()

    async def create(self) -> None:
        """Make the empty shard on disk and serve it."""
        await self._start("create")

    async def load(self) -> None:
        """Serve the shard that is on disk.

        Raises:
            ApiError: 500, the engine cannot open it.
        """
        await self._start("load")

    async def call(self, op: str, **arguments: Any) -> Any:
        """Ask the shard. A process that died since is started again first.

        Raises:
            ApiError: what the engine answered, or 500 when its process died.
        """
        self._used_at = time.monotonic()
        connection = self._connection
        if connection is None or not connection.alive:
            connection = await self._start("load")
        return await connection.ask({"op": op, **arguments})

    async def rest(self, idle_s: float) -> None:
        """End the process, after a flush, if nothing was asked of it for `idle_s` seconds; the next call starts it."""
        async with self._starting:
            connection = self._connection
            idle = time.monotonic() - self._used_at >= idle_s
            if connection is not None and idle and not connection.is_busy:
                self._connection = None
                await connection.end()

    async def close(self, *, at_once: bool = False) -> None:
        """End the process after a flush, or at once when its data is not wanted any more."""
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
        async with self._starting:
            for connection in (self._connection, self._prepared):
                if connection is not None:
                    await connection.end(at_once=at_once)
            self._connection = self._prepared = None

    @property
    def pid(self) -> int | None:
        return self._connection.process.pid if self._connection else None

    async def _start(self, how: str) -> _Connection:
        async with self._starting:
            if self._connection is not None and self._connection.alive:
                return self._connection
            if self._closed:
                raise internal("the shard has been closed")
            if self._failed is not None and time.monotonic() - self._failed[0] < _RESTART_PAUSE_S:
                raise self._failed[1]
            if self._connection is not None:
                await self._connection.end()
            connection, self._prepared = self._prepared, None
            if connection is None or not connection.alive:
                connection = await _spawn()
            try:
                self.info = await connection.ask({"op": how, "path": str(self.directory), "config": self.config})
            except ApiError as error:
                self._failed = (time.monotonic(), error)
                await connection.end()
                raise
            except BaseException:
                await connection.end()
                raise
            self._failed = None
            self._connection = connection
            self._watching = asyncio.create_task(self._revive(connection))
            return connection

    async def _revive(self, connection: _Connection) -> None:
        """Start the process again as soon as it dies, so that the next request does not have to wait."""
        await asyncio.wait([connection.reading])
        if self._closed or self._connection is not connection:
            return
        code = await asyncio.to_thread(connection.process.wait)
        log.warning("shard process of %s ended with %s; starting it again", self.directory, code)
        try:
            await self._start("load")
        except ApiError as error:
            log.warning("shard %s cannot be opened again: %s", self.directory, error.text)


async def _spawn() -> _Connection:
    """Start a shard process. It dies with this one: its kernel is told so, and its socket ends."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "reanimate.standby.shard", str(theirs.fileno())]
        environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}
        process = subprocess.Popen(  # noqa: ASYNC220 - forks in milliseconds, and must be done by the main thread
            command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, env=environment
        )
    ours.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    return _Connection(process, reader, writer)
