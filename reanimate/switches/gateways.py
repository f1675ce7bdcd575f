"""The gateways we know: where their control ports are, and what they counted of the agent's traffic."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import httpx
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.db.tables import Gateway

__all__ = ["acknowledged_writes", "control_urls", "gateway_figures"]

_ALIVE_FOR = timedelta(seconds=15)
"""A gateway asks for its switches every 2 s; one not heard of for this long is not asked or waited for."""


async def control_urls(services: Services) -> dict[str, str]:
    """Return name → control URL of the gateway configured here and of every other one heard of lately.

    While the record is away, only the configured one is known.
    """
    urls = {services.settings.gateway.name: services.addresses.gateway_control}
    try:
        async with services.sessions() as session:
            for gateway in await session.scalars(select(Gateway).where(Gateway.last_seen_at > utcnow() - _ALIVE_FOR)):
                urls[gateway.name] = gateway.control_url
    except DBAPIError:
        return urls
    return urls


async def gateway_figures(services: Services, since: datetime) -> dict[str, dict[str, Any]]:
    """Return each gateway's figures since a moment (at most an hour back), by name.

    A gateway that does not answer is there with `{"error": …}`: a missing figure is said, never guessed.
    """

    async def ask(url: str) -> dict[str, Any]:
        try:
            answer = await services.http.get(
                f"{url}/figures",
                params={"since": since.isoformat()},
                headers={"authorization": f"Bearer {services.secrets.control_key}"},
                timeout=1.0,
            )
            answer.raise_for_status()
            figures: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            return {"error": f"{type(error).__name__}: {error}"}
        return figures

    urls = await control_urls(services)
    return dict(zip(urls, await asyncio.gather(*(ask(url) for url in urls.values())), strict=True))


async def acknowledged_writes(services: Services) -> dict[str, int] | None:
    """Add up the writes that the gateways have acknowledged, by collection; None unless every one of them says."""
    totals: dict[str, int] = {}
    for figures in (await gateway_figures(services, utcnow())).values():
        if "totals" not in figures:
            return None
        for name, count in figures["totals"]["writes_acknowledged"].items():
            totals[name] = totals.get(name, 0) + int(count)
    return totals
