"""Real Prometheus and Alertmanager: a killed exporter becomes an incident, and nothing of what they repeat another."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from prometheus_rig import (
    Exporter,
    Monitoring,
    alerts_since,
    crash_loop,
    ended,
    incidents_since,
    monitored,
)
from running_system import ALIAS, POINTS, System, agent_of, until

from reanimate.clock import utcnow
from reanimate.db.tables import Alert
from reanimate.incidents.lifecycle import State
from reanimate.incidents.record import close
from reanimate.incidents.views import incident_view

pytestmark = [pytest.mark.external, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def payments(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Exporter]:
    """A tool of the agent that only Prometheus watches."""
    with Exporter.running(free_port(), tmp_path_factory.mktemp("payments") / "log") as exporter:
        yield exporter


@pytest.fixture(scope="module")
async def monitoring(
    system: System,
    payments: Exporter,
    tmp_path_factory: pytest.TempPathFactory,
    need_program: Callable[..., str],
    free_port: Callable[[], int],
) -> AsyncIterator[Monitoring]:
    """Prometheus scraping everything, and Alertmanager posting to the running system."""
    directory = tmp_path_factory.mktemp("monitoring")
    async with monitored(system, directory, need_program, free_port, payments.port) as running:
        yield running


async def test_killed_exporter__becomes_a_recovered_incident(system: System, monitoring: Monitoring) -> None:
    """Alertmanager and the watch accuse one server: one incident, which a resolved alert does not end."""
    before = system.part("vector-primary")
    began = utcnow()

    async def repeated() -> Alert | None:
        fired = await alerts_since(system, began, "alertmanager", "firing")
        return next((alert for alert in fired if alert.seen >= 2), None)

    async with agent_of(system.services).asking() as count:
        await crash_loop(system, "vector-primary", repeated)
        (opened,) = await incidents_since(system, began)
        view = await ended(system, opened["id"])

        async def resolved() -> list[Alert]:
            return await alerts_since(system, began, "alertmanager", "resolved")

        said_over = await until(resolved, within_s=60)

    assert view["incident"]["state"] == State.RECOVERED, view["timeline"]
    assert view["faults"][0]["fault"] == "vector_database_down"
    fired = await alerts_since(system, began, "alertmanager", "firing")
    watched = await alerts_since(system, began, "cloudevents", "firing")
    assert {alert.labels["alertname"] for alert in fired} == {"VectorDatabaseDown"}
    assert {alert.incident_id for alert in [*fired, *watched, *said_over]} == {opened["id"]}
    assert watched, "the watch saw it too"

    view = await incident_view(system.services, opened["id"])
    assert view["incident"]["state"] == State.RECOVERED, "the resolved alert is recorded, and changed nothing"
    assert "alert.resolved" in {entry["kind"] for entry in view["timeline"]}
    assert view["chain"]["ok"]
    assert [item["id"] for item in await incidents_since(system, began)] == [opened["id"]]
    after = system.part("vector-primary")
    assert after.restarts > before.restarts
    assert after.last_exit == "SIGKILL"
    assert await system.services.vector("primary").exact_count(ALIAS) == POINTS
    assert (count.failed, count.first_failure) == (0, "")


async def test_killed_tool__calls_a_person(system: System, monitoring: Monitoring, payments: Exporter) -> None:
    """Only Alertmanager knows of it and no runbook covers it: evidence is gathered, and a person called."""
    began = utcnow()
    payments.process.kill()
    payments.process.wait()

    async def repeated() -> bool:
        fired = await alerts_since(system, began, "alertmanager", "firing")
        return any(alert.seen >= 2 for alert in fired)

    await until(repeated, within_s=60)
    (opened,) = await incidents_since(system, began)
    view = await ended(system, opened["id"])
    assert view["incident"]["state"] == State.ESCALATED, view["timeline"]
    assert (view["incident"]["component"], view["incident"]["runbook"]) == ("unknown", "unknown")
    assert [fault["fault"] for fault in view["faults"]] == ["external_tool_down"]
    assert view["holds"] == []
    gathered = _evidence_of(view["timeline"], "gather_evidence")
    assert {probe["target"]: probe["answers"] for probe in gathered["targets"]} == {"primary": True, "replica": True}
    assert "payments tool" in [alert["labels"].get("service") for alert in gathered["alerts"]]
    assert any(entry["kind"] == "person.called" for entry in view["timeline"])
    assert await alerts_since(system, began, "cloudevents", "firing") == []

    with Exporter.running(payments.port, system.home / "payments.log"):

        async def resolved() -> list[Alert]:
            return await alerts_since(system, began, "alertmanager", "resolved")

        (said_over,) = await until(resolved, within_s=60)
    assert said_over.incident_id == opened["id"]
    after = await incident_view(system.services, opened["id"])
    assert after["incident"]["state"] == State.ESCALATED, "a person was called, and a person ends it"
    assert [item["id"] for item in await incidents_since(system, began)] == [opened["id"]]
    async with system.services.sessions.begin() as session:
        await close(session, opened["id"], reason="payments is back", by="a person", now=utcnow())


def _evidence_of(timeline: list[dict[str, Any]], action: str) -> Any:
    """Return what a step's action found, as the timeline keeps it."""
    (found,) = [
        entry["data"]["evidence"]
        for entry in timeline
        if entry["kind"] == "step.done" and entry["data"]["action"] == action
    ]
    return found
