"""The whole system for a benchmark, as `reanimate up` runs it, and alerts as its watch sends them."""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
from sqlalchemy import select

from benchmarks.stage import ROOT
from reanimate.bootstrap import Services, open_services
from reanimate.db.tables import Alert, Incident
from reanimate.demo.system import running_system

__all__ = ["Posted", "incident_of", "post_alert", "started", "system"]

_WITHIN_S = 30.0


@dataclass(frozen=True)
class Posted:
    """An alert that was taken, and the moment just before it was sent."""

    fingerprint: str
    at: datetime


@asynccontextmanager
async def system() -> AsyncIterator[Services]:
    """Start everything in a temporary home directory, and leave nothing of it behind."""
    with TemporaryDirectory(prefix="reanimate-bench-") as directory:
        async with running_system(Path(directory) / "home", keep=False), open_services() as services:
            yield services


async def post_alert(
    session: aiohttp.ClientSession, services: Services, labels: dict[str, str], summary: str
) -> Posted:
    """Post one alert as our watch would.

    Raises:
        RuntimeError: it was not answered 202.
    """
    fingerprint = f"bench:{uuid.uuid4().hex[:12]}"
    began = datetime.now(UTC)
    event = {
        "specversion": "1.0",
        "id": uuid.uuid4().hex,
        "source": "reanimate/benchmark",
        "type": "reanimate.alert.firing",
        "subject": labels["component"],
        "time": began.isoformat(),
        "data": {
            "fingerprint": fingerprint,
            "starts_at": began.isoformat(),
            "labels": labels,
            "annotations": {"summary": summary},
        },
    }
    headers = {"Authorization": f"Bearer {services.secrets.intake_token}"}
    async with session.post(f"{services.addresses.web}/alerts/cloudevents", json=event, headers=headers) as answer:
        if answer.status != 202:
            raise RuntimeError(f"the alert was answered {answer.status}: {(await answer.text())[:200]}")
    return Posted(fingerprint, began)


async def incident_of(services: Services, fingerprint: str) -> Incident:
    """Return the incident that an alert of ours belongs to, as soon as it does."""
    async with asyncio.timeout(_WITHIN_S):
        while True:
            async with services.sessions() as session:
                found = await session.scalars(
                    select(Incident)
                    .join(Alert, Alert.incident_id == Incident.id)
                    .where(Alert.fingerprint == fingerprint)
                )
                if (incident := found.one_or_none()) is not None:
                    return incident
            await asyncio.sleep(0.2)


@asynccontextmanager
async def started(
    services: Services, name: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> AsyncIterator[None]:
    """Run `python ARGUMENTS` for the block, with a log among the system's own."""
    with (services.settings.home / "logs" / f"{name}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *arguments),
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()
