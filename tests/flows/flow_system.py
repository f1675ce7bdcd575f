"""The parts of a running system that flow tests drive and look at."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
from scripted import Script

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.db.tables import Incident
from reanimate.incidents import record, timeline
from reanimate.orchestrator.launcher import Launcher
from reanimate.orchestrator.outbox import take
from reanimate.orchestrator.relay import Relay

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T]], *, within_s: float = 30.0, every_s: float = 0.1) -> T:
    """Look again and again until the answer is truthy, and return it."""
    deadline = time.monotonic() + within_s
    while not (found := await look()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s; last seen: {found!r}"
        await asyncio.sleep(every_s)
    return found


class Prefect:
    """The REST API of the test server, for looking at what flows left there."""

    def __init__(self, http: httpx.AsyncClient, api: str) -> None:
        self.api = api
        self._http = http

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self._http.request(method, f"{self.api}{path}", json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    async def run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.ask("GET", f"/flow_runs/{run_id}")
        return found

    async def ended(self, run_id: str, *, within_s: float = 60.0) -> dict[str, Any]:
        """Return the run once it is over."""

        async def look() -> dict[str, Any] | None:
            run = await self.run(run_id)
            return run if run["state_type"] in ("COMPLETED", "FAILED", "CANCELLED") else None

        return await until(look, within_s=within_s)  # type: ignore[return-value]

    async def phases(self, run_id: str) -> list[tuple[str, str]]:
        """Return (flow, state) of each subflow run, in their order."""
        found = await self.ask(
            "POST",
            "/flow_runs/filter",
            {"flow_runs": {"parent_flow_run_id": {"any_": [run_id]}}, "sort": "START_TIME_ASC"},
        )
        return [(run["name"].partition("-")[0], run["state_name"]) for run in found]

    async def artifacts(self, run_id: str) -> dict[str, str]:
        """Return the documents of a run by key."""
        found = await self.ask("POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}})
        return {item["key"]: item["data"] for item in found if item["key"]}


class Responder:
    """One responder process with scripted actions."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).parent / "scripted.py")],
                env=environment,
                cwd=ROOT,
                stdout=file,
                stderr=file,
            )

    async def claiming(self) -> "Responder":
        """Wait until it claims runs."""

        async def look() -> bool:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            return "listening to Prefect's events" in self.log.read_text()

        await until(look)
        return self

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self) -> float:
        """Ask it to end, and return how long that took, in seconds."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=10) == 0, self.log.read_text()[-3000:]
        return time.monotonic() - began


async def incident(services: Services, incident_id: str) -> Incident:
    """Return the incident as the record has it now."""
    async with services.sessions() as session:
        return await record.load(session, incident_id)


async def kinds(services: Services, incident_id: str) -> list[str]:
    """Return the kinds of the incident's timeline entries, in their order."""
    async with services.sessions() as session:
        return [entry.kind for entry in await timeline.entries(session, incident_id)]


@contextmanager
def system_at(services: Services, **changes: str) -> Iterator[None]:
    """Let processes that start in the block find the system's parts at other addresses."""
    real = services.addresses
    replace(real, **changes).save(services.settings.home)
    try:
        yield
    finally:
        real.save(services.settings.home)


async def in_state(services: Services, incident_id: str, *states: str, within_s: float = 60.0) -> Incident:
    """Return the incident once it is in one of these states."""

    async def look() -> Incident | None:
        found = await incident(services, incident_id)
        return found if found.state in states else None

    return await until(look, within_s=within_s)  # type: ignore[return-value]


async def carry(services: Services, launcher: Launcher, kind: str) -> None:
    """Carry out every due order of one kind, once, as the relay does."""
    lane = next(lane for lane in Relay(services, launcher).lanes() if lane.kind == kind)
    async with services.sessions.begin() as session:
        orders = await take(session, lane, now=utcnow())
    for order in orders:
        await lane.work(order)


def done_twice(script: Script, incident_id: str) -> list[str]:
    """Return the actions that came to their end more than once."""
    ended = [line.action for line in script.traced(incident_id) if line.event == "end"]
    return sorted({action for action in ended if ended.count(action) > 1})


async def begun(script: Script, incident_id: str, action: str) -> None:
    """Wait until an action has begun."""

    async def look() -> bool:
        return any(line.action == action and line.event == "begin" for line in script.traced(incident_id))

    await until(look, every_s=0.05)
