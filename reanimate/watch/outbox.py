"""Events on their way to the intake: one file each, in order, removed only when the intake has said 2xx."""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson

from reanimate.files import write_atomically
from reanimate.watch.alarm import Event

__all__ = ["Outbox"]

log = logging.getLogger(__name__)

FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 5.0
POST_TIMEOUT_S = 5.0
UNREADABLE = frozenset({400, 413, 415, 422})
"""Answers after which the same bytes would never be taken; the event is set aside so that later ones can pass."""


@dataclass(frozen=True)
class Entry:
    """An event on its way; `path` is where it is kept, unless the disk would not take it."""

    body: bytes
    path: Path | None


class Outbox:
    """The queue on disk, and its one sender."""

    def __init__(self, directory: Path, url: str, token: str) -> None:
        self._directory = directory
        self._refused = directory / "refused"
        self._url = url
        self._token = token
        self._wake = asyncio.Event()
        directory.mkdir(parents=True, exist_ok=True)
        self._waiting = [Entry(path.read_bytes(), path) for path in sorted(directory.glob("[0-9]*.json"))]
        self._sequence = max((int(entry.path.stem) for entry in self._waiting if entry.path), default=0)
        self.delivered = 0
        self.refused = 0
        self.last_error: str | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def waiting(self) -> list[Event]:
        """Read the events that have not been delivered yet, oldest first."""
        return [Event(orjson.loads(entry.body)) for entry in self._waiting]

    def write(self, event: Event) -> Path:
        """Put the event on disk (blocks for two fsyncs); it is sent once it is given to `release` too.

        Raises:
            OSError: it cannot be written.
        """
        self._sequence += 1
        path = self._directory / f"{self._sequence:012d}.json"
        write_atomically(path, event.encoded())
        return path

    def release(self, event: Event, path: Path | None) -> None:
        """Send the event, after those before it. Without a path it lives in memory only: better late than lost."""
        self._waiting.append(Entry(event.encoded(), path))
        self._wake.set()

    def hurry(self) -> None:
        """Try at once, whatever the back-off: the intake has been seen alive."""
        self._wake.set()

    async def send_forever(self) -> None:
        """Deliver in order, waiting longer after each failure, until cancelled."""
        connector = aiohttp.TCPConnector(force_close=True)  # a stale kept connection would cost a retry
        timeout = aiohttp.ClientTimeout(total=POST_TIMEOUT_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            retry_s = FIRST_RETRY_S
            while True:
                self._wake.clear()
                if not self._waiting:
                    await self._wake.wait()
                elif await self._send(session, self._waiting[0]):
                    retry_s = FIRST_RETRY_S
                else:
                    await self._pause(retry_s)
                    retry_s = min(retry_s * 2, LONGEST_RETRY_S)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _send(self, session: aiohttp.ClientSession, entry: Entry) -> bool:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/cloudevents+json"}
        try:
            async with session.post(self._url, data=entry.body, headers=headers) as answer:
                status, text = answer.status, (await answer.text(errors="replace"))[:200]
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            return self._failed(f"{type(error).__name__}: {error}")
        if 200 <= status < 300:
            self.delivered += 1
            self.last_error = None
            self._waiting.remove(entry)
            if entry.path is not None:
                entry.path.unlink(missing_ok=True)
            return True
        if status in UNREADABLE:
            return self._set_aside(entry, f"HTTP {status}: {text}")
        return self._failed(f"HTTP {status}: {text}")

    def _failed(self, reason: str) -> bool:
        if reason != self.last_error:
            log.warning("the intake at %s did not take an alert, %d waiting: %s", self._url, len(self), reason)
        self.last_error = reason
        return False

    def _set_aside(self, entry: Entry, reason: str) -> bool:
        """Keep what the intake can never take where a person finds it, and let later events pass."""
        self._waiting.remove(entry)
        self.refused += 1
        self.last_error = reason
        if entry.path is not None:
            self._refused.mkdir(exist_ok=True)
            entry.path.rename(self._refused / entry.path.name)
        log.error("the intake at %s refused an alert for good (%s); it is kept in %s", self._url, reason, self._refused)
        return True
