"""Windows of time in a named zone, cut without gap or overlap, also where clocks are put forward or back. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

__all__ = ["Window", "WindowKind", "window_at"]

WindowKind = Literal["minute", "hour", "day", "month"]

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Window:
    """From `starts` up to, and without, `ends`, in whole seconds since 1970."""

    starts: int
    ends: int


def window_at(kind: WindowKind, zone: str, now: float) -> Window:
    """Return the window that the moment `now` (seconds since 1970) is in.

    A window begins when the zone's clock shows its first minute. A midnight that is skipped begins its day at the
    moment of the change, one that comes twice begins it the first time; an hour that comes twice is two windows.
    """
    if kind == "minute":
        starts = int(now // 60) * 60
        return Window(starts, starts + 60)
    begins = sorted(_begins_around(kind, ZoneInfo(zone), now))
    return Window(max(each for each in begins if each <= now), min(each for each in begins if each > now))


def _begins_around(kind: WindowKind, zone: ZoneInfo, now: float) -> set[int]:
    """Return the moments at which windows begin, those just before and after `now` among them."""
    local = datetime.fromtimestamp(now, UTC).astimezone(zone).replace(tzinfo=None)
    if kind == "hour":
        hour = local.replace(minute=0, second=0, microsecond=0)
        walls = [hour + n * _HOUR for n in range(-2, 4)]
        return {
            moment
            for wall in walls
            for fold in (0, 1)
            if _is_shown(moment := _moment(wall.replace(fold=fold), zone), wall, zone)
        }
    day = local.replace(hour=0, minute=0, second=0, microsecond=0)
    if kind == "day":
        return {_moment(day + timedelta(days=n), zone) for n in range(-2, 3)}
    first = day.replace(day=1)
    before = (first - timedelta(days=1)).replace(day=1)
    after = (first + timedelta(days=32)).replace(day=1)
    return {_moment(month, zone) for month in (before, first, after, (after + timedelta(days=32)).replace(day=1))}


def _moment(wall: datetime, zone: ZoneInfo) -> int:
    return int(wall.replace(tzinfo=zone).timestamp())


def _is_shown(moment: int, wall: datetime, zone: ZoneInfo) -> bool:
    """Whether the zone's clock really shows `wall` then: a skipped hour is never shown."""
    return datetime.fromtimestamp(moment, UTC).astimezone(zone).replace(tzinfo=None, fold=0) == wall
