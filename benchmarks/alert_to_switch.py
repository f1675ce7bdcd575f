"""How long from an alert until the agent's reads go elsewhere.

A knowledge base lies on a primary and, from a backup, on a replica. One reader asks through the proxy, the next
question as soon as the last is answered. An alert says that the primary is down; the end is the first answer from the
replica. Ours is a whole running system, the peers are proxies that take their upstream from a file. Goal: p95 ≤ 1 s.
"""

import asyncio
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass

import aiohttp
from rich.console import Console

from benchmarks.report import Goal, Report, Row, arguments, percentile
from benchmarks.stage import free_port
from benchmarks.system import incident_of, post_alert, started, system
from reanimate.bootstrap import Services
from reanimate.demo.knowledge import DIMENSION, embed, passages
from reanimate.incidents.views import incident_view
from reanimate.protection.backups import back_up, seed_replicas

__all__ = ["main"]

GOAL_P95_S = 1.0
POLL_S = 2.0
"""How often the polling peer looks into its file."""
PASSAGES = 500
READ_EVERY_S = 0.005
WITHIN_S = 90.0
progress = Console(stderr=True)


@dataclass(frozen=True)
class Reader:
    """Reads through one proxy and sees who answered."""

    session: aiohttp.ClientSession
    url: str
    header: str
    question: list[float]

    async def until(self, target: str, *, times: int = 1) -> float:
        """Read until `target` has answered so often in a row; return the clock at the last of those answers.

        Raises:
            RuntimeError: a read failed.
            TimeoutError: `target` does not answer.
        """
        seen = 0
        async with asyncio.timeout(WITHIN_S):
            while True:
                async with self.session.post(
                    f"{self.url}/collections/kb/points/query", json={"query": self.question, "limit": 3}
                ) as answer:
                    text = await answer.text()
                now = time.perf_counter()
                if answer.status != 200:
                    raise RuntimeError(f"a read through {self.url} was answered {answer.status}: {text[:200]}")
                seen = seen + 1 if answer.headers.get(self.header) == target else 0
                if seen == times:
                    return now
                await asyncio.sleep(READ_EVERY_S)


async def switched(reader: Reader, alert: Callable[[], Awaitable[None]]) -> float:
    """Return the seconds from posting the alert to the first answer from the replica."""
    await reader.until("primary", times=20)
    reading = asyncio.create_task(reader.until("replica"))
    try:
        await asyncio.sleep(0.05)
        began = time.perf_counter()
        await alert()
        return await reading - began
    finally:
        reading.cancel()


async def ours(services: Services, reader: Reader) -> float:
    """Measure once, and let the incident come to its own end: the reads are back by then."""
    fingerprints: list[str] = []

    async def alert() -> None:
        labels = {"fault": "vector_database_down", "component": "vector:primary", "target": "primary"}
        posted = await post_alert(reader.session, services, labels, "the primary does not answer")
        fingerprints.append(posted.fingerprint)

    taken = await switched(reader, alert)
    incident = await incident_of(services, fingerprints[0])
    if (state := await _end_of(services, incident.id)) != "recovered":
        raise RuntimeError(f"incident {incident.id} ended {state}, not recovered")
    return taken


async def _end_of(services: Services, incident_id: str) -> str:
    async with asyncio.timeout(WITHIN_S):
        while True:
            view = await incident_view(services, incident_id)
            if view["phases"][-1]["state"] in ("done", "failed"):
                return str(view["incident"]["state"])
            await asyncio.sleep(0.5)


async def peers(reader: Reader) -> float:
    """Measure a peer once, and point it back."""

    async def alert() -> None:
        async with reader.session.post(f"{reader.url}/alert", json={"alerts": [{"status": "firing"}]}) as answer:
            answer.raise_for_status()

    taken = await switched(reader, alert)
    async with reader.session.post(f"{reader.url}/alert/over") as answer:
        answer.raise_for_status()
    return taken


