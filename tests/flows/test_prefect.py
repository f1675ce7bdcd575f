"""What is set up in Prefect: forms that refuse what does not fit, a worker as the fallback, backups."""

import asyncio
import json
import secrets
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from flow_system import Prefect, Responder, incident, system_at

from deployments.catalogue import deployments
from deployments.provision import provision
from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.config import Settings
from reanimate.errors import NotFound, Refused, Unreachable
from reanimate.incidents import record
from reanimate.orchestrator.coming import next_backups
from reanimate.orchestrator.launcher import Launcher, RunState, RunType
from reanimate.vector.server import VectorServer

Open = Callable[[], Awaitable[str]]


async def test_provision__the_second_time_finds_everything(settings: Settings, services: Services) -> None:
    """Run at every start, it does nothing when nothing has changed."""
    assert not await provision(settings, services.addresses)


async def test_provision__deploys_again_what_the_server_has_lost(
    settings: Settings, services: Services, prefect: Prefect
) -> None:
    """What counts is what the server has, not what a file remembers."""
    lost = await prefect.ask("GET", "/deployments/name/respond/incident")
    await prefect.ask("DELETE", f"/deployments/{lost['id']}")
    assert await provision(settings, services.addresses)
    assert (await prefect.ask("GET", "/deployments/name/respond/incident"))["id"] != lost["id"]


async def test_coming__the_next_backup_of_each_kind(services: Services, deployed: object) -> None:
    """As the schedules say that are really there: at night, or on Sundays an hour later; configuration all the time."""
    launcher, now = Launcher(services.http, services.addresses.prefect_api), utcnow()
    coming = await next_backups(launcher, now)
    assert {kind: (due.minute, due > now) for kind, due in coming.items() if kind != "config"} == {
        "vector": (0, True),
        "postgres": (0, True),
    }
    assert coming["vector"].hour in (2, 3)
    assert coming["config"] - now <= timedelta(minutes=5)
    assert await next_backups(Launcher(services.http, "http://127.0.0.1:9/api"), now) == {}


@pytest.mark.parametrize("deployment", deployments(), ids=lambda deployment: deployment.entrypoint)
async def test_forms__say_what_each_field_is(prefect: Prefect, deployed: object, deployment: Any) -> None:
    """The UI draws each form from a schema with types and descriptions, and the server enforces it."""
    found = await prefect.ask("GET", f"/deployments/name/{deployment.full_name}")
    assert found["enforce_parameter_schema"] is True
    for field in found["parameter_openapi_schema"]["properties"].values():
        assert field["description"]
        assert {"type", "$ref", "anyOf"} & set(field)


@pytest.mark.parametrize(
    ("deployment", "form"),
    [
        ("respond/incident", {"incident_id": "not an id"}),
        ("respond/incident", {}),
        ("respond/incident", {"incident_id": json.dumps({"__prefect_kind": "jinja", "template": "{{ 7*7 }}"})}),
        ("open-incident/by-hand", {"fault": "the sky fell", "summary": "it did"}),
        ("open-incident/by-hand", {"fault": "unknown", "summary": "x", "component": "{{ 7*7 }}"}),
        ("backup/collections", {"scope": "some"}),
        ("backup/collections", {"target": "../../etc"}),
    ],
)
async def test_forms__refuse_what_does_not_fit(launcher: Launcher, deployment: str, form: dict[str, str]) -> None:
    """A wrong value never becomes a run, and no template of a sender is ever rendered into one."""
    with pytest.raises(Refused, match="409"):
        await launcher.create_run(deployment, key=secrets.token_hex(4), parameters=form)


@pytest.mark.timed
async def test_launcher__says_what_is_wrong(services: Services, launcher: Launcher) -> None:
    """Nothing there, nobody there and nobody answering in time are three different errors."""
    with pytest.raises(NotFound, match="nothing/there"):
        await launcher.create_run("nothing/there", key="k", parameters={})
    with pytest.raises(Unreachable):
        await Launcher(services.http, "http://127.0.0.1:9/api").read_run("x")

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    began = asyncio.get_running_loop().time()
    with pytest.raises(Unreachable, match=r"within 0\.5 s"):
        await Launcher(services.http, f"http://127.0.0.1:{port}/api", budget_s=0.5).read_run("x")
    assert asyncio.get_running_loop().time() - began < 2
    silent.close()
    await silent.wait_closed()


async def test_launcher__finds_a_deployment_that_was_made_anew(
    settings: Settings, services: Services, launcher: Launcher, prefect: Prefect, open_incident: Open
) -> None:
    """The id it remembered is gone; it looks again instead of failing."""
    done = RunState(RunType.COMPLETED, "Recovered")
    form = {"incident_id": await open_incident()}
    await launcher.create_run("respond/incident", key=secrets.token_hex(4), parameters=form, state=done)
    old = await prefect.ask("GET", "/deployments/name/respond/incident")
    await prefect.ask("DELETE", f"/deployments/{old['id']}")
    await provision(settings, services.addresses)
    run = await launcher.create_run("respond/incident", key=secrets.token_hex(4), parameters=form, state=done)
    assert (run.state_type, run.state_name) == ("COMPLETED", "Recovered")


