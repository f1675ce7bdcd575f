"""When the next scheduled backup of each kind is due, by the schedules that Prefect really has."""

import asyncio
from datetime import datetime

from reanimate.errors import ReanimateError
from reanimate.orchestrator.launcher import Launcher
from reanimate.protection.schedules import Schedule

__all__ = ["next_backups"]

_BY_DEPLOYMENT = {
    "night/everything": ("vector", "postgres", "config"),
    "backup/collections": ("vector",),
    "keep-config/versions": ("config",),
}
"""Which kinds of backups a deployment (flow/deployment) takes."""


async def next_backups(launcher: Launcher, now: datetime) -> dict[str, datetime]:
    """Return, by kind of backup, when the next one is due; without what Prefect does not tell now."""
    found: dict[str, datetime] = {}
    for kinds, due in await asyncio.gather(*(_next_of(launcher, name, now) for name in _BY_DEPLOYMENT)):
        if due is not None:
            found |= {kind: min(due, found.get(kind, due)) for kind in kinds}
    return found


async def _next_of(launcher: Launcher, deployment: str, now: datetime) -> tuple[tuple[str, ...], datetime | None]:
    try:
        crons = await launcher.active_crons(deployment)
        slots = [Schedule(name=slug, cron=cron, zone=zone).slot_after(now) for slug, cron, zone in crons]
    except (ReanimateError, ValueError, KeyError):  # away, not deployed, or a schedule that somebody made by hand
        return _BY_DEPLOYMENT[deployment], None
    return _BY_DEPLOYMENT[deployment], min(slots, default=None)
