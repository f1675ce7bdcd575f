"""When a schedule is due, in its time zone. Pure.

A slot is one such moment, as an instant in UTC. A fixed hour that a change of the clocks leaves out falls on the first
moment that exists, one that occurs twice counts once, and what comes every few minutes goes on through both: so does
Debian's cron, whose rules `cronsim` follows. Prefect's own scheduler runs an hour early on the first of these nights.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from reanimate.clock import ensure_utc
from reanimate.errors import ConfigInvalid

__all__ = ["PATIENCE", "Schedule", "every_minutes", "is_steady", "missed"]

PATIENCE = timedelta(minutes=2)
"""How late Prefect may be with a run before it counts as missed."""

_PAST_ANY_CHANGE = timedelta(hours=3)
"""No clock is put on or back by more."""


@dataclass(frozen=True)
class Schedule:
    """Something that is done at certain times; its name is what slots are claimed under."""

    name: str
    cron: str
    zone: str
    entrypoint: str = ""
    """The flow it starts, as module:attribute."""
    deployment: str = ""
    """The name of that flow's deployment."""
    parameters: dict[str, Any] = field(default_factory=dict)

    def slot_at(self, moment: datetime) -> datetime:
        """Return the newest slot that is not after `moment`.

        Raises:
            ConfigInvalid: the cron line means nothing.
        """
        # Backwards from behind any change of the clocks: in the hour that occurs twice, the wall's time does not tell.
        ahead = ensure_utc(moment).astimezone(ZoneInfo(self.zone)) + _PAST_ANY_CHANGE
        return next(slot for slot in map(ensure_utc, self._walk(ahead, back=True)) if slot <= moment)

    def slot_after(self, moment: datetime) -> datetime:
        """Return the next slot after `moment`.

        Raises:
            ConfigInvalid: the cron line means nothing.
        """
        local = ensure_utc(moment).astimezone(ZoneInfo(self.zone)) - _PAST_ANY_CHANGE
        return next(slot for slot in map(ensure_utc, self._walk(local)) if slot > moment)

    def _walk(self, start: datetime, *, back: bool = False) -> CronSim:
        try:
            return CronSim(self.cron, start, reverse=back)
        except CronSimError as error:
            raise ConfigInvalid(f"schedule {self.name}: {self.cron!r} is no cron line: {error}") from None


def missed(schedule: Schedule, last: datetime | None, now: datetime) -> datetime | None:
    """Return the slot to catch up: the newest that is past without a run, however many before it were missed too.

    `last` is the newest slot that anybody claimed. Without any, the schedule is new, and nothing was missed.
    """
    if last is None:
        return None
    slot = schedule.slot_at(now - PATIENCE)
    return slot if slot > last else None


def every_minutes(minutes: int) -> str:
    """Return the cron line for every so many minutes.

    Raises:
        ConfigInvalid: an hour or a day cannot be cut into such parts.
    """
    if minutes < 60 and 60 % minutes == 0:
        return f"*/{minutes} * * * *"
    if minutes % 60 == 0 and 24 % (minutes // 60) == 0:
        return f"0 */{minutes // 60} * * *"
    raise ConfigInvalid(f"every {minutes} minutes: an hour or a day cannot be cut so", hint="try 15, 30, 60 or 120")


def is_steady(cron: str) -> bool:
    """Say whether a cron line goes by minutes only, so that no change of the clocks means anything to it."""
    return cron.split()[1:] == ["*"] * 4
