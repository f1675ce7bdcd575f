"""`reanimate incident …` in a process of its own, on a real record."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from incident_story import escalated, story, tell
from page_server import open_record
from sqlalchemy import select, text

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.db.tables import Outbox

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
async def services(home: Path, postgres_url: str) -> AsyncIterator[Services]:
    async with open_record(home, postgres_url) as services:
        async with services.sessions.begin() as session:
            await tell(session, story(began=utcnow() - timedelta(hours=2), incident_id="inc-done"))
            await tell(session, escalated(began=utcnow() - timedelta(hours=1), incident_id="inc-needed"))
        yield services


@pytest.fixture
def incident(home: Path, services: Services, postgres_url: str) -> Run:
    """Run `reanimate incident` with arguments, as a person would."""

    def run(*arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from reanimate.commands.incident import app; app()", *arguments],
            env={**os.environ, "REANIMATE_HOME": str(home), "DATABASE_URL": postgres_url, "COLUMNS": "160"},
            input=answer,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


async def test_list__for_people_and_machines(incident: Run) -> None:
    """The list is a table for people and JSON for machines, the open one first."""
    assert [item["id"] for item in json.loads(incident("list", "--json").stdout)] == ["inc-needed", "inc-done"]
    shown = incident("list").stdout
    assert "escalated" in shown
    assert "1.0 % of 1 h" in shown


async def test_list__unknown_state(incident: Run) -> None:
    """A state that does not exist is one clear line and exit 1."""
    wrong = incident("list", "--state", "broken")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "no state is called 'broken'" in wrong.stderr
    assert "Traceback" not in wrong.stderr


async def test_show__everything_of_one(incident: Run) -> None:
    """Header, phases, faults and timeline are shown; the JSON is the page's."""
    shown = incident("show", "inc-needed").stdout
    for said in ("A person is needed", "restore collections", "vector database down", "hold in force", "Timeline"):
        assert said in shown
    assert json.loads(incident("show", "inc-done", "--json").stdout)["figures"]["rto_met"] is True


async def test_show__unknown(incident: Run) -> None:
    """An id that nobody has is one clear line and exit 1."""
    wrong = incident("show", "nope")
    assert wrong.returncode == 1
    assert "nope" in wrong.stderr


async def test_open__starts_a_response(incident: Run, services: Services) -> None:
    """An incident opened by hand has its fault, and the order to start its flow."""
    opened = incident(
        "open",
        "--fault",
        "vector_database_down",
        "--component",
        "vector:primary",
        "--summary",
        "search is dead",
        "--json",
    )
    assert opened.returncode == 0, opened.stderr
    incident_id = json.loads(opened.stdout)["id"]
    view = json.loads(incident("show", incident_id, "--json").stdout)
    assert view["incident"]["scope"] == {"target": "primary"}
    assert [(fault["fault"], fault["confidence"]) for fault in view["faults"]] == [("vector_database_down", 1.0)]
    async with services.sessions() as session:
        orders = await session.scalars(select(Outbox.kind).where(Outbox.incident_id == incident_id))
        assert "start_flow" in orders.all()


@pytest.mark.parametrize(
    ("fault", "component", "said"),
    [
        ("meteor", "vector:primary", "no fault is called 'meteor'"),
        ("unknown", "primary", "is not a component"),
    ],
)
async def test_open__refuses_what_it_does_not_know(incident: Run, fault: str, component: str, said: str) -> None:
    """A fault or a component that does not exist opens nothing."""
    wrong = incident("open", "--fault", fault, "--component", component, "--summary", "x")
    assert wrong.returncode == 1
    assert said in wrong.stderr


async def test_close__asks_first(incident: Run) -> None:
    """Closing asks; `--yes` does not; the holds that stay are named; a second close is refused."""
    refused = incident("close", "inc-needed", "--reason", "mended by hand", answer="n\n")
    assert refused.returncode == 1
    assert json.loads(incident("show", "inc-needed", "--json").stdout)["incident"]["state"] == "escalated"
    closed = incident("close", "inc-needed", "--reason", "mended by hand", "--yes")
    assert closed.returncode == 0, closed.stderr
    assert "still held" in closed.stderr
    assert json.loads(incident("show", "inc-needed", "--json").stdout)["clock"]["state"] == "stopped"
    assert incident("close", "inc-needed", "--reason", "again", "--yes").returncode == 1


async def test_verify__finds_a_changed_entry(incident: Run, services: Services) -> None:
    """The chain holds until somebody changes an entry behind the record's back; then verify names it and exits 1."""
    assert incident("verify", "inc-done").returncode == 0
    async with services.sessions.begin() as session:
        await session.execute(text("ALTER TABLE timeline DISABLE TRIGGER USER"))
        await session.execute(text("UPDATE timeline SET actor = 'nobody' WHERE incident_id = 'inc-done' AND seq = 7"))
        await session.execute(text("ALTER TABLE timeline ENABLE TRIGGER USER"))
    broken = incident("verify", "inc-done", "--json")
    assert broken.returncode == 1
    assert json.loads(broken.stdout)["first_bad"] == 7
