"""The calendar of proofs, and how what is protected stands."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from reanimate.config import Settings
from reanimate.protection.calendar import Attempt, calendar, grid
from reanimate.protection.overview import assemble, objective_s
from reanimate.protection.points import RecoveryPoint

NOW = datetime(2026, 11, 26, 9, 30, tzinfo=UTC)  # a Thursday
MONDAY = date(2026, 11, 23)


def attempt(days_ago: float, **how: Any) -> Attempt:
    at = NOW - timedelta(days=days_ago)
    return Attempt(f"b-{days_ago}-{sorted(how.items())}", at, **{"taken": True, **how})


def point(hours_ago: float, **how: Any) -> RecoveryPoint:
    fields = {"kind": "vector", "subject": "kb", "names": ("kb",), "repositories": ("local",), "size_bytes": 1000}
    return RecoveryPoint(
        **{"id": f"b-{hours_ago}", "taken_at": NOW - timedelta(hours=hours_ago), **fields, **how}  # type: ignore[arg-type]
    )


def settings(**backups: Any) -> Settings:
    return Settings.model_validate({"backups": backups})


def states(*attempts: Attempt, weeks: int = 1) -> list[str]:
    return [day.state for day in calendar(attempts, now=NOW, zone=UTC, weeks=weeks)]


def test_calendar__whole_weeks_from_monday() -> None:
    days = calendar([], now=NOW, zone=UTC, weeks=12)
    assert len(days) == 84
    assert days[0].date == MONDAY - timedelta(weeks=11)
    assert [day.state for day in days[-7:]] == ["none"] * 4 + ["ahead"] * 3


@pytest.mark.parametrize(
    ("attempts", "state"),
    [
        ([attempt(0.1)], "unproven"),
        ([attempt(0.1), attempt(0.2, proven=True)], "proven"),
        ([attempt(0.1, proven=True), attempt(0.2, refuted=True)], "failed"),
        ([attempt(0.1, proven=True, refuted=True)], "failed"),
        ([attempt(0.1, taken=False)], "failed"),
        ([attempt(0.1, taken=False), attempt(0.2)], "unproven"),
        ([attempt(0.1, taken=False), attempt(0.2, proven=True)], "proven"),
    ],
)
def test_calendar__a_day_is_as_good_as_its_backups(attempts: list[Attempt], state: str) -> None:
    """What was refuted shows, whatever else was proven; an attempt that failed only counts where nothing was taken."""
    assert states(*attempts) == ["none", "none", "none", state, "ahead", "ahead", "ahead"]


def test_calendar__days_are_those_of_the_zone() -> None:
    """Half past eleven in the evening in UTC is the next day in Berlin."""
    late = Attempt("b", datetime(2026, 11, 24, 23, 30, tzinfo=UTC), taken=True)
    days = calendar([late], now=NOW, zone=ZoneInfo("Europe/Berlin"), weeks=1)
    assert [day.date for day in days if day.taken] == [date(2026, 11, 25)]


def test_grid__says_everything_in_words() -> None:
    days = calendar([attempt(0.1, proven=True), attempt(1, taken=False), attempt(2)], now=NOW, zone=UTC)
    drawn = grid(days)
    assert [name for name, _ in drawn.rows] == ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    assert all(len(row) == len(drawn.months) == 12 for _, row in drawn.rows)
    assert drawn.summary == "Of the last 81 days: 1 proven, 1 unproven, 1 failed, 78 without a backup."
    assert drawn.rows[3][1][-1].text == "2026-11-26: proven, 1 backup, 1 proven"
    assert drawn.rows[2][1][-1].text == "2026-11-25: failed, 0 backups, 0 proven, 1 failed"


def test_assemble__newest_proven_late() -> None:
    """Deleted and refuted ones are shown and stand for nothing."""
    points = [
        point(0.2, deleted_until=NOW + timedelta(days=1)),
        point(0.3, proof="damaged"),
        point(0.5, base="b-5", size_bytes=10),
        point(5, proof="proven", proof_at=NOW, size_bytes=1300),
        point(5 + 24 * 3, proof="expired"),
    ]
    (kb,) = assemble(points, {}, settings(rpo_s=3600), now=NOW)
    assert (kb.newest, kb.proven) == (points[2], points[3])
    assert (kb.age_s, kb.late) == (1800, False)
    assert (kb.size_bytes, kb.growth_per_day) == (1300, pytest.approx(100))
    assert kb.standing.tone == "bad"  # the newest that was looked at is damaged
    (kb,) = assemble(points, {}, settings(rpo_s=600), now=NOW)
    assert kb.late
    assert "Late" in kb.standing.text


@pytest.mark.parametrize(
    ("points", "tone"),
    [
        ([point(0.5, proof="proven")], "good"),
        ([point(0.2), point(0.5, proof="proven")], "good"),
        ([point(0.5)], "warn"),
        ([point(0.5, proof="expired")], "warn"),
        ([point(0.5), point(1, proof="failed")], "bad"),
        ([point(0.5, proof="proven"), point(1, proof="failed")], "good"),
        ([point(0.5, proof="failed")], "bad"),
        ([point(9, proof="proven")], "bad"),
    ],
)
def test_assemble__standing(points: list[RecoveryPoint], tone: str) -> None:
    (kb,) = assemble(points, {}, settings(rpo_s=3600), now=NOW)
    assert kb.standing.tone == tone


def test_assemble__what_the_settings_name_shows_without_a_backup() -> None:
    """By exact name, but not an alias of something that has backups, nor a glob."""
    given = Settings.model_validate({"vector": {"collections": ["kb", "lost", "docs-*", "knowledge"]}})
    things = assemble([point(1, names=("kb", "knowledge"))], {}, given, now=NOW)
    assert [thing.subject for thing in things] == ["kb", "lost"]
    assert things[1].standing.text == "Nothing here can be restored."
    assert things[1].late


def test_assemble__record_and_repositories_are_joined() -> None:
    """What is gone from the repositories stays in the calendar; the marks win over the record."""
    tried = {
        ("vector", "kb"): (
            Attempt("b-1", NOW - timedelta(hours=1), taken=True, proven=True),
            Attempt("gone", NOW - timedelta(days=1), taken=True, proven=True),
        )
    }
    (kb,) = assemble([point(1, proof="failed")], tried, settings(), now=NOW)
    assert [day.state for day in kb.days[-7:]] == ["none", "none", "proven", "failed", "ahead", "ahead", "ahead"]


def test_assemble__next_run() -> None:
    """Each kind has schedules of its own."""
    due = {"vector": NOW + timedelta(minutes=5), "postgres": NOW + timedelta(hours=16)}
    things = assemble([point(1), point(1, kind="config")], {}, settings(), now=NOW, next_at=due)
    assert [thing.next_at for thing in things] == [None, due["vector"]]


def test_objective__by_kind() -> None:
    """Databases are dumped once a day; configuration is kept when it changes."""
    assert objective_s("vector", settings(rpo_s=900)) == 900
    assert objective_s("postgres", settings(rpo_s=900)) == 26 * 3600
    assert objective_s("postgres", settings(rpo_s=200_000)) == 200_000
    assert objective_s("config", settings()) is None
