"""One answer of a provider, as it comes."""

import asyncio
from typing import Protocol

from reanimate.gateway.llm.transport.errors import TransportFailed, TransportTrouble

__all__ = ["HIGH", "Response"]

HIGH = 256 * 1024
"""With more than this unread, the provider is made to wait."""


class Line(Protocol):
    """What an answer can do with the connection that it comes on."""

    def resume(self) -> None:
        """Have the provider go on: what has come was taken."""

    def hang_up(self) -> None:
        """Close it: nobody wants the rest."""


class Response:
    """An answer: `status` and `headers` are there when `Pool.send` returns, the body is taken by one reader.

    Who leaves without the whole body calls `abort()`. A reader that is cancelled has called it.
    """

    __slots__ = (
        "_complete", "_failure", "_line", "_loop", "_parts", "_waiter",
        "headers", "last_byte_at", "paused", "sent", "size", "status",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """`loop`: the running one, by who knows it; to ask for it is a call of the system."""
        self._loop = loop if loop is not None else asyncio.get_running_loop()
        self._line: Line | None = None
        self._parts: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None
        self._complete = False
        self.size = 0
        """How many bytes wait to be taken."""
        self.paused = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        """Names in lower case."""
        self.sent: list[tuple[bytes, bytes]] = []
        """The headers of the request: what is told of a failure must not repeat the keys in them."""
        self.last_byte_at = self._loop.time()
        """When the last byte came, by the loop's clock; before the first, when it was asked for."""

    @property
    def closed(self) -> bool:
        """Whether nothing more will come: all of it has, it broke, or it was aborted."""
        return self._complete or self._failure is not None

    async def chunk(self) -> bytes:
        """Return all that has come and was not taken yet, waiting for something; b"" at the proper end.

        Raises:
            TransportFailed: CUT, after everything that came before was taken.
            BaseException: what was given to `abort`.
        """
        while not self._parts:
            self.check()
            if self._complete:
                return b""
            waiter = self._waiter = self._loop.create_future()
            try:
                await waiter  # as `wait` does: here is where each event of each stream is waited for
            except asyncio.CancelledError:
                self.abort()
                raise
        return self._take()

    async def read(self, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            TransportFailed: CUT; or TOO_LARGE, it is longer than `limit` bytes.
            BaseException: what was given to `abort`.
        """
        taken: list[bytes] = []
        size = 0
        while not self._complete:
            self.check()
            if self.size > HIGH:
                size += self.size
                taken.append(self._take())
            if size + self.size > limit:
                break
            await self.wait()
        self.check()
        if size + self.size > limit:
            self.abort()
            raise TransportFailed(TransportTrouble.TOO_LARGE, f"the answer is longer than {limit} bytes")
        if self._parts:
            taken.append(self._take())
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def abort(self, reason: BaseException | None = None) -> None:
        """Close the connection now, and raise `reason` in whoever waits for this answer or asks for more of it."""
        if reason is None and self._complete:
            return
        self._failure = reason or TransportFailed(TransportTrouble.CUT, "the call was given up")
        self._parts.clear()
        self.size = 0
        line, self._line = self._line, None
        if line is not None:
            line.hang_up()
        self.wake()

    # What follows is for the connection and the pool.

    def check(self) -> None:
        """Raise why this answer will not come, if it will not."""
        if self._failure is not None:
            raise self._failure

    async def wait(self) -> None:
        """Wait until something happened. Being cancelled here is being left by the caller: the connection goes."""
        waiter = self._waiter = self._loop.create_future()
        try:
            await waiter
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            self._waiter = None

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def begin(self, line: Line) -> None:
        """It is asked for on this connection from now on; what was asked on another one before is forgotten.

        Raises:
            BaseException: it was aborted already.
        """
        self.check()
        self._line = line

    def forget(self) -> None:
        """Be as new: the connection broke without a byte, and another one is tried."""
        self._failure = None

    def add(self, part: bytes) -> None:
        self._parts.append(part)
        self.size += len(part)

    def complete(self) -> None:
        self._complete = True
        self._line = None

    def fail(self, failure: TransportFailed) -> None:
        """Nothing more comes; what came can still be taken."""
        if not self.closed:
            self._failure = failure
        self._line = None
        self.wake()

    def _take(self) -> bytes:
        parts = self._parts
        taken = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self.size = 0
        if self.paused:
            self.paused = False
            if self._line is not None:
                self._line.resume()
        return taken
