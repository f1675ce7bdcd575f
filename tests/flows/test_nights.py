"""The night on a real Prefect server: slots that are run once, what was missed, and work on two Dask workers."""

import json
import re
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flow_system import Prefect, Responder, system_at, until
from sqlalchemy import delete

from deployments.catch_up import catch_up
from reanimate.backups.manifest import Manifest
from reanimate.backups.repositories import open_repositories
from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.config import BackupSettings, RepositorySettings, Settings
from reanimate.db.tables import Slot
from reanimate.orchestrator.launcher import Launcher
from reanimate.protection import slots
from reanimate.vector.server import VectorServer
from tasks.schedules import schedules

Start = Callable[..., Responder]


@pytest.fixture
def launcher(services: Services) -> Launcher:
    """One with more patience than an incident has."""
    return Launcher(services.http, services.addresses.prefect_api, budget_s=30.0)


@pytest.fixture
async def no_slots(services: Services) -> AsyncIterator[None]:
    """No schedule has ever run here."""
    yield
    async with services.sessions.begin() as session:
        await session.execute(delete(Slot))


async def filled(services: Services, vectors: dict[str, str], *names: str) -> None:
    primary = VectorServer("primary", vectors["primary"], None, services.http)
    for name in names:
        await primary.create_collection(name, {"vectors": {"size": 4, "distance": "Cosine"}})
        await primary.upsert(name, [{"id": n, "vector": [n, 1, 2, 3], "payload": {"n": n}} for n in range(1, 30)])


async def slot_of(services: Services, schedule: str) -> Slot:
    async with services.sessions() as session:
        due = (await slots.newest_claims(session))[schedule]
        return await session.get_one(Slot, (schedule, due))


async def had_before(services: Services, schedule: str, *, days_ago: int) -> None:
    """Write down that the slot of so many days ago was had and done."""
    due = schedules(services.settings)[schedule].slot_at(utcnow() - timedelta(days=days_ago))
    async with services.sessions.begin() as session:
        await slots.claim(session, schedule, due, "long ago", now=due)
        await slots.end(session, "long ago", now=due)


async def test_night__missed_and_caught_up_once(
    services: Services,
    launcher: Launcher,
    prefect: Prefect,
    vectors: dict[str, str],
    start_responder: Start,
    no_slots: None,
    tmp_path: Path,
) -> None:
    """Down for a month, then killed in the middle: everything is backed up and copied once, in one and the same run."""
    await filled(services, vectors, "night-a", "night-b")
    await had_before(services, "weekly", days_ago=30)
    cloud = RepositorySettings(name="cloud", url=(tmp_path / "cloud").as_uri())
    at: Any = vectors

    async def done() -> Slot | None:
        found = await slot_of(services, "weekly")
        return found if found.owner != "long ago" and found.state != "running" else None

    async def begun() -> Slot | None:
        found = await slot_of(services, "weekly")
        return found if found.state == "running" else None

    changes = {
        "REANIMATE_BACKUPS__REPOSITORIES": json.dumps([{"name": "cloud", "url": cloud.url}]),
        "REANIMATE_VECTOR__OFFLINE": "false",
    }
    with system_at(services, vector=at):
        responder = start_responder(**changes)
        first = await until(begun, within_s=120)
        responder.kill()
        await start_responder(**changes).claiming()
        slot = await until(done, within_s=120)
        assert slot.owner == first.owner
        ended = await prefect.ended(slot.owner)
        assert (ended["state_type"], ended["state_name"]) == ("COMPLETED", "Completed"), ended["state"]["message"]
        form, key = {"scope": "all", "schedule": "weekly"}, secrets.token_hex(4)
        again = await launcher.create_run("night/everything", key=key, parameters=form)
        assert (await prefect.ended(again.id))["state_name"] == "Skipped"
        by_hand = await launcher.create_run("retain/repositories", key=key, parameters={"dry_run": True})
        assert (await prefect.ended(by_hand.id))["state_type"] == "COMPLETED"
    assert re.search(r"night-a, .*database record.*copies in cloud.*retention in cloud", ended["state"]["message"])
    copies = open_repositories(Settings(home=services.settings.home, backups=BackupSettings(repositories=(cloud,))))
    there = {one.manifest.subject for one in copies["cloud"].catalog.published(Manifest)}
    assert {"night-a", "night-b", "record"} <= there
    assert (slot.state, slot.attempts) == ("done", 2)


