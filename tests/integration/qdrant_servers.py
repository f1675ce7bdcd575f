"""Vector servers for tests: the real one that QDRANT_URL names, else standby processes of our own."""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from reanimate.addresses import Addresses
from reanimate.vector.server import VectorServer

__all__ = ["KEY", "NOWHERE", "REAL_URL", "CleanServer", "fill", "server_at", "start_servers", "start_standby"]

REAL_URL = os.environ.get("QDRANT_URL")
KEY = os.environ.get("QDRANT_API_KEY") if REAL_URL else "key-of-the-tests"

NOWHERE = Addresses(
    web="http://127.0.0.1:9",
    prefect_api="http://127.0.0.1:9/api",
    prefect_ui="http://127.0.0.1:9",
    gateway="http://127.0.0.1:9",
    gateway_control="http://127.0.0.1:9",
    watch="http://127.0.0.1:9",
    database="postgresql+psycopg://nobody@127.0.0.1:9/nothing",
)


def server_at(url: str, http: httpx.AsyncClient, name: str = "primary") -> VectorServer:
    """Return a client of the server at `url`, with the key of the tests."""
    return VectorServer(name, url, KEY, http)


@asynccontextmanager
async def start_servers(home: Path, *ports: int) -> AsyncIterator[list[str]]:
    """Give the URLs of as many servers as ports are given; the same real one for all when there is one."""
    if REAL_URL:
        yield [REAL_URL] * len(ports)
        return
    names = ["primary", "replica"][: len(ports)]
    urls = {name: f"http://127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)}
    environment = {**os.environ, "REANIMATE_STANDBY_API_KEY": str(KEY)}
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "reanimate.standby", "--name", name),
            *("--port", str(port), "--data", str(home / name)),
            env=environment,
        )
        for name, port in zip(names, ports, strict=True)
    ]
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            for url, process in zip(urls.values(), processes, strict=True):
                await _until_ready(http, url, process)
        yield list(urls.values())
    finally:
        for process in processes:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        await asyncio.gather(*(process.wait() for process in processes))


@asynccontextmanager
async def start_standby(data: Path, port: int) -> AsyncIterator[str]:
    """Give the URL of a standby process of our own, also where a real server is tested."""
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, **({"REANIMATE_STANDBY_API_KEY": KEY} if KEY else {})}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "reanimate.standby", "--name", "emergency", "--port", str(port), "--data", str(data)),
        env=environment,
    )
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            await _until_ready(http, url, process)
        yield url
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def _until_ready(http: httpx.AsyncClient, url: str, process: asyncio.subprocess.Process) -> None:
    for _ in range(200):
        if process.returncode is not None:
            raise RuntimeError(f"the server at {url} ended with code {process.returncode}")
        try:
            if (await http.get(f"{url}/readyz")).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        await asyncio.sleep(0.1)
    raise TimeoutError(f"{url} did not become ready")


class CleanServer:
    """Names of one test's own on a server, all removed at the end."""

    def __init__(self, server: VectorServer) -> None:
        self.server = server
        self.prefix = f"t{secrets.token_hex(4)}"

    def name(self, suffix: str = "kb") -> str:
        return f"{self.prefix}-{suffix}"

    async def mine(self) -> list[str]:
        """Return the collections of this test."""
        return [name for name in await self.server.collections() if name.startswith(self.prefix)]

    async def aliases(self) -> dict[str, str]:
        """Return the aliases of this test."""
        return {alias: at for alias, at in (await self.server.aliases()).items() if alias.startswith(self.prefix)}

    async def clean(self) -> None:
        actions = [{"delete_alias": {"alias_name": alias}} for alias in await self.aliases()]
        if actions:
            await self.server.update_aliases(actions)
        for name in await self.mine():
            await self.server.delete_collection(name)


async def fill(server: VectorServer, name: str, count: int, *, dimension: int = 16, alias: str | None = None) -> None:
    """Make a collection with an index and points of every kind of payload."""
    await server.create_collection(name, {"vectors": {"size": dimension, "distance": "Cosine"}})
    await server.create_index(name, "lang", "keyword")
    await server.create_index(name, "year", "integer")
    for begin in range(0, count, 1000):
        await server.upsert(name, points(begin, min(count, begin + 1000), dimension))
    if alias:
        await server.update_aliases([{"create_alias": {"collection_name": name, "alias_name": alias}}])


def points(begin: int, end: int, dimension: int = 16) -> list[dict[str, Any]]:
    """Return points, the same for the same numbers."""
    vectors = np.random.default_rng(begin).normal(size=(end - begin, dimension)).round(4)
    return [
        {
            "id": number,
            "vector": vectors[number - begin].tolist(),
            "payload": {
                "lang": ("de", "en", "fr")[number % 3],
                "year": 2000 + number % 25,
                "text": f"Absatz {number}: Größe ≠ Zahl",
                "score": number / 7,
                "nested": {"list": [1, 2.0, None, {"deep": True}]},
            },
        }
        for number in range(begin, end)
    ]
