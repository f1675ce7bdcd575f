"""The response of an incident in Prefect, by a real responder process on a real server, with scripted actions."""

import secrets
from collections.abc import Awaitable, Callable

from flow_system import Prefect, Responder, begun, carry, done_twice, in_state, incident, kinds
from scripted import Script

from reanimate.bootstrap import Services
from reanimate.incidents import record
from reanimate.orchestrator.launcher import Launcher

Started = Callable[[], Awaitable[tuple[str, str]]]

ALL_FOUR = [(phase, "Completed") for phase in ("detection", "containment", "recovery", "postmortem")]


async def test_respond__walks_the_four_phases_and_leaves_its_documents(
    services: Services, prefect: Prefect, script: Script, responder: Responder, started: Started
) -> None:
    """A run shows four phases, ends as Recovered, and carries steps, timeline and postmortem."""
    incident_id, run_id = await started()
    run = await prefect.ended(run_id)
    assert (run["state_name"], run["name"]) == ("Recovered", f"respond-{incident_id}")
    assert await prefect.phases(run_id) == ALL_FOUR
    documents = await prefect.artifacts(run_id)
    assert set(documents) == {f"{name}-{incident_id}" for name in ("steps", "timeline", "postmortem")}
    assert "```mermaid" in documents[f"timeline-{incident_id}"]
    assert (await incident(services, incident_id)).state == "recovered"
    assert done_twice(script, incident_id) == []


async def test_respond__a_failed_recovery_calls_a_person(
    services: Services, prefect: Prefect, script: Script, responder: Responder, started: Started
) -> None:
    """When a step fails for good, run and incident end as escalated, with the reason; what would follow never runs."""
    script.set(verify_collections={"fail": True})
    incident_id, run_id = await started()
    run = await prefect.ended(run_id)
    assert (run["state_type"], run["state_name"]) == ("FAILED", "Escalated")
    assert "verify_collections was made to fail" in run["state"]["message"]
    assert (await incident(services, incident_id)).state == "escalated"
    assert "person.called" in await kinds(services, incident_id)
    assert not [line for line in script.traced(incident_id) if line.action == "return_reads"]


async def test_respond__a_failed_postmortem_spoils_nothing(
    services: Services, prefect: Prefect, script: Script, responder: Responder, started: Started
) -> None:
    """The incident stays recovered and the run completed, under a name that says what is missing."""
    script.set(update_documents={"fail": True})
    incident_id, run_id = await started()
    run = await prefect.ended(run_id)
    assert (run["state_type"], run["state_name"]) == ("COMPLETED", "RecoveredNoPostmortem")
    assert (await incident(services, incident_id)).state == "recovered"


async def test_respond__an_escalated_incident_is_tried_again_only_when_asked(
    services: Services, launcher: Launcher, prefect: Prefect, script: Script, responder: Responder, started: Started
) -> None:
    """A second run leaves the incident to the person that was called, unless its form says otherwise."""
    script.set(verify_collections={"fail": True})
    incident_id, run_id = await started()
    await prefect.ended(run_id)
    script.set()
    left = await launcher.create_run(
        "respond/incident", key=f"{incident_id}-2", parameters={"incident_id": incident_id}
    )
    assert (await prefect.ended(left.id))["state_name"] == "Escalated"
    assert (await incident(services, incident_id)).state == "escalated"
    form_ticked = {"incident_id": incident_id, "retry_escalated": True}
    tried = await launcher.create_run("respond/incident", key=f"{incident_id}-3", parameters=form_ticked)
    assert (await prefect.ended(tried.id))["state_name"] == "Recovered"
    assert (await incident(services, incident_id)).state == "recovered"


async def test_respond__cancelled_in_the_ui_it_is_left_to_a_person(
    services: Services, prefect: Prefect, script: Script, responder: Responder, started: Started
) -> None:
    """Cancelling stops the step, the run is Cancelled, and the incident calls a person instead of going on."""
    script.set(restore_collections={"pause_s": 60})
    incident_id, run_id = await started()
    await begun(script, incident_id, "restore_collections")
    order = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    await prefect.ask("POST", f"/flow_runs/{run_id}/set_state", order)
    run = await prefect.ended(run_id, within_s=10)
    assert run["state_type"] == "CANCELLED"
    assert (await in_state(services, incident_id, "escalated", within_s=10)).escalated_at is not None


async def test_respond__the_relay_starts_one_run_for_an_incident(
    services: Services, launcher: Launcher, prefect: Prefect, started: Started
) -> None:
    """The same order carried out again, as after a kill of web, returns the run that is there."""
    incident_id, run_id = await started()
    again = await launcher.create_run("respond/incident", key=incident_id, parameters={"incident_id": incident_id})
    assert again.id == run_id
    await carry(services, launcher, "start_flow")
    assert (await prefect.run(run_id))["parameters"]["incident_id"] == incident_id
    await prefect.ask("POST", f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLED"}, "force": True})


async def test_trigger__opens_an_incident_that_waits_for_the_relay(
    services: Services, launcher: Launcher, prefect: Prefect, responder: Responder
) -> None:
    """The form's fault, component and collections are the incident's; it is started like any other."""
    form = {"fault": "knowledge_base_deleted", "summary": "somebody deleted kb", "component": "vector:replica"}
    run = await launcher.create_run("open-incident/by-hand", key=secrets.token_hex(4), parameters=form)
    assert (await prefect.ended(run.id))["state_type"] == "COMPLETED"
    async with services.sessions() as session:
        opened = (await record.open_incidents(session))[-1]
    assert (opened.title, opened.component, opened.state) == ("somebody deleted kb", "vector:replica", "detecting")
