"""kill -9 of the responder and of web in the middle of each phase: the incident ends all the same, nothing twice."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import psycopg
import pytest
from running_system import (
    ALIAS,
    POINTS,
    System,
    agent_of,
    finished_steps,
    obeyed_switches,
    read_target,
    steps_of,
    until,
)
from sqlalchemy import func, select

from reanimate.db.tables import Incident
from reanimate.incidents.lifecycle import STEPS, Phase, State
from reanimate.incidents.views import View, incident_view
from reanimate.switches.holds import open_holds

pytestmark = pytest.mark.timeout(300)

_STARTED = """
SELECT entry.incident_id FROM timeline entry JOIN incidents incident ON incident.id = entry.incident_id
WHERE incident.opened_at >= %s AND entry.kind = %s AND entry.data::jsonb ->> 'phase' IS NOT DISTINCT FROM %s LIMIT 1
"""
_ENTRIES = "SELECT kind, data::jsonb FROM timeline WHERE incident_id = %s ORDER BY seq"

MOMENTS = [("incident.opened", None, "web")] + [
    ("step.started", phase, part) for phase in Phase for part in ("responder", "web")
]


@pytest.fixture(scope="module")
async def record(system: System) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection to the record of our own, quick enough to see a step begin."""
    url = system.services.database_url.replace("+psycopg", "", 1)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        yield connection


async def _begun(record: psycopg.AsyncConnection[Any], since: datetime, kind: str, phase: str | None) -> str:
    """Wait for the first entry of a kind (and phase) in an incident opened since then; return the incident's id."""
    deadline = time.monotonic() + 60
    while True:
        row = await (await record.execute(_STARTED, (since, kind, phase))).fetchone()
        if row is not None:
            return str(row[0])
        assert time.monotonic() < deadline, f"no {kind} of {phase} within 60 s"
        await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("kind", "phase", "part"), MOMENTS, ids=[f"{part} in {phase or 'opening'}" for _, phase, part in MOMENTS]
)
async def test_kill__incident_still_ends(
    system: System, record: psycopg.AsyncConnection[Any], kind: str, phase: Phase | None, part: str
) -> None:
    """The killed process comes back, the one incident ends recovered and written up, no step is done twice."""
    before = system.part(part)
    assert before.pid is not None
    async with agent_of(system.services).asking() as count:
        deleted_at = await system.delete_collection()
        incident_id = await _begun(record, deleted_at, kind, phase)
        os.kill(before.pid, signal.SIGKILL)
        rows = await (await record.execute(_ENTRIES, (incident_id,))).fetchall()
        at_kill = [{"kind": kind, "data": data} for kind, data in rows]
        view = await _ended(system, incident_id)
        await system.ready_again(before)
        assert await read_target(system.services) == "primary"

    finished = finished_steps(at_kill)
    assert phase is None or {step for of, step, _ in finished if of == phase} < set(STEPS[phase])
    cut = steps_of(at_kill, "step.started").keys() - finished.keys() if part == "responder" else set()
    assert steps_of(view["timeline"], "step.resumed").keys() == cut
    assert (await asyncio.to_thread(system.part, part)).last_exit == "SIGKILL"
    _ended_well(view)
    await _left_nothing(system, deleted_at)
    assert (count.failed, count.first_failure, count.answered) == (0, "", count.asked)


async def _ended(system: System, incident_id: str) -> View:
    """Wait until the incident has ended and its last paper is written."""

    async def look() -> View | None:
        found = await incident_view(system.services, incident_id)
        ended = found["incident"]["state"] in (State.RECOVERED, State.ESCALATED)
        return found if ended and found["phases"][-1]["state"] in ("done", "failed", "skipped") else None

    view = await until(look, within_s=120, every_s=0.3)
    assert view is not None
    return view


def _ended_well(view: View) -> None:
    """Recovered, written up, each step once, and the chain whole."""
    said = [f"{entry['at']} {entry['kind']} {entry['message']}" for entry in view["timeline"]]
    assert view["incident"]["state"] == State.RECOVERED, "\n".join(said)
    assert view["incident"]["postmortem_key"]
    counted = finished_steps(view["timeline"])
    assert {key: times for key, times in counted.items() if times != 1} == {}, "\n".join(said)
    assert {(phase, step) for phase, step, _ in counted} == {
        (phase, step) for phase, steps in STEPS.items() for step in steps
    }
    assert view["chain"]["ok"], view["chain"]


async def _left_nothing(system: System, since: datetime) -> None:
    """One incident, no hold in the record or at the gateway, the data back, and Prefect's run over."""
    services = system.services
    async with services.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Incident).where(Incident.opened_at >= since)) == 1
        assert [hold.scope for hold in await open_holds(session)] == []
        run_id = await session.scalar(select(Incident.flow_run_id).where(Incident.opened_at >= since))
    assert await obeyed_switches(services) == []
    assert await services.vector("primary").exact_count(ALIAS) == POINTS

    async def run_state() -> str:
        answer = await services.http.get(f"{services.addresses.prefect_api}/flow_runs/{run_id}")
        state = str(answer.json()["state_type"])
        return state if state not in ("SCHEDULED", "PENDING", "RUNNING") else ""

    assert await until(run_state, within_s=30) == "COMPLETED"
