"""A whole system as `reanimate up` runs it, with a small knowledge base in it, for drills that break it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from reanimate.bootstrap import Services, open_services
from reanimate.clock import utcnow
from reanimate.config import Settings, load_settings
from reanimate.deathsig import die_with_parent
from reanimate.demo.agent import Agent
from reanimate.demo.knowledge import DIMENSION, Passage, embed
from reanimate.protection.backups import back_up, seed_replicas
from reanimate.supervisor.journal import PartState, SystemState, read_journal, summarize

ALIAS = "kb"
COLLECTION = "passages"
POINTS = 300
T = TypeVar("T")

SETTINGS = """
[database]
port = 0
[web]
port = 0
[prefect]
port = 0
worker = false
[gateway]
port = 0
control_port = 0
[watch]
port = 0
[[vector.targets]]
name = "primary"
role = "primary"
[[vector.targets]]
name = "replica"
role = "replica"
"""


async def until(look: Callable[[], Awaitable[T]], *, within_s: float = 30.0, every_s: float = 0.1) -> T:
    """Look again and again until the answer is truthy, and return it."""
    deadline = time.monotonic() + within_s
    while not (found := await look()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s; last seen: {found!r}"
        await asyncio.sleep(every_s)
    return found


def processes_of(home: Path) -> dict[int, str]:
    """Return pid and command of the live processes (zombies are not) that belong to a home directory."""
    mark, found = f"REANIMATE_HOME={home}".encode(), {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            ours = mark in (entry / "environ").read_bytes().split(b"\0")
            ours = ours or (entry / "cwd").readlink().is_relative_to(home)
            if ours and int(entry.name) != os.getpid() and "\nState:\tZ" not in (entry / "status").read_text():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def settings_of(home: Path, **environment: str) -> Settings:
    """Return the settings of a home directory, as its own processes read them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**environment, "REANIMATE_HOME": str(home)}.items():
            patch.setenv(name, value)
        return load_settings()


def knowledge() -> list[Passage]:
    """Return a small knowledge base, the same each time."""
    words = "restore replica primary snapshot gateway postgres incident alias shard vector".split()  # noqa: SIM905
    return [
        Passage(
            title=f"passage {number}",
            kind=("topic", "docstring")[number % 2],
            module=words[number % len(words)],
            text=f"passage {number} says what {words[number % 10]} has to do with {words[number // 10 % 10]} {number}",
        )
        for number in range(POINTS)
    ]


async def load_through(gateway: str) -> None:
    """Load the knowledge base through a gateway, as an agent would, with a payload index and an alias."""
    points = [
        {
            "id": number,
            "vector": embed(passage.text).tolist(),
            "payload": {"title": passage.title, "kind": passage.kind, "module": passage.module},
        }
        for number, passage in enumerate(knowledge(), start=1)
    ]
    alias = {"create_alias": {"collection_name": COLLECTION, "alias_name": ALIAS}}
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", f"/collections/{COLLECTION}", {"vectors": {"size": DIMENSION, "distance": "Cosine"}}),
        ("PUT", f"/collections/{COLLECTION}/index", {"field_name": "module", "field_schema": "keyword"}),
        ("PUT", f"/collections/{COLLECTION}/points", {"points": points}),
        ("POST", "/collections/aliases", {"actions": [alias]}),
    ]
    async with httpx.AsyncClient(base_url=gateway, timeout=30, trust_env=False) as client:
        for method, path, body in calls:
            answer = await client.request(method, path, json=body, params={"wait": "true"})
            assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text[:300]}"


async def protect(services: Services) -> None:
    """Back the knowledge base up, and load the backup into the replica."""
    manifest = await back_up(services, ALIAS, target="primary", trigger="drill")
    assert manifest.exact_count == POINTS
    await seed_replicas(services, manifest)


def agent_of(services: Services) -> Agent:
    """Return an agent that asks the knowledge base a question every 50 ms through the gateway, and counts."""
    return Agent(services.addresses.gateway, ALIAS, knowledge())


async def read_target(services: Services) -> str:
    """Ask the gateway one question, which must be answered, and return the target that answered it."""
    question = {"query": embed("passage 7").tolist(), "limit": 3}
    answer = await services.http.post(f"{services.addresses.gateway}/collections/{ALIAS}/points/query", json=question)
    assert answer.status_code == 200, answer.text[:300]
    assert answer.json()["result"]["points"]
    return str(answer.headers["x-reanimate-target"])


async def obeyed_switches(services: Services) -> list[dict[str, Any]]:
    """Return the switches that the gateway obeys now."""
    answer = await services.http.get(
        f"{services.addresses.gateway_control}/switches",
        headers={"authorization": f"Bearer {services.secrets.control_key}"},
    )
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()["switches"]
    return found


def steps_of(entries: list[dict[str, Any]], *kinds: str) -> Counter[tuple[str, str, int]]:
    """Count how often the timeline says something of these kinds of each (phase, step, ordinal)."""
    return Counter(
        (entry["data"]["phase"], entry["data"]["step"], entry["data"]["ordinal"])
        for entry in entries
        if entry["kind"] in kinds
    )


def finished_steps(entries: list[dict[str, Any]]) -> Counter[tuple[str, str, int]]:
    """Count how often each (phase, step, ordinal) came to its end."""
    return steps_of(entries, "step.done", "step.skipped")


@dataclass
class System:
    """One running system."""

    home: Path
    services: Services

    def state(self) -> SystemState:
        """Return what the supervisor's journal says."""
        found = summarize(read_journal(self.home))
        assert found is not None
        return found

    def part(self, name: str) -> PartState:
        return next(part for part in self.state().parts if part.name == name)

    async def ready_again(self, before: PartState) -> None:
        """Wait until the supervisor has put another process in the place of this one."""

        async def look() -> bool:
            now = await asyncio.to_thread(self.part, before.name)
            return now.state == "ready" and now.restarts == before.restarts + 1 and now.pid != before.pid

        await until(look, within_s=60)

    async def delete_collection(self) -> datetime:
        """Delete the collection behind the alias on the primary; return when."""
        primary = self.services.vector("primary")
        collection = (await primary.aliases())[ALIAS]
        deleted_at = utcnow()
        answer = await self.services.http.delete(f"{primary.url}/collections/{collection}")
        answer.raise_for_status()
        return deleted_at


def _spawn_up(home: Path) -> subprocess.Popen[bytes]:
    """Start `reanimate up` in a new home directory; it ends with us, however we end."""
    home.mkdir(parents=True)
    (home / "reanimate.toml").write_text(SETTINGS)
    with (home / "up.log").open("wb") as sink:
        return subprocess.Popen(
            [sys.executable, "-m", "reanimate.cli", "up"],
            env={**os.environ, "REANIMATE_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )


def _last_words(home: Path) -> str:
    return (home / "up.log").read_text(errors="replace")[-2000:]


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[System]:
    """Start everything, load and protect the knowledge base; at the end, stop everything and see that it is gone."""
    up = _spawn_up(home)
    try:

        async def ready() -> bool:
            assert up.poll() is None, _last_words(home)
            state = await asyncio.to_thread(lambda: summarize(read_journal(home)))
            return state is not None and state.ready

        await until(ready, within_s=300)
        async with open_services(settings_of(home)) as services:
            await load_through(services.addresses.gateway)
            await protect(services)
            yield System(home, services)
    finally:
        up.terminate()
        try:
            await asyncio.to_thread(up.wait, 20)
        finally:
            up.kill()
    assert processes_of(home) == {}
