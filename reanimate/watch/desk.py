"""The desk: which alarms are firing, kept on disk so that a restarted watch neither repeats nor forgets one.

Every change is on disk, in the outbox first, before it is sent. Memory is changed at once, disk in a thread, in order.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import orjson

from reanimate.files import write_atomically
from reanimate.watch.alarm import Alarm, Event, event_of
from reanimate.watch.outbox import Outbox

__all__ = ["Desk"]

log = logging.getLogger(__name__)

RESEND_AFTER = timedelta(minutes=5)


class Desk:
    """Raises, updates and resolves alarms. `run` must be running for anything to reach the disk."""

    def __init__(self, directory: Path, outbox: Outbox) -> None:
        self._file = directory / "firing.json"
        self._outbox = outbox
        self._changes: asyncio.Queue[tuple[Event, bytes]] = asyncio.Queue()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="desk")
        self._sent_at: dict[str, datetime] = {}
        self.firing: dict[str, Alarm] = {}
        self.raised = 0
        self.resolved = 0

    def load(self, now: datetime) -> None:
        """Read what was firing, and add what waits in the outbox: a kill may fall between the two.

        Raises:
            OSError: a file exists and cannot be read.
        """
        self.firing = self._stored()
        for event in self._outbox.waiting():
            if event.firing:
                self.firing[event.fingerprint] = event.alarm
            else:
                self.firing.pop(event.fingerprint, None)
        self._sent_at = dict.fromkeys(self.firing, now)

    def _stored(self) -> dict[str, Alarm]:
        if not self._file.exists():
            return {}
        try:
            stored = orjson.loads(self._file.read_bytes())
            return {item["fingerprint"]: Alarm.from_json(item) for item in stored}
        except (ValueError, KeyError, TypeError) as error:
            aside = self._file.rename(self._file.with_suffix(".unreadable"))
            log.warning("%s is not readable (%s) and was put aside as %s", self._file, error, aside)
            return {}

    def fire(self, alarm: Alarm, now: datetime) -> None:
        """Raise the alarm, or, when it is firing already, send it again as it is now; its start does not change."""
        if (known := self.firing.get(alarm.fingerprint)) is None:
            self.raised += 1
            log.warning("alarm %s: %s", alarm.fingerprint, alarm.annotations.get("summary", ""))
        else:
            alarm = replace(alarm, starts_at=known.starts_at)
        self.firing[alarm.fingerprint] = alarm
        self._sent_at[alarm.fingerprint] = now
        self._change(event_of(alarm, now))

    def resolve(self, fingerprint: str, now: datetime, **annotations: str) -> None:
        """End the alarm; one that is not firing is left alone."""
        alarm = self.firing.pop(fingerprint, None)
        self._sent_at.pop(fingerprint, None)
        if alarm is None:
            return
        self.resolved += 1
        log.info("alarm %s ended after %s", fingerprint, now - alarm.starts_at)
        self._change(event_of(alarm.with_evidence((), **annotations), now, ends_at=now))

    def resend(self, now: datetime) -> None:
        """Send again what has been firing for long without a word; not while anything still waits to be delivered."""
        if len(self._outbox) or not self._changes.empty():
            return
        for fingerprint, alarm in list(self.firing.items()):
            if now - self._sent_at[fingerprint] >= RESEND_AFTER:
                self.fire(alarm, now)

    def _change(self, event: Event) -> None:
        self._changes.put_nowait((event, orjson.dumps([alarm.as_json() for alarm in self.firing.values()])))

    async def run(self) -> None:
        """Write changes to disk in order and release each to the sender, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            event, firing = await self._changes.get()
            path = await loop.run_in_executor(self._disk, self._persist, event, firing)
            self._outbox.release(event, path)
            self._changes.task_done()

    def _persist(self, event: Event, firing: bytes) -> Path | None:
        """Write both files; when the disk takes neither, the alarm is sent all the same, from memory."""
        path = None
        try:
            path = self._outbox.write(event)
            write_atomically(self._file, firing)
        except OSError as error:
            log.warning("alarm %s cannot be kept in %s: %s", event.fingerprint, self._file.parent, error)
        return path

    async def drain(self) -> None:
        """Wait until every change so far is on disk."""
        await self._changes.join()
