"""The record of when the watch itself could not see: since when, for how long, and the last few times before."""

import logging
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from reanimate.files import write_atomically

__all__ = ["Blindness"]

log = logging.getLogger(__name__)

KEPT_PERIODS = 20


@dataclass
class Blindness:
    """Kept in `blind.json`, so that a person finds it later. Never an alert: nobody is accused."""

    file: Path
    since: datetime | None = None
    periods: list[tuple[datetime, datetime]] = field(default_factory=list)
    total_s: float = 0.0

    @property
    def now(self) -> bool:
        return self.since is not None

    def begin(self, since: datetime) -> None:
        """The watch lost sight at `since`. Doing it twice changes nothing."""
        if self.since is None:
            self.since = since
            log.error(
                "blind since %s: nothing watched answers, not even the intake; nobody is accused", since.isoformat()
            )
            self._save()

    def end(self, now: datetime) -> None:
        """Something answered again."""
        if self.since is not None:
            self.periods = [*self.periods, (self.since, now)][-KEPT_PERIODS:]
            self.total_s += (now - self.since).total_seconds()
            log.warning("sight is back: blind from %s to %s", self.since.isoformat(), now.isoformat())
            self.since = None
            self._save()

    def seconds(self, now: datetime) -> float:
        """How long this process has been blind in all, the present time included."""
        return self.total_s + ((now - self.since).total_seconds() if self.since else 0.0)

    def as_json(self) -> dict[str, Any]:
        return {
            "now": self.now,
            "since": self.since.isoformat() if self.since else None,
            "periods": [{"from": start.isoformat(), "to": end.isoformat()} for start, end in self.periods],
        }

    def _save(self) -> None:
        try:
            write_atomically(self.file, orjson.dumps(self.as_json(), option=orjson.OPT_INDENT_2))
        except OSError as error:
            log.warning("%s cannot be written: %s", self.file, error)
