"""`reanimate backup list` and `calendar`: what a person sees in a terminal, and a machine in JSON."""

import asyncio
import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from protection_story import publish_weeks, put

from reanimate.backups.repositories import open_repositories
from reanimate.clock import utcnow
from reanimate.config import Settings


@pytest.fixture(scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory with backups, in which nothing was ever started."""
    home = tmp_path_factory.mktemp("home")
    catalog = open_repositories(Settings(home=home))["local"].catalog
    await publish_weeks(catalog, utcnow(), weeks=2)
    await put(catalog, "docs-r20261101000000", utcnow() - timedelta(days=3))
    return home


async def said(home: Path, *command: str) -> str:
    environment = {**os.environ, "REANIMATE_HOME": str(home)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "reanimate.cli", "backup", *command),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_list__says_what_each_is_worth(home: Path) -> None:
    """Full or changes only, proven or not, pinned; by alias, and by the name before a restore."""
    shown = await said(home, "list", "knowledge")
    for words in ("changes on", "full", "proven", "unproven", "pinned", "101,280 points", "local"):
        assert words in shown
    assert "docs" not in shown
    (row,) = json.loads(await said(home, "list", "docs", "--json"))
    assert (row["subject"], row["names"], row["state"]) == ("docs", ["docs-r20261101000000"], "published")
    assert (row["full"], row["proof"], row["repositories"], row["holds"]) == (True, "unproven", ["local"], 2)


async def test_calendar__glyphs_and_words(home: Path) -> None:
    """Every state has a glyph of its own, and the sums are said in words; without a record too."""
    shown = await said(home, "calendar", "kb")
    assert "In time and proven." in shown
    assert all(glyph in shown for glyph in "✓○·")
    assert shown.count("\nMon ") == 1
    assert "1 unproven" in shown
    view = json.loads(await said(home, "calendar", "--json"))
    assert [thing["subject"] for thing in view["things"]] == ["docs", "kb"]
    assert view["record"] is False
    assert {day["state"] for day in view["things"][1]["days"]} >= {"proven", "unproven", "none"}