async def protect_knowledge(services: Services, session: aiohttp.ClientSession) -> list[float]:
    """Load a knowledge base through the gateway, back it up, seed the replica; return a question about it."""
    texts = passages(PASSAGES)[:PASSAGES]

    async def call(method: str, path: str, body: object) -> None:
        async with session.request(method, f"{services.addresses.gateway}{path}?wait=true", json=body) as answer:
            answer.raise_for_status()

    await call("PUT", "/collections/passages", {"vectors": {"size": DIMENSION, "distance": "Cosine"}})
    points = [
        {"id": number, "vector": embed(passage.text).tolist(), "payload": asdict(passage)}
        for number, passage in enumerate(texts)
    ]
    await call("PUT", "/collections/passages/points", {"points": points})
    alias = {"create_alias": {"collection_name": "passages", "alias_name": "kb"}}
    await call("POST", "/collections/aliases", {"actions": [alias]})
    await seed_replicas(services, await back_up(services, "kb", target="primary", trigger="benchmark"))
    question: list[float] = embed(texts[0].text).tolist()
    return question


@asynccontextmanager
async def file_proxy(services: Services, name: str, poll_s: float) -> AsyncIterator[str]:
    """Run a peer; yield its URL."""
    port = free_port()
    upstreams = [f"--upstream={target}={url}" for target, url in services.addresses.vector.items()]
    config = services.settings.home / f"{name}.conf"
    arguments = ["-m", "benchmarks.peers.file_proxy", f"--port={port}", f"--config={config}", f"--poll={poll_s}"]
    async with started(services, name, [*arguments, *upstreams]):
        url = f"http://127.0.0.1:{port}"
        await _answers(url)
        yield url


async def _answers(url: str) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(WITHIN_S):
        while True:
            try:
                async with session.get(f"{url}/healthz"):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)


async def measured(services: Services, rounds: int) -> dict[str, list[float]]:
    """Measure everybody in turns; return the seconds of each."""
    found: dict[str, list[float]] = {"reanimate": [], f"proxy polling every {POLL_S:g} s": [], "proxy told at once": []}
    us, polling, told = found
    moments = random.Random(5)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        question = await protect_knowledge(services, session)
        mine = Reader(session, services.addresses.gateway, "X-Reanimate-Target", question)
        theirs = {
            who: Reader(
                session, await stack.enter_async_context(file_proxy(services, name, poll_s)), "X-Upstream", question
            )
            for who, name, poll_s in ((polling, "peer-polling", POLL_S), (told, "peer-told", 0.0))
        }
        await ours(services, mine)  # once, unmeasured
        for number in range(rounds):
            found[us].append(await ours(services, mine))
            for who, reader in theirs.items():
                await asyncio.sleep(moments.uniform(0, POLL_S))  # an alert does not wait for anybody's clock
                found[who].append(await peers(reader))
            progress.print(
                f"round {number + 1} of {rounds}: " + ", ".join(f"{w} {t[-1]:.3f} s" for w, t in found.items())
            )
    return found


async def run(rounds: int) -> Report:
    report = Report("alert-to-switch: alert posted → the first read answered by the replica")
    async with system() as services:
        found = await measured(services, rounds)
    us, polling, _ = found
    for who, times in found.items():
        report.rows.append(Row(who, "reads go elsewhere", "s", tuple(times)))
    for who, times in found.items():
        report.rows.append(Row(who, "reads go elsewhere, p95", "s", (percentile(times, 95),)))
    ratio = statistics.median(found[polling]) / statistics.median(found[us])
    report.rows.append(Row("ratio", "polling proxy / us, medians", "×", (ratio,)))
    report.goals = [Goal("alert until the gateway obeys, p95", percentile(found[us], 95), "s", GOAL_P95_S)]
    return report


def main() -> int:
    given = arguments(__doc__ or "", rounds=20)
    return asyncio.run(run(given.rounds)).show(given.json)


if __name__ == "__main__":
    sys.exit(main())
