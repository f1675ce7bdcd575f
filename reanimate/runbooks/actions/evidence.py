"""Gathering what a person will want to see first, without touching anything."""

import json
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from reanimate.db.tables import Alert
from reanimate.runbooks.action import Action, ActionContext, NoParams
from reanimate.runbooks.look import look
from reanimate.switches.gateways import gateway_figures

__all__ = ["GatherEvidence"]

_RECENT = timedelta(minutes=15)


def _recent_deaths(home: Path, since: str) -> list[dict[str, Any]]:
    """Return what the supervisor wrote about processes that died since a moment (ISO 8601)."""
    journal = home / "run" / "processes.jsonl"
    if not journal.exists():
        return []
    lines = (json.loads(line) for line in journal.read_text().splitlines()[-500:] if line.strip())
    return [line for line in lines if line.get("event") == "died" and str(line.get("at", "")) >= since][-20:]


class GatherEvidence(Action[NoParams]):
    """Look at every target, gateway, process and recent alert, and write it all down."""

    name = "gather_evidence"
    time_limit_s = 60.0

    async def act(self, context: ActionContext[NoParams]) -> dict[str, Any]:
        since = context.incident.opened_at - _RECENT
        async with context.services.sessions() as session:
            alerts = await session.scalars(
                select(Alert).where(Alert.received_at >= since).order_by(Alert.received_at.desc()).limit(20)
            )
            seen = [
                {"source": a.source, "status": a.status, "labels": a.labels, "at": a.starts_at.isoformat()}
                for a in alerts
            ]
        return {
            "targets": [asdict(probe) for probe in await look(context.services)],
            "gateways": await gateway_figures(context.services, since),
            "processes_died": _recent_deaths(context.services.settings.home, since.isoformat()),
            "alerts": seen,
        }
