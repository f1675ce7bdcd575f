"""Our own database server alone, for work on the record while the rest of the system is down."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from reanimate.addresses import Addresses
from reanimate.config import Settings
from reanimate.db.embedded import EmbeddedPostgres
from reanimate.secrets import Secrets
from reanimate.supervisor.lock import HomeLock, holder, wait_for_keeper

__all__ = ["record_alone"]


@asynccontextmanager
async def record_alone(settings: Settings) -> AsyncIterator[bool]:
    """Run our own database server for the block, where it always listens, unless it runs or the record is elsewhere.

    Gives whether it was started for the block. `reanimate up` cannot start meanwhile.

    Raises:
        NotFound: the system was never started in this home directory.
        ReanimateError: as `EmbeddedPostgres.start`.
    """
    addresses = Addresses.load(settings.home)
    if settings.database.url is not None or holder(settings.home) is not None:
        yield False
        return
    with HomeLock(settings.home):
        await asyncio.to_thread(wait_for_keeper, settings.home)
        server = EmbeddedPostgres(
            settings.home / "postgres",
            urlsplit(addresses.database).port or settings.database.port,
            Secrets.load_or_create(settings.home).postgres_password,
            settings.database.pg_bin,
        )
        await asyncio.to_thread(server.stop_orphan)
        # In a thread of the loop's pool, which outlives the block: the server ends with the thread that started it.
        await asyncio.to_thread(server.start)
        try:
            yield True
        finally:
            await asyncio.to_thread(server.stop)
