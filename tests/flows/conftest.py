"""A real Prefect server on a real Postgres, once for all flow tests, and responders as the real processes."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest
import scripted
from flow_system import ROOT, Prefect, Responder, carry, incident, until

from reanimate.addresses import Addresses
from reanimate.bootstrap import Services, open_services
from reanimate.clock import utcnow
from reanimate.config import Settings
from reanimate.db.embedded import EmbeddedPostgres, create_database
from reanimate.incidents import record
from reanimate.incidents.faults import Fault
from reanimate.incidents.triage import Finding
from reanimate.orchestrator.environment import client_environment
from reanimate.orchestrator.launcher import Launcher
from reanimate.runbooks.registry import ACTIONS


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def settings(home: Path, postgres: EmbeddedPostgres, migrated_template: str) -> Settings:
    create_database(postgres.url("postgres"), "flows", template=migrated_template)
    # Without the schedule of every few minutes: it would take backups in the middle of a test.
    quiet = {"partial_every_min": 0}
    return Settings(home=home, database={"url": postgres.url("flows")}, backups=quiet)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def prefect_api(
    home: Path, postgres: EmbeddedPostgres, free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The API address of the test session's Prefect server."""
    create_database(postgres.url("postgres"), "prefect")
    port, log = free_port(), tmp_path_factory.mktemp("prefect") / "server.log"
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home / "prefect-server"),
        "PREFECT_API_DATABASE_CONNECTION_URL": postgres.url("prefect").replace("+psycopg", "+asyncpg"),
        "PREFECT_SERVER_UI_API_URL": "/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
        "DO_NOT_TRACK": "1",
    }
    with log.open("wb") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env=environment,
            stdout=file,
            stderr=file,
        )
    api, deadline = f"http://127.0.0.1:{port}/api", time.monotonic() + 150
    try:
        while not _ready(f"{api}/ready"):
            assert server.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
        yield api
    finally:
        server.terminate()
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
async def deployed(settings: Settings, prefect_api: str) -> Addresses:
    """The addresses of a system whose deployments are made; nothing but Prefect and Postgres listens there."""
    from deployments.provision import provision

    nowhere = "http://127.0.0.1:9"
    addresses = Addresses(
        web=nowhere,
        prefect_api=prefect_api,
        prefect_ui=prefect_api.removesuffix("/api"),
        gateway=nowhere,
        gateway_control=nowhere,
        watch=nowhere,
        database="postgresql+psycopg://reanimate@127.0.0.1/flows",
        vector={"primary": nowhere, "replica": nowhere},
    )
    addresses.save(settings.home)
    assert await provision(settings, addresses), "the first time, there is something to deploy"
    return addresses


@pytest.fixture(scope="session")
async def services(settings: Settings, deployed: Addresses) -> AsyncIterator[Services]:
    async with open_services(settings) as opened:
        yield opened


@pytest.fixture(scope="session")
def launcher(services: Services) -> Launcher:
    return Launcher(services.http, services.addresses.prefect_api)


@pytest.fixture(scope="session")
async def prefect(prefect_api: str) -> AsyncIterator[Prefect]:
    async with httpx.AsyncClient(timeout=10) as http:
        yield Prefect(http, prefect_api)


@pytest.fixture(scope="session")
def script_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("script")


@pytest.fixture
def script(script_folder: Path) -> Iterator[scripted.Script]:
    """What the actions do, in this process and in responders; without a word, all of them succeed at once."""
    made = scripted.Script(script_folder)
    made.set()
    real = scripted.install(made)
    yield made
    ACTIONS.update(real)


@pytest.fixture(scope="session")
def environment(settings: Settings, deployed: Addresses, script_folder: Path) -> dict[str, str]:
    """The environment of this system's processes."""
    assert settings.database.url is not None
    return {
        **os.environ,
        **client_environment(settings, deployed),
        "DATABASE_URL": settings.database.url.get_secret_value(),
        "PYTHONPATH": str(ROOT),
        scripted.FOLDER: str(script_folder),
    }


@pytest.fixture(scope="module")
async def responder(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Responder]:
    """One responder for a whole module; do not kill it, and start no other beside it."""
    started = Responder(environment, tmp_path_factory.mktemp("responder") / "responder.log")
    yield await started.claiming()
    started.terminate()


@pytest.fixture
def start_responder(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Responder]]:
    """A function that starts a responder to be killed; keyword arguments change its environment."""
    started: list[Responder] = []

    def start(**changes: str) -> Responder:
        started.append(Responder({**environment, **changes}, tmp_path / f"responder-{len(started)}.log"))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.kill()


@pytest.fixture
def open_incident(services: Services) -> Callable[[], Awaitable[str]]:
    """A function that opens an incident whose fault is known already, and returns its id.

    Its order to start a flow waits in the outbox, like any other's.
    """

    async def open_it() -> str:
        now = utcnow()
        async with services.sessions.begin() as session:
            incident = await record.open_incident(
                session,
                title="scripted",
                component="vector:primary",
                agent="agent",
                fault_at=now,
                now=now,
                actor="test",
                scope={"target": "primary", "collections": ["kb"]},
                findings=[Finding(Fault.VECTOR_DATABASE_DOWN, "vector:primary", 1.0)],
            )
            return incident.id

    return open_it


@pytest.fixture
def started(
    services: Services, launcher: Launcher, open_incident: Callable[[], Awaitable[str]]
) -> Callable[[], Awaitable[tuple[str, str]]]:
    """A function that opens an incident and starts its run as the relay does; it returns the ids of both."""

    async def start() -> tuple[str, str]:
        incident_id = await open_incident()
        await carry(services, launcher, "start_flow")
        return incident_id, str((await incident(services, incident_id)).flow_run_id)

    return start


@pytest.fixture
async def vectors(services: Services, tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[dict[str, str]]:
    """URLs of real vector servers in processes of their own, by target."""
    urls = {name: f"http://127.0.0.1:{free_port()}" for name in ("primary", "replica")}
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "reanimate.standby", "--name", name),
            *("--port", url.rsplit(":", 1)[1], "--data", str(tmp_path / name)),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for name, url in urls.items()
    ]

    async def ready() -> bool:
        try:
            return all([(await services.http.get(f"{url}/readyz")).is_success for url in urls.values()])
        except httpx.TransportError:
            return False

    await until(ready)
    yield urls
    for process in processes:
        process.terminate()
        await process.wait()
