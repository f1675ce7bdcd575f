"""LISTEN on Postgres channels. A notification is a hint to look now; whoever listens also sweeps, so none is needed."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import psycopg
from psycopg import sql

__all__ = ["listen"]

log = logging.getLogger(__name__)


async def listen(url: str, channels: Sequence[str], *, tick_s: float = 1.0) -> AsyncIterator[tuple[str, str]]:
    """Yield (channel, payload) as notifications arrive, and ("", "") at least every `tick_s` seconds.

    The empty pair lets the caller sweep for what was missed. A lost connection is opened again for as long as the
    caller iterates; while it is away the empty pairs go on.
    """
    plain = url.replace("postgresql+psycopg://", "postgresql://", 1)
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(plain, autocommit=True, connect_timeout=3) as connection:
                for channel in channels:
                    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                yield "", ""
                while True:
                    seen = False
                    async for notice in connection.notifies(timeout=tick_s, stop_after=1):
                        seen = True
                        yield notice.channel, notice.payload
                    if not seen:
                        yield "", ""
        except psycopg.Error as error:
            log.warning("listening on %s: connection lost (%s); trying again", ", ".join(channels), error)
            yield "", ""
            await asyncio.sleep(tick_s)
