"""How LLM calls are answered now, on each gateway, and who holds what."""

from datetime import timedelta
from typing import Any

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.switches import holds
from reanimate.switches.gateways import gateway_figures

__all__ = ["llm_status"]

_LATELY = timedelta(seconds=60)


async def llm_status(services: Services) -> dict[str, Any]:
    """Return the holds of the record and what each gateway says of itself for the last minute."""
    async with services.sessions() as session:
        found = [hold for hold in await holds.open_holds(session) if hold.switch.startswith("llm_")]
    figures = await gateway_figures(services, utcnow() - _LATELY)
    fields = ("switch", "scope", "value", "cause", "incident_id", "reason", "placed_at")
    return {
        "holds": [{name: getattr(hold, name) for name in fields} for hold in found],
        "gateways": {
            name: {"error": said["error"]} if "error" in said else said.get("llm") for name, said in figures.items()
        },
    }
