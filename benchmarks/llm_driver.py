"""The caller of the LLM benchmarks: requests rendered beforehand, raw connections, so that little of it is measured."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools
import orjson

__all__ = ["Caller", "Outcome", "alternately", "closed_loop", "rendered", "steadily"]


@dataclass(slots=True)
class Outcome:
    """One answer, or how it broke. Times are of the monotonic clock, in seconds."""

    began: float
    status: int = 0
    first: float = 0.0
    ended: float = 0.0
    body: bytes = b""
    broke: str = ""

    @property
    def took_ms(self) -> float:
        return (self.ended - self.began) * 1000

    @property
    def ok(self) -> bool:
        return self.status == 200 and not self.broke


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._outcome: Outcome | None = None
        self._over: asyncio.Future[None]
        self._parts: list[bytes] = []
        self.good = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)

    async def ask(self, request: bytes, outcome: Outcome) -> None:
        self._outcome = outcome
        self._parts = []
        self._over = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        await self._over

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_headers_complete(self) -> None:
        if self._outcome is not None:
            self._outcome.status = self._parser.get_status_code()
        self.good = self._parser.should_keep_alive()

    def on_body(self, part: bytes) -> None:
        if not self._parts and self._outcome is not None:
            self._outcome.first = time.monotonic()
        self._parts.append(part)

    def on_message_complete(self) -> None:
        self._end("")

    def connection_lost(self, exc: Exception | None) -> None:
        self.good = False
        self._end(repr(exc) if exc else "closed")

    def _end(self, broke: str) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            outcome.ended = time.monotonic()
            outcome.body = b"".join(self._parts)
            outcome.broke = broke
            if not self._over.done():
                self._over.set_result(None)


@dataclass
class Caller:
    """Sends to one URL; keeps its connections."""

    url: str
    limit_s: float = 30.0
    _idle: list[_Connection] = field(default_factory=list)

    async def ask(self, request: bytes, began: float | None = None) -> Outcome:
        """Send a rendered request; the time counts from `began`, if it was due earlier."""
        outcome = Outcome(began or time.monotonic())
        while self._idle and not self._idle[-1].good:
            self._idle.pop()
        parts = urlsplit(self.url)
        try:
            if self._idle:
                connection = self._idle.pop()
            else:
                async with asyncio.timeout(self.limit_s):
                    _, connection = await asyncio.get_running_loop().create_connection(
                        _Connection, parts.hostname, parts.port
                    )
            timer = asyncio.get_running_loop().call_later(self.limit_s, connection.transport.abort)
            await connection.ask(request, outcome)
            timer.cancel()
            if connection.good:
                self._idle.append(connection)
        except OSError as error:
            outcome.ended, outcome.broke = time.monotonic(), repr(error)
        return outcome

    def close(self) -> None:
        for connection in self._idle:
            connection.transport.abort()
        self._idle.clear()


def rendered(path: str, model: str, prompt: str, *, stream: bool = False, tokens: int | None = None) -> bytes:
    """Return a chat completion request, ready to be written."""
    body = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": prompt if tokens is None else f"{prompt} [[tokens={tokens}]]"},
        ],
        "temperature": 0.2,
        **({"stream": True} if stream else {}),
    }
    content = orjson.dumps(body)
    return (
        f"POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nAuthorization: Bearer key\r\n"
        f"User-Agent: bench\r\nAccept: */*\r\nContent-Length: {len(content)}\r\n\r\n"
    ).encode() + content


async def closed_loop(
    caller: Caller, request: Callable[[], bytes], *, at_once: int, count: int, seconds: float
) -> list[Outcome]:
    """Ask until `count` were asked or the time is over, each caller as soon as it has its answer."""
    left = iter(range(count))
    until = time.monotonic() + seconds
    outcomes: list[Outcome] = []

    async def one() -> None:
        for _ in left:
            outcomes.append(await caller.ask(request()))
            if time.monotonic() > until:
                return

    await asyncio.gather(*(one() for _ in range(at_once)))
    return outcomes


async def steadily(caller: Caller, request: Callable[[], bytes], *, per_second: float, seconds: float) -> list[Outcome]:
    """Ask at fixed moments, answered or not; each answer is timed from its moment."""
    begin = time.monotonic()
    tasks = []
    for number in range(int(per_second * seconds)):
        due = begin + number / per_second
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        tasks.append(asyncio.create_task(caller.ask(request(), due)))
    return list(await asyncio.gather(*tasks))


Asked = tuple[Caller, Callable[[], bytes]]
"""Whom to ask, and what."""


async def alternately(
    one: Asked, other: Asked, *, per_second: float, seconds: float
) -> tuple[list[Outcome], list[Outcome]]:
    """Ask two in turns at fixed moments, each so often: what the machine does meanwhile is the same for both."""
    begin = time.monotonic()
    tasks: tuple[list[asyncio.Task[Outcome]], list[asyncio.Task[Outcome]]] = ([], [])
    for number in range(int(2 * per_second * seconds)):
        due = begin + number / (2 * per_second)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        which = (number + 1) // 2 % 2  # one, other, other, one: neither always comes after the other
        caller, request = (one, other)[which]
        tasks[which].append(asyncio.create_task(caller.ask(request(), due)))
    return list(await asyncio.gather(*tasks[0])), list(await asyncio.gather(*tasks[1]))
