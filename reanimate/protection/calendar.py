"""A calendar of proofs: for each day, whether what was backed up then has been proven. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Literal

__all__ = ["WEEKS", "Attempt", "Day", "DayState", "Grid", "calendar", "grid"]

WEEKS = 12

_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_IN_SUMMARY = {"proven": "proven", "unproven": "unproven", "failed": "failed", "none": "without a backup"}

DayState = Literal["proven", "unproven", "failed", "none", "ahead"]
"""none: nothing was backed up. ahead: the day has not come yet."""


@dataclass(frozen=True)
class Attempt:
    """One backup that was taken or tried, and what came of it, whether or not it is still there."""

    id: str
    at: datetime
    taken: bool
    proven: bool = False
    refuted: bool = False
    """A proof found it wrong, or it cannot be used."""


@dataclass(frozen=True)
class Day:
    """One day of the calendar."""

    date: date
    state: DayState
    taken: int = 0
    proven: int = 0
    failed: int = 0

    @property
    def text(self) -> str:
        """Say it in words: the colour alone tells not everybody."""
        if self.state == "ahead":
            return f"{self.date}: has not come yet"
        if self.state == "none":
            return f"{self.date}: no backup"
        taken = f"{self.taken} backup{'' if self.taken == 1 else 's'}"
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.date}: {self.state}, {taken}, {self.proven} proven{failed}"


def calendar(attempts: Iterable[Attempt], *, now: datetime, zone: tzinfo, weeks: int = WEEKS) -> tuple[Day, ...]:
    """Return the days of the last weeks, whole weeks from Monday on, the oldest first.

    A day is proven when something taken on it is; failed when a proof refuted something, or nothing that was tried
    came about.
    """
    today = now.astimezone(zone).date()
    first = today - timedelta(days=today.weekday(), weeks=weeks - 1)
    by_day: dict[date, list[Attempt]] = {}
    for attempt in attempts:
        by_day.setdefault(attempt.at.astimezone(zone).date(), []).append(attempt)
    days = (first + timedelta(days=number) for number in range(7 * weeks))
    return tuple(_day(day, by_day.get(day, ()), today) for day in days)


@dataclass(frozen=True)
class Grid:
    """A calendar as it is drawn: a column per week with the month where it begins, a row per day of the week."""

    months: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Day, ...]], ...]
    summary: str


def grid(days: Sequence[Day]) -> Grid:
    """Arrange whole weeks, the oldest first."""
    mondays = [day.date for day in days[::7]]
    months = tuple(
        f"{monday:%b}" if at == 0 or monday.month != mondays[at - 1].month else "" for at, monday in enumerate(mondays)
    )
    counted = {state: sum(day.state == state for day in days) for state in ("proven", "unproven", "failed", "none")}
    past = sum(counted.values())
    said = [f"{number} {_IN_SUMMARY[state]}" for state, number in counted.items() if number]
    return Grid(
        months,
        tuple((name, tuple(days[at::7])) for at, name in enumerate(_WEEKDAYS)),
        f"Of the last {past} days: {', '.join(said)}.",
    )


def _day(day: date, attempts: Sequence[Attempt], today: date) -> Day:
    taken = sum(attempt.taken for attempt in attempts)
    proven = sum(attempt.proven and not attempt.refuted for attempt in attempts)
    refuted = sum(attempt.refuted for attempt in attempts)
    failed = refuted + sum(not attempt.taken and not attempt.refuted for attempt in attempts)
    state: DayState
    if day > today:
        state = "ahead"
    elif not attempts:
        state = "none"
    elif refuted or not taken:
        state = "failed"
    else:
        state = "proven" if proven else "unproven"
    return Day(day, state, taken, proven, failed)
