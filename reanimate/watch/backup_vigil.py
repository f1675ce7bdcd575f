"""Keeps an eye on the recovery point objective: raises and ends the alarms about backups."""

import time
from collections.abc import Callable
from datetime import datetime

from reanimate.clock import utcnow
from reanimate.watch.dependencies import Kind
from reanimate.watch.desk import Desk
from reanimate.watch.recovery_points import Objectives, Protected, alarms_of, is_about_backups

__all__ = ["BackupVigil"]

EVERY_S = 5.0


class BackupVigil:
    """Judges what the catalog was last seen to hold."""

    def __init__(
        self, desk: Desk, objectives: Objectives, protected: Callable[[], tuple[Protected, ...] | None], since: datetime
    ) -> None:
        """`protected` returns None while the catalog was never read."""
        self._desk = desk
        self._objectives = objectives
        self._protected = protected
        self._since = since
        self._judged = float("-inf")

    def judge(self) -> None:
        """Do so, every few seconds. Nothing new is said while a vector store is in trouble: that is why, then."""
        if time.monotonic() - self._judged < EVERY_S or (protected := self._protected()) is None:
            return
        self._judged = time.monotonic()
        now = utcnow()
        if now < self._since + self._objectives.catch_up:
            return
        alarms = alarms_of(protected, self._objectives, watched_since=self._since, now=now)
        firing = list(self._desk.firing.items())
        in_trouble = any(alarm.subject.startswith(f"{Kind.VECTOR}:") for _, alarm in firing)
        for fingerprint, alarm in firing:
            if is_about_backups(alarm) and fingerprint not in alarms:
                self._desk.resolve(fingerprint, now)
        for fingerprint, alarm in alarms.items():
            if fingerprint not in self._desk.firing and not in_trouble:
                self._desk.fire(alarm, now)
