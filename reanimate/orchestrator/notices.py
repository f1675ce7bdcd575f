"""Sending notices to the people configured, through Apprise: each receiver once, and again until it arrives."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import update

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.db.tables import Outbox
from reanimate.errors import ServerFailed
from reanimate.incidents import timeline
from reanimate.orchestrator.outbox import Order, finish

__all__ = ["ATTEMPTS", "TIMEOUT_S", "send", "send_one"]

ATTEMPTS = 12
"""After so many tries, half an hour with the pauses between them, a notice is dead: kept, with its error."""

TIMEOUT_S = 15.0
"""How long one receiver may take."""

SendOne = Callable[[str, str, str], bool]


def send_one(url: str, title: str, body: str) -> bool:
    """Send to one Apprise URL and say whether it was taken. Blocks."""
    import apprise  # half a second, and most processes that carry the outbox never send

    sender = apprise.Apprise()
    return bool(sender.add(url)) and bool(sender.notify(title=title, body=body))


async def send(services: Services, order: Order, *, deliver: SendOne = send_one) -> None:
    """Carry out a `notify` order: its payload has `title`, `body` and, after a first try, who has it already.

    Raises:
        ServerFailed: some receiver did not take it; those who did will not get it twice.
    """
    urls = [url.get_secret_value() for url in services.settings.notify.urls]
    if not urls:
        story = f"{order.payload['title']}: nobody is configured to be told"
        await _conclude(services, order, "notice.failed", story, note="nobody configured")
        return
    reached: list[str] = list(order.payload.get("reached", ()))
    missing = [url for url in urls if _mark(url) not in reached]
    problems = []
    for url in missing:
        problem = await _try(deliver, url, order.payload)
        if problem is None:
            reached.append(_mark(url))
        else:
            problems.append(problem)
    if not problems:
        await _conclude(services, order, "notice.sent", f"{order.payload['title']}: {len(urls)} told")
        return
    await _remember(services, order, reached)
    story = f"{len(problems)} of {len(urls)} receivers not reached: {'; '.join(problems)}"
    if order.attempts >= ATTEMPTS:
        await _note(services, order, "notice.failed", f"{order.payload['title']}: given up, {story}")
    raise ServerFailed(story)


async def _try(deliver: SendOne, url: str, payload: Mapping[str, Any]) -> str | None:
    """Return what went wrong with one receiver, without its URL, which is a secret; None when it has the notice."""
    scheme = url.partition(":")[0]
    try:
        async with asyncio.timeout(TIMEOUT_S):
            taken = await asyncio.to_thread(deliver, url, payload["title"], payload["body"])
    except TimeoutError:
        return f"{scheme} did not answer within {TIMEOUT_S:g} s"
    return None if taken else f"{scheme} did not take it"


def _mark(url: str) -> str:
    """Return what stands for a receiver in the record: its URL may hold a password."""
    return hashlib.sha256(url.encode()).hexdigest()[:12]


async def _remember(services: Services, order: Order, reached: Sequence[str]) -> None:
    payload = {**order.payload, "reached": list(reached)}
    async with services.sessions.begin() as session:
        await session.execute(update(Outbox).where(Outbox.id == order.id).values(payload=payload))


async def _conclude(services: Services, order: Order, kind: str, story: str, *, note: str | None = None) -> None:
    now = utcnow()
    async with services.sessions.begin() as session:
        await finish(session, order, now=now, note=note)
        if order.incident_id:
            await timeline.append(session, order.incident_id, kind, story, actor="relay", now=now)


async def _note(services: Services, order: Order, kind: str, message: str) -> None:
    if order.incident_id:
        async with services.sessions.begin() as session:
            await timeline.append(session, order.incident_id, kind, message, actor="relay", now=utcnow())
