"""Tests against a real cluster, each peer by its own URL: QDRANT_CLUSTER_URLS=http://a:6333,http://b:6333,http://c:6333.

Without it nothing here is collected: there is no stand-in for a cluster. QDRANT_API_KEY is its key.
"""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from obstore.store import LocalStore

from reanimate.backups.catalog import Catalog
from reanimate.errors import Unreachable
from reanimate.vector.server import VectorServer

URLS = [url.strip().rstrip("/") for url in os.environ.get("QDRANT_CLUSTER_URLS", "").split(",") if url.strip()]

collect_ignore_glob = [] if URLS else ["test_*.py"]


@pytest.fixture(scope="session")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """The HTTP client of these tests."""
    async with httpx.AsyncClient(trust_env=False, timeout=10.0) as client:
        yield client


@pytest.fixture(scope="session")
def cluster(http: httpx.AsyncClient) -> VectorServer:
    """The cluster, reached at its first peer, all peers known."""
    return VectorServer("cluster", URLS[0], os.environ.get("QDRANT_API_KEY"), http, URLS)


@pytest.fixture
async def prefix(cluster: VectorServer) -> AsyncIterator[str]:
    """A start for names of this test's own; what bears it is removed afterwards."""
    start = f"c{secrets.token_hex(4)}"
    yield start
    aliases = [alias for alias in await cluster.aliases() if alias.startswith(start)]
    if aliases:
        await cluster.update_aliases([{"delete_alias": {"alias_name": alias}} for alias in aliases])
    for name in await cluster.collections():
        if name.startswith(start):
            await cluster.delete_collection(name)


@pytest.fixture
async def single(tmp_path: Path, free_port: Callable[[], int], http: httpx.AsyncClient) -> AsyncIterator[VectorServer]:
    """A single server: our standby, as a process."""
    key, port = secrets.token_hex(8), free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "reanimate.standby", "--name", "single", "--port", str(port)),
        *("--data", str(tmp_path / "single")),
        env={**os.environ, "REANIMATE_STANDBY_API_KEY": key},
    )
    server = VectorServer("single", f"http://127.0.0.1:{port}", key, http)
    try:
        for _ in range(300):
            with suppress(Unreachable):
                await server.version()
                break
            await asyncio.sleep(0.1)
        yield server
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """An empty catalog in a folder."""
    return Catalog(LocalStore(prefix=tmp_path / "blobs", mkdir=True), tmp_path / "scratch")
