"""How the doctor judges what it finds."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reanimate.config import Settings
from reanimate.doctor.finding import Level, clock_finding
from reanimate.doctor.machine import disk_finding, package_finding, python_finding
from reanimate.doctor.protection import arrangement_findings, backup_finding

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
GIB = 1 << 30


@pytest.mark.parametrize(
    ("ahead_s", "level"),
    [(0.4, Level.OK), (-1.9, Level.OK), (2.5, Level.WARN), (-29.0, Level.WARN), (31.0, Level.FAIL)],
)
def test_clock__judged_by_distance(ahead_s: float, level: Level) -> None:
    """Two seconds are worth a word, thirty break signatures; it does not matter who is ahead."""
    assert clock_finding("x", ahead_s).level is level


@pytest.mark.parametrize(("free", "level"), [(GIB // 2, Level.FAIL), (2 * GIB, Level.WARN), (50 * GIB, Level.OK)])
def test_disk__judged_by_free_space(free: int, level: Level) -> None:
    """A disk that is nearly full fails before the databases on it do."""
    assert disk_finding(Path("/x"), free).level is level


@pytest.mark.parametrize(
    ("found", "level"), [("0.150.2", Level.OK), ("0.151.0", Level.FAIL), ("0.165.0", Level.FAIL), (None, Level.FAIL)]
)
def test_package__outside_its_range(found: str | None, level: Level) -> None:
    """A fastapi that breaks Prefect's server is found before the server is started."""
    assert package_finding("fastapi", found).level is level


@pytest.mark.parametrize(
    ("found", "level"),
    [((3, 10, 9), Level.FAIL), ((3, 11, 0), Level.OK), ((3, 13, 5), Level.OK), ((3, 14, 0), Level.FAIL)],
)
def test_python__range(found: tuple[int, ...], level: Level) -> None:
    """Python 3.11 to 3.13 will do."""
    assert python_finding(found).level is level


@pytest.mark.parametrize(("age", "level"), [(timedelta(hours=25), Level.OK), (timedelta(hours=27), Level.WARN)])
def test_backup__judged_by_age(age: timedelta, level: Level) -> None:
    """A daily backup that is a good day old was missed."""
    assert backup_finding("kb", NOW - age, NOW).level is level


def test_every_finding_that_is_not_ok__says_what_to_do() -> None:
    """A finding without advice helps nobody at three in the morning."""
    findings = [
        *arrangement_findings(Settings()),
        clock_finding("x", 60),
        disk_finding(Path("/x"), 0),
        package_finding("prefect", None),
        python_finding((3, 9)),
        backup_finding("kb", NOW - timedelta(days=3), NOW),
    ]
    assert all(finding.to_do for finding in findings if finding.level is not Level.OK)