async def test_catch_up__one_run_for_each_slot_that_nobody_had(
    services: Services, launcher: Launcher, prefect: Prefect, no_slots: None
) -> None:
    """Missed, or left by an owner that died; however often it is asked for. On a new system nothing was missed."""
    now = utcnow()
    assert await catch_up(services, launcher, now=now) == []
    await had_before(services, "weekly", days_ago=30)
    due = schedules(services.settings)["nightly"].slot_at(now)
    async with services.sessions.begin() as session:
        await slots.claim(session, "nightly", due, "the dead one", now=now - slots.LEASE - timedelta(seconds=1))
    ordered = await catch_up(services, launcher, now=now)
    assert await catch_up(services, launcher, now=now) == ordered
    await cancelled(prefect, ordered)
    assert ordered[0] == f"night-nightly-{due:%Y%m%dT%H%MZ}-2"
    assert len(ordered) == 2


async def cancelled(prefect: Prefect, names: list[str]) -> None:
    """See to it that no later responder takes these runs."""
    for run in await prefect.ask("POST", "/flow_runs/filter", {"flow_runs": {"name": {"any_": names}}}):
        state = {"state": {"type": "CANCELLED", "name": "Cancelled"}, "force": True}
        await prefect.ask("POST", f"/flow_runs/{run['id']}/set_state", state)


async def test_catch_up__leaves_what_a_person_switched_off(
    services: Services, launcher: Launcher, prefect: Prefect, no_slots: None
) -> None:
    """A schedule that was paused in Prefect has missed nothing."""
    now = utcnow()
    deployment = await prefect.ask("GET", "/deployments/name/night/everything")
    weekly = next(each for each in deployment["schedules"] if each["slug"] == "weekly")
    where = f"/deployments/{deployment['id']}/schedules/{weekly['id']}"
    await had_before(services, "weekly", days_ago=30)
    await prefect.ask("PATCH", where, {"active": False})
    try:
        assert await catch_up(services, launcher, now=now) == []
    finally:
        await prefect.ask("PATCH", where, {"active": True})


@pytest.fixture
def cluster(
    environment: dict[str, str], tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[tuple[str, list[Path]]]:
    """A Dask scheduler with two workers, each a process: its address, and the workers' logs."""
    address = f"tcp://127.0.0.1:{free_port()}"
    logs = [tmp_path / f"{name}.log" for name in ("scheduler", "worker-1", "worker-2")]
    commands = [
        ["dask", "scheduler", "--host", "127.0.0.1", "--port", address.rsplit(":", 1)[1], "--no-dashboard"],
        *[["dask", "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]] * 2,
    ]
    processes = []
    for command, log in zip(commands, logs, strict=True):
        with log.open("wb") as file:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "distributed.cli.dask_" + command[1], *command[2:]],
                    env=environment,
                    cwd=tmp_path,
                    stdout=file,
                    stderr=file,
                )
            )
    yield address, logs[1:]
    for process in processes:
        process.kill()
        process.wait()


async def test_night__spreads_over_two_dask_workers(
    services: Services,
    launcher: Launcher,
    prefect: Prefect,
    vectors: dict[str, str],
    start_responder: Start,
    cluster: tuple[str, list[Path]],
) -> None:
    """Both take a share of the collections; what they publish is what one process would have."""
    names = ["dask-a", "dask-b", "dask-c"]
    await filled(services, vectors, *names)
    address, logs = cluster
    at: Any = vectors
    with system_at(services, vector=at):
        responder = start_responder(REANIMATE_BACKUPS__RUNNER="dask", REANIMATE_BACKUPS__DASK_ADDRESS=address)
        await responder.claiming()
        form: Any = {"collections": [*names, "missing"], "partial": True}
        run = await launcher.create_run("backup/collections", key=secrets.token_hex(4), parameters=form)
        ended = await prefect.ended(run.id, within_s=120)
    assert (ended["state_type"], ended["state_name"]) == ("FAILED", "Incomplete")
    assert "1 of 4 failed: missing: " in ended["state"]["message"]
    for name in names:
        assert [one.exact_count for one in services.catalog.list(name)] == [29]
    assert all("Finished in state Completed" in log.read_text() for log in logs), [log.read_text() for log in logs]


async def test_night__without_the_cluster_the_work_is_done_here(
    services: Services,
    launcher: Launcher,
    prefect: Prefect,
    vectors: dict[str, str],
    start_responder: Start,
    free_port: Callable[[], int],
) -> None:
    """A backup is not left out because a cluster is down."""
    await filled(services, vectors, "alone")
    at: Any = vectors
    with system_at(services, vector=at):
        nowhere = f"tcp://127.0.0.1:{free_port()}"
        await start_responder(REANIMATE_BACKUPS__RUNNER="dask", REANIMATE_BACKUPS__DASK_ADDRESS=nowhere).claiming()
        form: Any = {"collections": ["alone"], "partial": True}
        run = await launcher.create_run("backup/collections", key=secrets.token_hex(4), parameters=form)
        ended = await prefect.ended(run.id, within_s=120)
    assert ended["state_type"] == "COMPLETED", ended["state"]["message"]
