"""The whole system for a benchmark, as `reanimate up` runs it, and alerts as its watch sends them."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from reanimate.bootstrap import Services, open_services
from reanimate.demo.system import running_system

__all__ = ["post_alert", "system"]


@asynccontextmanager
async def system() -> AsyncIterator[Services]:
    """Start everything in a temporary home directory, and leave nothing of it behind."""
    with TemporaryDirectory(prefix="reanimate-bench-") as directory:
        async with running_system(Path(directory) / "home", keep=False), open_services() as services:
            yield services


async def post_alert(
    session: aiohttp.ClientSession, services: Services, labels: dict[str, str], summary: str
) -> tuple[str, datetime]:
    """Post one alert as our watch would; return its fingerprint and the moment just before it was sent.

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
    return fingerprint, began
