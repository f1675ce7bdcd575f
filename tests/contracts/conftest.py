"""The contract tests run against our standby, or against a real server when QDRANT_URL names one.

QDRANT_API_KEY and QDRANT_READ_ONLY_API_KEY are its keys; without the second, what needs it is left out.
"""

import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from qdrant_server import QdrantServer, StandbyProcess


@pytest.fixture(scope="session")
def qdrant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantServer]:
    """The server under test."""
    if url := os.environ.get("QDRANT_URL"):
        key = os.environ.get("QDRANT_API_KEY")
        yield QdrantServer(url.rstrip("/"), key, os.environ.get("QDRANT_READ_ONLY_API_KEY"), is_standby=False)
        return
    process = StandbyProcess(tmp_path_factory.mktemp("standby"))
    try:
        yield process.start().server
    finally:
        process.end()


@pytest.fixture(scope="session")
async def client(qdrant: QdrantServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the server under test, with the key that may do everything."""
    async with qdrant.client() as client:
        yield client


@pytest.fixture(scope="session")
def standby_only(qdrant: QdrantServer) -> None:
    """Skip what only our own server promises, or what would harm somebody's server."""
    if not qdrant.is_standby:
        pytest.skip("about the standby server only; QDRANT_URL names a real one")


@pytest.fixture
def start_standby(tmp_path: Path) -> Iterator[Callable[..., StandbyProcess]]:
    """A function that starts a standby of its own for one test: `start_standby("name", "--read-only")`."""
    started: list[StandbyProcess] = []

    def start(name: str = "own", *arguments: str) -> StandbyProcess:
        process = StandbyProcess(tmp_path / name, arguments=arguments)
        started.append(process)
        return process.start()

    yield start
    for process in started:
        process.end()


@pytest.fixture
async def new_name(client: httpx.AsyncClient) -> AsyncIterator[Callable[[], str]]:
    """A function that returns a name no collection has; what bears it is removed after the test."""
    given: list[str] = []

    def name() -> str:
        given.append(f"contract-{uuid.uuid4().hex[:12]}")
        return given[-1]

    yield name
    for one in given:
        if (await client.get(f"/collections/{one}/exists")).json()["result"]["exists"]:
            for snapshot in (await client.get(f"/collections/{one}/snapshots")).json()["result"]:
                await client.delete(f"/collections/{one}/snapshots/{snapshot['name']}")
        await client.delete(f"/collections/{one}")
