"""The doctor says before the bad day whether each database can be dumped, restored and proven from here."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich_database import Databases, query

from reanimate.backups.repositories import open_repositories
from reanimate.clock import utcnow
from reanimate.config import DatabaseSettings, PostgresSettings, Settings
from reanimate.doctor.dumps import age_finding, dump_findings
from reanimate.doctor.finding import Finding, Level
from reanimate.dumps.backup import take_dump
from reanimate.dumps.login import Login
from reanimate.dumps.programs import Programs


def _url(login: Login, user: str = "reanimate", password: str | None = None) -> str:
    return f"postgresql://{user}:{password or login.environment['PGPASSWORD']}@{login.where}/{login.database}"


def _settings(home: Path, urls: dict[str, str], **more: Any) -> Settings:
    databases = [{"name": name, "url": url} for name, url in urls.items()]
    return Settings(home=home, postgres=PostgresSettings.model_validate({"databases": databases}), **more)


async def _found(settings: Settings) -> dict[str, Finding]:
    return {finding.about: finding for finding in await dump_findings(settings, running=False)}


async def test_doctor__databases(small: Login, databases: Databases, programs: list[Programs], tmp_path: Path) -> None:
    """One that is fine, one that is not there, one whose user lacks rights, one whose URL is none; our own is down."""
    await query(databases.admin, "CREATE ROLE doctor_guest LOGIN PASSWORD 'guest'")
    urls = {
        "agent": _url(small),
        "gone": _url(small.at("gone")),
        "poor": _url(small, "doctor_guest", "guest"),
        "odd": "mysql://h/x",
    }
    settings = _settings(tmp_path, urls)
    found = await _found(settings)
    assert found["pg_dump"].level is Level.OK
    assert (found["database agent"].level, "dumped by pg_dump" in found["database agent"].found) == (Level.OK, True)
    assert "does not exist" in found["database gone"].found
    assert "is not a Postgres URL" in found["database odd"].found
    assert {found[f"database {name}"].level for name in ("gone", "odd")} == {Level.FAIL}
    assert found["rights in database poor"].level is Level.WARN
    assert "pg_read_all_data" in next(one.to_do for one in await dump_findings(settings, running=False) if one.about
                                      == "rights in database poor" and one.level is Level.FAIL)  # fmt: skip
    assert "database record" not in found
    assert found["backups of database agent"].level is Level.WARN
    await take_dump(small, "agent", open_repositories(settings)["local"].catalog, programs)
    assert (await _found(settings))["backups of database agent"].level is Level.OK
    await query(databases.admin, "DROP ROLE doctor_guest")


async def test_doctor__looking_makes_nothing(small: Login, tmp_path: Path) -> None:
    """Without a home directory the databases of the settings are looked at, and none is made."""
    home = tmp_path / "home"
    settings = _settings(home, {"agent": _url(small)}, database=DatabaseSettings.model_validate({"url": _url(small)}))
    assert (await _found(settings))["database agent"].level is Level.OK
    assert not home.exists()


@pytest.mark.parametrize(("hours", "level"), [(1, Level.OK), (27, Level.WARN), (None, Level.WARN)])
def test_age(hours: int | None, level: Level) -> None:
    """A night that was missed is told, and that there is none."""
    now = utcnow()
    taken = None if hours is None else now - timedelta(hours=hours)
    assert age_finding("agent", taken, now).level is level
