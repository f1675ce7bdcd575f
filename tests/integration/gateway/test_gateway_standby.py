"""The gateway before two real standby servers, spoken to with the official client."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from gateway_process import Gateway, free_port, gateway_for
from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import UnexpectedResponse
from qdrant_client.models import CreateAlias, CreateAliasOperation, Distance, PointStruct, VectorParams
from vector_target import VectorTarget

POINTS = [
    PointStruct(id=number, vector=[number / 100, 1.0, 0.5, 1 - number / 100], payload={"n": number})
    for number in range(1, 51)
]


class Standby:
    """A standby server as a process, to be killed."""

    def __init__(self, name: str, directory: Path) -> None:
        self.data = directory / name
        self.address = VectorTarget(name, port=free_port())
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        name, port = self.address.name, str(self.address.port)
        command = (
            sys.executable, "-m", "reanimate.standby", "--name", name, "--port", port, "--data", str(self.data),
        )  # fmt: skip
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        with (self.data.parent / f"{name}.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stderr=log, stdout=log)  # noqa: ASYNC220
        async with aiohttp.ClientSession() as http:
            for _ in range(600):
                try:
                    async with http.get(f"{self.address.url}/healthz") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.05)
        raise AssertionError(f"standby {name} did not start")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def client(self) -> AsyncQdrantClient:
        return AsyncQdrantClient(url=self.address.url, check_compatibility=False, timeout=30)


@pytest.fixture
async def standbys(tmp_path: Path) -> AsyncIterator[tuple[Standby, Standby]]:
    primary, replica = Standby("primary", tmp_path), Standby("replica", tmp_path)
    try:
        await asyncio.gather(primary.start(), replica.start())
        yield primary, replica
    finally:
        primary.kill()
        replica.kill()


@pytest.fixture
async def gateway(tmp_path: Path, standbys: tuple[Standby, Standby]) -> AsyncIterator[Gateway]:
    async with gateway_for(tmp_path / "home", *(standby.address for standby in standbys)) as running_gateway:
        yield running_gateway


async def _fill(client: AsyncQdrantClient) -> None:
    await client.create_collection("passages", vectors_config=VectorParams(size=4, distance=Distance.COSINE))
    await client.upsert("passages", POINTS, wait=True)
    alias = CreateAlias(collection_name="passages", alias_name="kb")
    await client.update_collection_aliases([CreateAliasOperation(create_alias=alias)])


async def _best(client: AsyncQdrantClient) -> int:
    answer = await client.query_points("kb", query=POINTS[6].vector, limit=1, with_payload=True)
    assert answer.points[0].payload is not None
    return int(answer.points[0].payload["n"])


async def test_standby__the_official_client_survives_a_primary_that_dies_with_its_disk(
    gateway: Gateway, standbys: tuple[Standby, Standby]
) -> None:
    """Loaded through the gateway, killed, replaced by an empty one: reads go on, no write is lost or misled."""
    primary, replica = standbys
    client = AsyncQdrantClient(url=gateway.url, check_compatibility=False, timeout=30)
    copy = replica.client()
    try:
        await _fill(client)
        await _fill(copy)
        assert await _best(client) == 7
        assert (await client.count("kb", exact=True)).count == 50
        assert len((await client.scroll("kb", limit=10))[0]) == 10

        primary.kill()
        assert await _best(client) == 7
        with pytest.raises(UnexpectedResponse) as refused:
            await client.upsert("kb", POINTS[:1], wait=True)
        assert refused.value.status_code == 503

        shutil.rmtree(primary.data)
        await primary.start()
        await gateway.until("primary", "up", within_s=20)
        assert await _best(client) == 7
        assert await client.collection_exists("passages")
        with pytest.raises(UnexpectedResponse) as misled:
            await client.create_collection("passages", vectors_config=VectorParams(size=4, distance=Distance.DOT))
        assert misled.value.status_code == 503

        direct = primary.client()
        await _fill(direct)
        await direct.close()
        for _ in range(100):
            if not (await gateway.figures())["targets"]["primary"]["missing"]:
                break
            await asyncio.sleep(0.05)
        await client.upsert("kb", POINTS[:1], wait=True)
        assert await _best(client) == 7
        figures = await gateway.figures()
        assert figures["reads"]["failed"] == 0
        assert figures["totals"]["writes_acknowledged"] == {"passages": 2, "kb": 1}
    finally:
        await client.close()
        await copy.close()
