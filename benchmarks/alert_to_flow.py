"""How long from an alert to the first line of the flow that answers it.

Ours: an alert posted to the web process of a whole running system. The peer: the same Prefect server, and a process
worker as Prefect ships it, with a run created at once. Both end where the body of the flow starts its first task, by
Prefect's own record of that task. Goal: p95 ≤ 0.5 s.
"""

import asyncio
import random
import statistics
import sys
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
from rich.console import Console

from benchmarks.report import Goal, Report, Row, arguments, percentile
from benchmarks.stage import ROOT
from benchmarks.system import incident_of, post_alert, started, system
from reanimate.bootstrap import Services
from reanimate.orchestrator.environment import client_environment

__all__ = ["main"]

GOAL_P95_S = 0.5
OURS_PER_ROUND = 4
POLL_S = 10.0
"""How often a worker with default settings asks for runs."""
WITHIN_S = 60.0
REST_S = 1.0
POOL = "benchmark"
progress = Console(stderr=True)


@dataclass(frozen=True)
class Sample:
    """One alert of ours; seconds since it was posted."""

    opened_s: float
    running_s: float
    first_line_s: float


class Prefect:
    """What Prefect's server has recorded, and the peer's own pool and deployment on it."""

    def __init__(self, session: aiohttp.ClientSession, api_url: str) -> None:
        self._session = session
        self._api = api_url

    async def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """POST `body`, or GET without one.

        Raises:
            aiohttp.ClientResponseError: the answer is an error.
        """
        method = "GET" if body is None else "POST"
        async with self._session.request(method, f"{self._api}{path}", json=body) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def run_is_over(self, name: str) -> dict[str, Any]:
        """Wait until the run of this name has ended, and return it."""
        ended = ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"]
        wanted = {"flow_runs": {"name": {"any_": [name]}, "state": {"type": {"any_": ended}}}}
        async with asyncio.timeout(WITHIN_S):
            while True:
                if found := await self.ask("/flow_runs/filter", wanted):
                    run: dict[str, Any] = found[0]
                    return run
                await asyncio.sleep(0.3)

    async def first_task_began(self, run_id: str) -> datetime:
        """Return when the first task of a run began; tasks are recorded a moment after they ran."""
        wanted = {"flow_runs": {"id": {"any_": [run_id]}}}
        async with asyncio.timeout(WITHIN_S):
            while True:
                began = [run["start_time"] for run in await self.ask("/task_runs/filter", wanted) if run["start_time"]]
                if began:
                    return min(datetime.fromisoformat(moment) for moment in began)
                await asyncio.sleep(0.3)

    async def deploy_peer(self) -> str:
        """Deploy the peer's flow to its pool, which its worker makes; return the deployment's id."""
        wanted = {"work_pools": {"name": {"any_": [POOL]}}}
        async with asyncio.timeout(WITHIN_S):
            while True:
                if await self.ask("/work_pools/filter", wanted):
                    break
                await asyncio.sleep(0.2)
        flow = await self.ask("/flows/", {"name": "answer-plainly"})
        deployment = await self.ask(
            "/deployments/",
            {
                "name": POOL,
                "flow_id": flow["id"],
                "work_pool_name": POOL,
                "entrypoint": "benchmarks/peers/prefect_answer.py:answer",
                "path": str(ROOT),
            },
        )
        return str(deployment["id"])


def default_worker(services: Services) -> AbstractAsyncContextManager[None]:
    """Run a process worker with nothing set but where its server and its home directory are."""
    client = client_environment(services.settings, services.addresses)
    environment = {name: client[name] for name in ("PREFECT_API_URL", "PREFECT_HOME", "PREFECT_PROFILES_PATH")}
    arguments = ["-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
    return started(services, "default-worker", arguments, environment)


async def ours(session: aiohttp.ClientSession, services: Services, prefect: Prefect, number: int) -> Sample:
    """Post an alert about an agent of its own, so that it opens an incident of its own.

    No runbook knows its fault: people are called, nothing is contained.
    """
    labels = {"alertname": "Benchmark", "component": f"tool:bench-{number}", "agent": f"bench-{number}"}
    posted = await post_alert(session, services, labels, "somebody measures how long this takes")
    await asyncio.sleep(REST_S)  # nobody asks anything while it counts
    incident = await incident_of(services, posted.fingerprint)
    run = await prefect.run_is_over(f"respond-{incident.id}")
    began = await prefect.first_task_began(run["id"])
    running = datetime.fromisoformat(run["start_time"])
    return Sample(*((moment - posted.at).total_seconds() for moment in (incident.opened_at, running, began)))


async def peers(prefect: Prefect, deployment: str, number: int) -> float:
    """Create a run as a webhook adapter would, but without the way to the adapter, which is given to it."""
    name, began = f"answer-{number}", datetime.now(UTC)
    order = {"name": name, "parameters": {"alert": name}, "state": {"type": "SCHEDULED"}}
    await prefect.ask(f"/deployments/{deployment}/create_flow_run", order)
    run = await prefect.run_is_over(name)
    return (await prefect.first_task_began(run["id"]) - began).total_seconds()


async def measured(services: Services, rounds: int) -> tuple[list[Sample], list[float]]:
    """Measure both in turns, so that whatever else the machine does meets both."""
    mine: list[Sample] = []
    theirs: list[float] = []
    moments = random.Random(11)
    async with aiohttp.ClientSession() as session, default_worker(services):
        prefect = Prefect(session, services.addresses.prefect_api)
        deployment = await prefect.deploy_peer()
        await ours(session, services, prefect, 0)
        for number in range(rounds):
            for _ in range(OURS_PER_ROUND):
                mine.append(await ours(session, services, prefect, len(mine) + 1))
                progress.print(f"reanimate: {mine[-1].first_line_s:.3f} s {mine[-1]}")
                await asyncio.sleep(REST_S)
            # Alerts do not wait for a worker's clock: each falls elsewhere between two polls.
            await asyncio.sleep(moments.uniform(0, POLL_S))
            theirs.append(await peers(prefect, deployment, number))
            progress.print(f"Prefect worker: {theirs[-1]:.3f} s")
            await asyncio.sleep(REST_S)
    return mine, theirs


async def run(rounds: int) -> Report:
    report = Report("alert-to-flow: alert posted → the flow's body starts its first task")
    async with system() as services:
        mine, theirs = await measured(services, rounds)
    lines = tuple(sample.first_line_s for sample in mine)
    us, peer = "reanimate", "Prefect worker, defaults"
    report.rows = [
        Row(us, "first line", "s", lines),
        Row(us, "  of that: until the incident is open", "s", tuple(sample.opened_s for sample in mine)),
        Row(us, "  of that: until its run is RUNNING", "s", tuple(sample.running_s for sample in mine)),
        Row(peer, "first line", "s", tuple(theirs)),
        Row(us, "first line, p95", "s", (percentile(lines, 95),)),
        Row(peer, "first line, p95", "s", (percentile(theirs, 95),)),
        Row("ratio", "peer / us, medians", "×", (statistics.median(theirs) / statistics.median(lines),)),
    ]
    report.goals = [Goal("alert to the first line of the flow, p95", percentile(lines, 95), "s", GOAL_P95_S)]
    return report


def main() -> int:
    given = arguments(__doc__ or "", rounds=6)
    return asyncio.run(run(given.rounds)).show(given.json)


if __name__ == "__main__":
    sys.exit(main())
