"""Responders that die, are stopped, or live beside each other: every run ends well, and nothing is done twice."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from cable import Cable
from flow_system import Prefect, Responder, begun, done_twice, in_state, incident, kinds, system_at, until
from scripted import Script
from sqlalchemy import text

from reanimate.bootstrap import Services

Start = Callable[..., Responder]
Started = Callable[[], Awaitable[tuple[str, str]]]


@pytest.mark.timeout(400)  # five responders, one after the other
async def test_respond__kill_9_in_every_phase_and_the_same_run_ends_well(
    services: Services, prefect: Prefect, script: Script, start_responder: Start, started: Started
) -> None:
    """The responder is killed in each phase; the next one takes the same run up, and nothing is done twice."""
    slow = ["assess_impact", "move_reads_away", "restore_collections", "update_documents"]
    script.set(**{action: {"pause_s": 2.0} for action in slow})
    responder = await start_responder().claiming()
    incident_id, run_id = await started()
    for action in slow:
        await begun(script, incident_id, action)
        responder.kill()
        responder = start_responder()
    run = await prefect.ended(run_id)
    assert run["state_name"] == "Recovered"
    assert run["run_count"] == len(slow) + 1
    assert (await incident(services, incident_id)).flow_run_id == run_id
    assert done_twice(script, incident_id) == []
    assert (await kinds(services, incident_id)).count("step.resumed") == len(slow)


async def test_respond__sigterm_leaves_a_run_that_the_next_responder_resumes(
    services: Services, prefect: Prefect, script: Script, start_responder: Start, started: Started
) -> None:
    """A responder that is told to stop ends within five seconds; the cut step stays running and nobody is called."""
    script.set(restore_collections={"pause_s": 3.0})
    responder = await start_responder().claiming()
    incident_id, run_id = await started()
    await begun(script, incident_id, "restore_collections")
    assert responder.terminate() < 5
    assert (await prefect.run(run_id))["state_name"] == "AwaitingRetry"
    assert (await incident(services, incident_id)).state == "recovering"
    start_responder()
    assert (await prefect.ended(run_id))["state_name"] == "Recovered"
    assert "person.called" not in await kinds(services, incident_id)
    assert done_twice(script, incident_id) == []


async def test_respond__two_responders_never_both_run_it(
    services: Services, prefect: Prefect, script: Script, start_responder: Start, started: Started
) -> None:
    """With two responders every run is claimed once, and neither takes the other's live run for an orphan."""
    script.set(restore_collections={"pause_s": 9.0})  # longer than two rounds of reconciling
    await start_responder().claiming()
    await start_responder().claiming()
    runs = [await started() for _ in range(4)]
    for incident_id, run_id in runs:
        run = await prefect.ended(run_id)
        assert (run["state_name"], run["run_count"]) == ("Recovered", 1)
        begun_ = [line.action for line in script.traced(incident_id) if line.event == "begin"]
        assert len(begun_) == len(set(begun_))


async def test_respond__one_responder_takes_over_from_a_dead_one(
    services: Services, prefect: Prefect, script: Script, start_responder: Start, started: Started
) -> None:
    """A responder that lives takes up the runs of one that died, without being restarted."""
    script.set(restore_collections={"pause_s": 2.0})
    first = await start_responder().claiming()
    incident_id, run_id = await started()
    await begun(script, incident_id, "restore_collections")
    await start_responder().claiming()
    first.kill()
    assert (await prefect.ended(run_id))["state_name"] == "Recovered"
    assert done_twice(script, incident_id) == []


async def test_responder__prefect_dies_in_the_middle_and_the_incident_recovers_without_it(
    services: Services,
    prefect: Prefect,
    script: Script,
    start_responder: Start,
    started: Started,
    free_port: Callable[[], int],
) -> None:
    """The steps go on without Prefect when it goes away under a run; when it is back, the run ends by its own word."""
    cable = Cable(free_port(), int(prefect.api.split(":")[2].split("/")[0]))
    await cable.plug_in()
    script.set(move_reads_away={"pause_s": 2.0})
    with system_at(services, prefect_api=f"http://127.0.0.1:{cable.port}/api"):
        await start_responder().claiming()
        incident_id, run_id = await started()
        await begun(script, incident_id, "move_reads_away")
        await cable.pull_out()
        await in_state(services, incident_id, "recovered", within_s=60)
        assert (await prefect.run(run_id))["state_type"] == "RUNNING"
        await cable.plug_in()
        assert (await prefect.ended(run_id))["state_name"] == "Recovered"
    await cable.pull_out()
    assert done_twice(script, incident_id) == []


async def test_responder__a_broken_record_connection_calls_nobody(
    services: Services, prefect: Prefect, script: Script, start_responder: Start, started: Started
) -> None:
    """When every connection to the record breaks in the middle of a step, as in a restart, the run still ends well."""
    script.set(restore_collections={"pause_s": 2.0})
    await start_responder().claiming()
    incident_id, run_id = await started()
    await begun(script, incident_id, "restore_collections")
    async with services.sessions() as session:
        await session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    assert (await prefect.ended(run_id))["state_name"] == "Recovered"
    assert done_twice(script, incident_id) == []


async def test_responder__leaves_runs_of_the_future_alone(prefect: Prefect, responder: Responder) -> None:
    """Schedules announce their runs days ahead; none is claimed before its time."""
    deployment = await prefect.ask("GET", "/deployments/name/night/everything")

    async def announced() -> list[str]:
        body = {"flow_runs": {"deployment_id": {"any_": [deployment["id"]]}}}
        found = await prefect.ask("POST", "/flow_runs/filter", body)
        return [run["state_type"] for run in found if run["auto_scheduled"]]

    await until(announced)
    await asyncio.sleep(3)  # more than one sweep
    assert set(await announced()) == {"SCHEDULED"}
