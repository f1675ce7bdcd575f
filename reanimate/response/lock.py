"""One driver at a time: an advisory lock in Postgres for each incident, gone with the process that held it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from reanimate.errors import Busy

__all__ = ["driving"]


@asynccontextmanager
async def driving(engine: AsyncEngine, incident_id: str, *, within_s: float = 600.0) -> AsyncIterator[None]:
    """Hold the incident's lock for the block; wait for another driver for at most `within_s` seconds.

    Raises:
        Busy: another driver still holds it.
    """
    deadline = time.monotonic() + within_s
    async with engine.connect() as connection:
        connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
        while not await connection.scalar(
            text("SELECT pg_try_advisory_lock(hashtextextended(:key, 7))"), {"key": incident_id}
        ):
            if time.monotonic() > deadline:
                raise Busy(f"incident {incident_id} has been driven by another process for {within_s:.0f} s")
            await asyncio.sleep(0.1)
        try:
            yield
        finally:
            # Closing for good, not returning to the pool, lets the lock go even when this statement cannot be sent.
            await connection.invalidate()
