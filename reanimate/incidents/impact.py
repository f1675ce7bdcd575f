"""What the agent's traffic went through, as the gateways counted it."""

import asyncio
from datetime import datetime
from typing import Any

import httpx

from reanimate.bootstrap import Services

__all__ = ["gateway_figures"]


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

    urls = {services.settings.gateway.name: services.addresses.gateway_control}
    return dict(zip(urls, await asyncio.gather(*(ask(url) for url in urls.values())), strict=True))

