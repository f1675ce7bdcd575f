"""When Prefect is away, the same steps run without it, and the run is written down there once it is back."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from flow_system import Prefect, Responder, begun, carry, done_twice, in_state, incident, kinds, system_at, until
from scripted import Script
from sqlalchemy import select, update

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.db.tables import Outbox
from reanimate.errors import Unreachable
from reanimate.orchestrator import direct
from reanimate.orchestrator.launcher import Launcher

Start = Callable[..., Responder]
NOWHERE = "http://127.0.0.1:9/api"
Open = Callable[[], Awaitable[str]]


@pytest.fixture
def prefect_away(services: Services) -> Launcher:
    """A launcher whose Prefect does not answer."""
    return Launcher(services.http, NOWHERE)


async def orders(services: Services, incident_id: str) -> dict[str, Outbox]:
    """Return the incident's rows in the outbox by kind."""
    async with services.sessions() as session:
        found = await session.scalars(select(Outbox).where(Outbox.incident_id == incident_id))
        return {row.kind: row for row in found}


async def make_due(services: Services, kind: str) -> None:
    """Let no back-off keep orders of this kind waiting."""
    async with services.sessions.begin() as session:
        await session.execute(update(Outbox).where(Outbox.kind == kind).values(due_at=utcnow() - timedelta(seconds=1)))


async def test_direct__prefect_away_the_incident_recovers_and_is_written_down_later(
    services: Services,
    prefect: Prefect,
    launcher: Launcher,
    prefect_away: Launcher,
    script: Script,
    start_responder: Start,
    open_incident: Open,
) -> None:
    """With no Prefect from start to end an incident recovers; later one finished run with its documents shows it."""
    with system_at(services, prefect_api=NOWHERE):
        start_responder()
        incident_id = await open_incident()
        await carry(services, prefect_away, "start_flow")
        await in_state(services, incident_id, "recovered")
    assert (await incident(services, incident_id)).flow_run_id is None

    async def over() -> bool:
        return (await orders(services, incident_id))["respond_directly"].done_at is not None

    await until(over)
    with pytest.raises(Unreachable):
        await carry(services, prefect_away, "record_flow")
    await make_due(services, "record_flow")
    await carry(services, launcher, "record_flow")
    run_id = (await incident(services, incident_id)).flow_run_id
    assert run_id
    run = await prefect.run(run_id)
    assert (run["state_type"], run["state_name"], run["name"]) == ("COMPLETED", "Recovered", f"respond-{incident_id}")
    assert f"postmortem-{incident_id}" in await prefect.artifacts(run_id)
    assert (await orders(services, incident_id))["record_flow"].done_at is not None
    assert done_twice(script, incident_id) == []


async def test_direct__a_late_answer_makes_no_second_response(
    services: Services,
    prefect: Prefect,
    launcher: Launcher,
    prefect_away: Launcher,
    script: Script,
    start_responder: Start,
    open_incident: Open,
) -> None:
    """A run that reached Prefect, though its answer did not, is the one that is kept; nothing is done twice."""
    incident_id = await open_incident()
    await carry(services, prefect_away, "start_flow")
    late = await launcher.create_run("respond/incident", key=incident_id, parameters={"incident_id": incident_id})
    await start_responder().claiming()
    await prefect.ended(late.id)
    await in_state(services, incident_id, "recovered")

    async def over() -> bool:
        return (await orders(services, incident_id))["respond_directly"].done_at is not None

    await until(over)
    await make_due(services, "record_flow")
    await carry(services, launcher, "record_flow")
    assert (await incident(services, incident_id)).flow_run_id == late.id
    assert (await prefect.run(late.id))["state_name"] == "Recovered"
    assert done_twice(script, incident_id) == []


async def test_direct__kill_9_in_the_middle_is_resumed(
    services: Services, prefect_away: Launcher, script: Script, start_responder: Start, open_incident: Open
) -> None:
    """A direct response whose process is killed goes on in the next one within seconds, where it was cut."""
    script.set(restore_collections={"pause_s": 2.0})
    with system_at(services, prefect_api=NOWHERE):
        first = start_responder()
        incident_id = await open_incident()
        await carry(services, prefect_away, "start_flow")
        await begun(script, incident_id, "restore_collections")
        first.kill()
        start_responder()
        await in_state(services, incident_id, "recovered")
    assert (await kinds(services, incident_id)).count("step.resumed") == 1
    assert done_twice(script, incident_id) == []


async def test_direct__an_escalated_incident_is_not_tried_anew(
    services: Services, script: Script, open_incident: Open
) -> None:
    """An order that comes back after the person was called, as after a kill, only reviews."""
    script.set(verify_collections={"fail": True})
    incident_id = await open_incident()
    for _ in range(2):
        async with services.sessions.begin() as session:
            await direct.ask(session, incident_id, now=utcnow(), reason="a test asks")
        order = (await orders(services, incident_id))["respond_directly"]
        await direct.respond_directly(services, _leased(order))
    tried = [line.action for line in script.traced(incident_id) if line.event == "begin"]
    assert tried.count("verify_collections") == 1
    assert (await incident(services, incident_id)).state == "escalated"


def _leased(row: Outbox) -> direct.Order:
    return direct.Order(row.id, row.kind, row.key, row.incident_id, row.payload, row.created_at, 1)


async def test_adopt__takes_over_what_nobody_drives(services: Services, script: Script, open_incident: Open) -> None:
    """An incident that fell silent is taken over; one that is driven, has an order waiting, or is fresh, is not."""
    incident_id = await open_incident()
    assert incident_id not in await direct.adopt(services, now=utcnow() + timedelta(minutes=1)), "its order waits"
    async with services.sessions.begin() as session:
        await session.execute(update(Outbox).where(Outbox.incident_id == incident_id).values(done_at=utcnow()))
    assert incident_id not in await direct.adopt(services, now=utcnow()), "it is fresh"
    async with direct.driving(services.engine, incident_id):
        assert incident_id not in await direct.adopt(services, now=utcnow() + timedelta(minutes=1)), "it is driven"
    assert incident_id in await direct.adopt(services, now=utcnow() + timedelta(minutes=1))
    order = (await orders(services, incident_id))["respond_directly"]
    await direct.respond_directly(services, _leased(order))
    assert (await incident(services, incident_id)).state == "recovered"
