"""A vector server to measure against, and collections of realistic points on it.

By default our standby is started; with QDRANT_URL (and QDRANT_API_KEY) in the environment it is that server.
"""

import asyncio
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson

from benchmarks.stage import free_port
from reanimate.deathsig import die_with_parent
from reanimate.errors import ReanimateError
from reanimate.vector.server import VectorServer

__all__ = ["DIMENSION", "Target", "batches", "create", "fill", "green", "vector_server"]

DIMENSION = 384
_CLUSTERS = 200
_BATCH = 1000
_WORDS = ("refund", "invoice", "delivery", "warranty", "account", "password", "contract", "meeting")


@dataclass(frozen=True)
class Target:
    """A server, and the key for those who talk to it themselves."""

    server: VectorServer
    api_key: str | None


@asynccontextmanager
async def vector_server(folder: Path) -> AsyncIterator[Target]:
    """Give the server of the environment, else a standby of our own that keeps its data below `folder`."""
    async with httpx.AsyncClient(trust_env=False, timeout=60.0) as http:
        if url := os.environ.get("QDRANT_URL"):
            key = os.environ.get("QDRANT_API_KEY")
            yield Target(VectorServer("server", url, key, http), key)
            return
        key, port = secrets.token_urlsafe(12), free_port()
        command = [sys.executable, "-m", "reanimate.standby", "--port", str(port), "--data", str(folder / "standby")]
        with (folder / "standby.log").open("wb") as log:
            environment = {**os.environ, "REANIMATE_STANDBY_API_KEY": key}
            process = await asyncio.create_subprocess_exec(
                *command, env=environment, stdout=log, stderr=log, preexec_fn=die_with_parent(signal.SIGTERM)
            )
        try:
            server = VectorServer("standby", f"http://127.0.0.1:{port}", key, http)
            await _answers(server)
            yield Target(server, key)
        finally:
            process.terminate()
            await process.wait()


async def _answers(server: VectorServer) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            await server.version()
        except ReanimateError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            return


def batches(points: int) -> Iterator[bytes]:
    """Yield bodies of upserts: unit vectors in overlapping clusters, payloads of about 95 bytes; always the same."""
    random = np.random.default_rng(7)
    centres = random.normal(size=(_CLUSTERS, DIMENSION)).astype("f4")
    for begin in range(0, points, _BATCH):
        count = min(_BATCH, points - begin)
        vectors = centres[random.integers(0, _CLUSTERS, count)] + random.normal(size=(count, DIMENSION)).astype("f4")
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        rows = [{"id": begin + at, "vector": vectors[at], "payload": _payload(begin + at)} for at in range(count)]
        yield orjson.dumps({"points": rows}, option=orjson.OPT_SERIALIZE_NUMPY)


def _payload(number: int) -> dict[str, Any]:
    words = " ".join(_WORDS[(number >> shift) % len(_WORDS)] for shift in (0, 3, 6, 9))
    return {"lang": ("de", "en", "fr")[number % 3], "year": 2000 + number % 25, "text": f"{number}: {words}"}


async def create(server: VectorServer, name: str, *, index: bool = True) -> None:
    """Create an empty collection with two payload indexes. Without `index` a server builds no HNSW graph."""
    body: dict[str, Any] = {"vectors": {"size": DIMENSION, "distance": "Cosine"}}
    if not index:
        body["optimizers_config"] = {"indexing_threshold": 0}
    await server.create_collection(name, body)
    await server.create_index(name, "lang", "keyword")
    await server.create_index(name, "year", "integer")


async def fill(server: VectorServer, name: str, points: int) -> None:
    """Write the points, and wait until the server has nothing left to do about them."""
    for body in batches(points):
        await server.request(
            "PUT",
            server.path(name, "points"),
            doing=f"filling {name!r}",
            timeout_s=300.0,
            params={"wait": "true"},
            content=body,
            headers={"content-type": "application/json"},
        )
    await green(server, name)


async def green(server: VectorServer, name: str, *, within_s: float = 3600.0) -> None:
    """Wait until the collection is green.

    Raises:
        TimeoutError: it did not become so.
    """
    async with asyncio.timeout(within_s):
        while (await server.info(name))["status"] != "green":  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.05)
