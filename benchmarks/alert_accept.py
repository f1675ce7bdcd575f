"""How long a sender waits until its alert is durably stored, at 100 alerts a second.

Posted at fixed moments, whether or not earlier posts were answered, and timed from those moments: a slow answer
cannot hide by slowing the sender. Goal: p99 ≤ 50 ms, and afterwards a row for every post.
"""

import asyncio
import sys
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import aiohttp
import psycopg
from rich.console import Console

from benchmarks.report import Goal, Report, Row, arguments, percentile
from benchmarks.stage import Stage, free_port, stage

__all__ = ["main"]

PER_SECOND = 100
GOAL_P99_MS = 50.0
SETTLED_WITHIN_S = 60.0
progress = Console(stderr=True)


def notification(number: int, run: str) -> dict[str, Any]:
    """Return one Alertmanager notification of a storm: one dependency is down, and each of its users complains."""
    labels = {
        "alertname": "VectorStoreErrors",
        "component": "vector:primary",
        "instance": f"app-{number}:8080",
        "run": run,
    }
    return {
        "version": "4",
        "groupKey": f'{{}}:{{instance="app-{number}:8080",run="{run}"}}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "reanimate",
        "groupLabels": {"instance": labels["instance"]},
        "commonLabels": labels,
        "commonAnnotations": {"summary": "half of the searches fail"},
        "externalURL": "http://alertmanager.example:9093",
        "alerts": [
            {
                "status": "firing",
                "labels": labels,
                "annotations": {"summary": "half of the searches fail"},
                "startsAt": datetime.now(UTC).isoformat(),
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prometheus.example:9090/graph",
                "fingerprint": uuid.uuid4().hex[:16],
            }
        ],
    }


async def post_steadily(url: str, token: str, run: str, seconds: float) -> list[float]:
    """Post at a steady rate and return, per post, the milliseconds from its moment to its answer.

    Raises:
        RuntimeError: an answer was not 202.
    """
    taken: list[float] = []

    async def post(session: aiohttp.ClientSession, number: int, due: float) -> None:
        await asyncio.sleep(due - time.monotonic())
        async with session.post(url, json=notification(number, run)) as answer:
            text = await answer.text()
        if answer.status != 202:
            raise RuntimeError(f"post {number} was answered {answer.status}: {text[:200]}")
        taken.append((time.monotonic() - due) * 1000)

    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:
        begin = time.monotonic() + 0.1
        await asyncio.gather(
            *(post(session, number, begin + number / PER_SECOND) for number in range(int(PER_SECOND * seconds)))
        )
    return taken


async def missing_rows(stage: Stage, table: str, expected: int) -> int:
    """Return how many rows are lacking once no more come: what could not be stored at once may have been spooled."""
    found, deadline = rows_in(stage, table), time.monotonic() + SETTLED_WITHIN_S
    while found < expected and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        found = rows_in(stage, table)
    return expected - found


def rows_in(stage: Stage, table: str) -> int:
    with psycopg.connect(stage.record_url) as connection:
        found = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    return int(found[0]) if found else 0


async def measured(stage: Stage, who: str, rounds: int, seconds: float) -> list[Row]:
    """Start one candidate, warm it up, measure it, and end it."""
    peer_port = free_port()
    ours = who == "reanimate"
    base = stage.addresses.web if ours else f"http://127.0.0.1:{peer_port}"
    table = "deliveries" if ours else "plain_alerts"
    peer = ["-m", "uvicorn", "benchmarks.peers.plain_intake:app", "--port", str(peer_port), "--log-level", "warning"]
    process = stage.start(
        ["-m", "reanimate.web"] if ours else peer,
        {"DATABASE_URL": stage.record_url, "INTAKE_TOKEN": stage.secrets.intake_token} if not ours else {},
    )
    await stage.ready(f"{base}/healthz")
    url, token = f"{base}/alerts/alertmanager", stage.secrets.intake_token
    await post_steadily(url, token, f"{who}-warm", 2)
    p50s, p99s, lost = [], [], []
    for number in range(rounds):
        before = rows_in(stage, table)
        progress.print(f"{who}: round {number + 1} of {rounds}, {PER_SECOND}/s for {seconds:g} s")
        taken = await post_steadily(url, token, f"{who}-{number}", seconds)
        p50s.append(percentile(taken, 50))
        p99s.append(percentile(taken, 99))
        lost.append(float(await missing_rows(stage, table, before + len(taken))))
    stage.end(process)
    return [
        Row(who, "accepted, p50", "ms", tuple(p50s)),
        Row(who, "accepted, p99", "ms", tuple(p99s)),
        Row(who, "202, but no row", "alerts", tuple(lost)),
    ]


async def run(rounds: int, seconds: float) -> Report:
    report = Report(f"alert-accept: {PER_SECOND} alerts/s for {seconds:g} s, until the 202")
    async with stage() as built:
        for who in ("reanimate", "FastAPI + psycopg"):
            report.rows += await measured(built, who, rounds, seconds)
    p99, lost = report.rows[1], report.rows[2]
    report.goals = [
        Goal("alert accepted, p99", p99.median, "ms", GOAL_P99_MS),
        Goal("alerts answered 202 and not stored", max(lost.values), "alerts", 0),
    ]
    return report


def main() -> int:
    given = arguments(__doc__ or "", rounds=3, seconds=20.0)
    return asyncio.run(run(given.rounds, given.seconds)).show(given.json)


if __name__ == "__main__":
    sys.exit(main())
