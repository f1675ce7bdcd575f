"""What `reanimate status` looks at: whether each part answers now, and what is open in the record."""

import asyncio
from dataclasses import asdict
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from reanimate.addresses import Addresses
from reanimate.clock import utcnow
from reanimate.config import Settings
from reanimate.db.engine import engine_for
from reanimate.db.tables import Gateway, Hold, Incident
from reanimate.db.url import record_url
from reanimate.errors import ReanimateError
from reanimate.incidents.lifecycle import OPEN_STATES
from reanimate.secrets import Secrets
from reanimate.supervisor.health import healthy
from reanimate.supervisor.journal import PartState, SystemState
from reanimate.supervisor.part import ProcessSpec
from reanimate.supervisor.processes import system_parts

__all__ = ["look_at_parts", "look_at_record"]

_ANSWER_WITHIN_S = 3.0


async def look_at_parts(settings: Settings, system: SystemState) -> list[dict[str, Any]]:
    """Return each part with its state, its restarts, where it is, and `healthy`: None when it has nothing to ask."""
    addresses, secrets = Addresses.load(settings.home), Secrets.load_or_create(settings.home)
    specs = {part.name: part for part in system_parts(settings, addresses, secrets) if isinstance(part, ProcessSpec)}

    async def look(part: PartState) -> dict[str, Any]:
        spec = specs.get(part.name)
        answers = await _answers(spec.health) if spec and spec.health and part.state != "waiting" else None
        return {**asdict(part), "url": spec.url if spec else "", "healthy": answers}

    return list(await asyncio.gather(*(look(part) for part in system.parts)))


async def _answers(health: str) -> bool:
    try:
        return await healthy(health)
    except ReanimateError:
        return False


async def look_at_record(settings: Settings) -> dict[str, Any]:
    """Return open incidents, open holds and known gateways, or `error` when the database does not answer."""
    addresses, secrets = Addresses.load(settings.home), Secrets.load_or_create(settings.home)
    engine = engine_for(record_url(settings, addresses, secrets), pool_size=1)
    try:
        async with asyncio.timeout(_ANSWER_WITHIN_S), engine.connect() as connection:
            return await _read(connection)
    except TimeoutError:
        return {"error": f"no answer within {_ANSWER_WITHIN_S:.0f} s"}
    except (SQLAlchemyError, OSError) as error:
        return {"error": str(error).strip().splitlines()[0]}
    finally:
        await engine.dispose()


async def _read(connection: AsyncConnection) -> dict[str, Any]:
    incidents = await connection.execute(
        select(Incident.id, Incident.title, Incident.state, Incident.severity, Incident.opened_at)
        .where(Incident.state.in_(OPEN_STATES))
        .order_by(Incident.opened_at)
    )
    holds = await connection.execute(
        select(Hold.switch, Hold.scope, Hold.value, Hold.cause, Hold.reason, Hold.placed_at)
        .where(Hold.lifted_at.is_(None))
        .order_by(Hold.id)
    )
    gateways = await connection.execute(
        select(Gateway.name, Gateway.control_url, Gateway.last_seen_at, Gateway.acked_seq)
    )
    now = utcnow()
    return {
        "incidents": [dict(row) for row in incidents.mappings()],
        "holds": [dict(row) for row in holds.mappings()],
        "gateways": [{**row, "silent_s": (now - row["last_seen_at"]).total_seconds()} for row in gateways.mappings()],
    }