async def test_worker__takes_a_run_when_no_responder_lives(
    services: Services, launcher: Launcher, prefect: Prefect, environment: dict[str, str], open_incident: Open
) -> None:
    """The fallback: another process, another working directory, the same flows."""
    incident_id = await open_incident()
    async with services.sessions.begin() as session:
        await record.close(session, incident_id, reason="a test", by="test", now=utcnow())
    run = await launcher.create_run("postmortem/incident", key=incident_id, parameters={"incident_id": incident_id})
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "prefect", "worker", "start", "--pool", "reanimate", "--type", "process"),
        env={**environment, "PREFECT_WORKER_QUERY_SECONDS": "1"},
        cwd="/",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        ended = await prefect.ended(run.id, within_s=120)
    finally:
        worker.kill()
        await worker.wait()
    assert ended["state_type"] == "COMPLETED", ended["state"]["message"]
    assert (await incident(services, incident_id)).postmortem_key


async def test_backup__takes_every_collection_and_says_which_failed(
    services: Services,
    launcher: Launcher,
    prefect: Prefect,
    vectors: dict[str, str],
    start_responder: Callable[..., Responder],
) -> None:
    """All collections are backed up and the replica holds them; one that is not there fails the run, not the others."""
    primary = VectorServer("primary", vectors["primary"], None, services.http)
    replica = VectorServer("replica", vectors["replica"], None, services.http)
    for name in ("kb", "notes"):
        await primary.create_collection(name, {"vectors": {"size": 4, "distance": "Cosine"}})
        await primary.upsert(name, [{"id": n, "vector": [n, 1, 2, 3], "payload": {"n": n}} for n in range(1, 50)])
    at: Any = vectors
    with system_at(services, vector=at):
        await start_responder().claiming()
        key = secrets.token_hex(4)
        whole = await launcher.create_run("backup/collections", key=key, parameters={"scope": "all"})
        ended = await prefect.ended(whole.id)
        assert (ended["state_type"], ended["name"]) == ("COMPLETED", "backup-all"), ended["state"]["message"]
        for name in ("kb", "notes"):
            assert [manifest.exact_count for manifest in services.catalog.list(name)] == [49]
        assert len(await replica.collections()) == 2
        form: Any = {"collections": ["kb", "missing"]}
        part = await launcher.create_run("backup/collections", key=f"{key}-2", parameters=form)
        ended = await prefect.ended(part.id)
    assert (ended["state_type"], ended["state_name"]) == ("FAILED", "Incomplete")
    assert "missing" in ended["state"]["message"]
    assert len(services.catalog.list("kb")) == 2


async def test_restore__shows_its_plan_and_does_it_when_told(
    services: Services,
    launcher: Launcher,
    prefect: Prefect,
    vectors: dict[str, str],
    start_responder: Callable[..., Responder],
) -> None:
    """By default only the plan is shown, as an artifact; told to, the restored collection is live afterwards."""
    primary = VectorServer("primary", vectors["primary"], None, services.http)
    await primary.create_collection("manual", {"vectors": {"size": 4, "distance": "Cosine"}})
    await primary.upsert("manual", [{"id": n, "vector": [n, 1, 2, 3], "payload": {"n": n}} for n in range(1, 30)])
    await primary.update_aliases([{"create_alias": {"collection_name": "manual", "alias_name": "handbook"}}])
    at: Any = vectors
    with system_at(services, vector=at):
        await start_responder().claiming()
        key = secrets.token_hex(4)
        taken = await launcher.create_run("backup/collections", key=key, parameters={"collections": ["manual"]})
        assert (await prefect.ended(taken.id))["state_type"] == "COMPLETED"
        form: Any = {"collection": "handbook"}
        plan = await launcher.create_run("restore/collection", key=f"{key}-plan", parameters=form)
        assert (await prefect.ended(plan.id))["state_name"] == "Planned"
        (artifact,) = await prefect.ask("POST", "/artifacts/filter", {"flow_runs": {"id": {"any_": [str(plan.id)]}}})
        assert services.catalog.list("manual")[0].id in artifact["data"]
        assert (await primary.aliases())["handbook"] == "manual"
        real = await launcher.create_run("restore/collection", key=f"{key}-do", parameters={**form, "dry_run": False})
        ended = await prefect.ended(real.id)
        assert ended["state_type"] == "COMPLETED", ended["state"]["message"]
    live = (await primary.aliases())["handbook"]
    assert live.startswith("manual-r")
    assert await primary.exact_count(live) == 29
