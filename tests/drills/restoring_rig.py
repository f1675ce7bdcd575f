"""What a restore needs, no more: two standby servers, a gateway, the record, and a faulty proxy before the primary."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from faulty_proxy import FaultyProxy, proxied
from running_system import ALIAS, COLLECTION, POINTS, load_through, protect, settings_of, until

from reanimate.addresses import Addresses
from reanimate.bootstrap import Services, open_services
from reanimate.clock import utcnow
from reanimate.incidents import record
from reanimate.incidents.faults import Fault
from reanimate.incidents.triage import Finding
from reanimate.vector.server import Json, VectorServer

OTHER = "other"
LEFT = 30
"""Points that are left of the knowledge base when somebody has emptied it."""


@dataclass(frozen=True)
class World:
    """Everything on the primary that a failed restore must leave as it was."""

    collections: list[str]
    aliases: dict[str, str]
    points: dict[str, int]
    other: list[Json]
    """Points of a collection that has nothing to do with it, with payload and vectors."""


@dataclass
class Rig:
    """The running parts. `services` and the gateway reach the primary through `proxy`, `primary` goes around it."""

    services: Services
    primary: VectorServer
    proxy: FaultyProxy

    async def world(self) -> World:
        names = await self.primary.collections()
        return World(
            names,
            await self.primary.aliases(),
            {name: await self.primary.exact_count(name) for name in names},
            await self.primary.retrieve(OTHER, range(1, 11)),
        )

    async def empty(self) -> None:
        """Delete most of the knowledge base's points, where it lies now."""
        live = (await self.primary.aliases())[ALIAS]
        selected = {"points": list(range(LEFT + 1, POINTS + 1))}
        answer = await self.services.http.post(
            f"{self.primary.url}/collections/{live}/points/delete", json=selected, params={"wait": "true"}
        )
        answer.raise_for_status()
        assert await self.primary.exact_count(ALIAS) == LEFT

    async def delete(self) -> None:
        """Delete the knowledge base's collection, where it lies now."""
        await self.primary.delete_collection((await self.primary.aliases())[ALIAS])

    async def open_incident(self) -> str:
        """Open an incident about the lost knowledge base and return its id."""
        now = utcnow()
        async with self.services.sessions.begin() as session:
            incident = await record.open_incident(
                session,
                title="the knowledge base is lost",
                component="vector:primary",
                agent="agent",
                fault_at=now,
                now=now,
                actor="test",
                scope={"target": "primary", "collections": [ALIAS]},
                findings=[Finding(Fault.KNOWLEDGE_BASE_DELETED, "vector:primary", 1.0)],
            )
            return incident.id

    def created(self) -> set[str]:
        """Return the names of the collections that were created through the proxy."""
        parts = [path.partition("?")[0].split("/") for verb, path, _ in self.proxy.seen if verb == "PUT"]
        return {part[2] for part in parts if len(part) == 3 and part[1] == "collections"}

    def stored(self, name: str) -> Path:
        """Return the file of that name in the blob store that belongs to the knowledge base's backup."""
        (found,) = (self.services.settings.home / "blobs" / "backups" / COLLECTION).glob(f"*/{name}")
        return found


@contextmanager
def _process(home: Path, *arguments: str) -> Iterator[None]:
    """Run a part of ours for the block."""
    with (home / f"{arguments[0]}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], env={**os.environ, "REANIMATE_HOME": str(home)}, stderr=log
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()


@asynccontextmanager
async def restoring_rig(home: Path, database: str, free_port: Callable[[], int]) -> AsyncIterator[Rig]:
    """Start the parts, load the knowledge base and a collection beside it, back the first one up and seed it."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=10))
        urls = {name: f"http://127.0.0.1:{free_port()}" for name in ("primary", "replica", "gateway", "control")}
        for name in ("primary", "replica"):
            where = ("--port", urls[name].rsplit(":", 1)[1], "--data", str(home / "vector" / name))
            stack.enter_context(_process(home, "reanimate.standby", "--name", name, *where))
        proxy = await stack.enter_async_context(proxied(urls["primary"]))
        nowhere = "http://127.0.0.1:9"
        Addresses(
            web=nowhere,
            prefect_api=f"{nowhere}/api",
            prefect_ui=nowhere,
            gateway=urls["gateway"],
            gateway_control=urls["control"],
            watch=nowhere,
            database="postgresql+psycopg://reanimate@127.0.0.1/reanimate",
            vector={"primary": proxy.url, "replica": urls["replica"]},
        ).save(home)
        for name in ("primary", "replica"):
            await _answers(http, f"{urls[name]}/readyz")
        stack.enter_context(_process(home, "reanimate.gateway"))
        await _answers(http, f"{urls['control']}/healthz")
        services = await stack.enter_async_context(open_services(settings_of(home, DATABASE_URL=database)))
        primary = VectorServer("primary", urls["primary"], None, services.http)
        await load_through(urls["gateway"])
        await _load_other(primary)
        await protect(services)
        yield Rig(services, primary, proxy)


async def _answers(http: httpx.AsyncClient, url: str) -> None:
    async def look() -> bool:
        try:
            return (await http.get(url)).is_success
        except httpx.TransportError:
            return False

    await until(look, within_s=60)


async def _load_other(primary: VectorServer) -> None:
    """Make a collection like the knowledge base, but for what is in it."""
    info = await primary.info(COLLECTION)
    await primary.create_collection(OTHER, {"vectors": info["config"]["params"]["vectors"]})
    await primary.create_index(OTHER, "module", "keyword")
    size = info["config"]["params"]["vectors"]["size"]
    await primary.upsert(
        OTHER,
        [
            {
                "id": number,
                "vector": [float((number * at) % 17 - 8) for at in range(1, size + 1)],
                "payload": {"title": f"other {number}", "module": "other"},
            }
            for number in range(1, POINTS + 1)
        ],
    )
