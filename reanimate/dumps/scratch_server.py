"""A Postgres server to try a dump on: one set aside for it, or a throwaway one that is gone afterwards."""

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from reanimate.backups.scratch import scratch_folder
from reanimate.db.embedded import EmbeddedPostgres
from reanimate.dumps.login import Login

__all__ = ["throwaway_server"]

# It holds a copy that is dropped in a minute: nothing of it needs to survive a power cut.
_QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "max_connections": "30",
}


@asynccontextmanager
async def throwaway_server(scratch: Path, pg_bin: Path | None = None) -> AsyncIterator[Login]:
    """Run an empty server for the block, in a folder below `scratch`, and remove both after it.

    Killed, it leaves no server: it ends with this process. Its folder is swept by the next.

    Raises:
        ConfigInvalid: no Postgres programs, or they do not run here.
        ServerFailed: it did not start.
    """
    async with scratch_folder(scratch, "postgres") as folder:
        password = secrets.token_urlsafe(18)
        server = EmbeddedPostgres(folder / "pg", _free_port(), password, pg_bin, sync=False, settings=_QUICK)
        # In a thread of the loop's pool, which outlives the block: the server ends with the thread that started it.
        await asyncio.to_thread(server.start)
        try:
            yield Login.from_url(server.url("postgres"))
        finally:
            await asyncio.to_thread(server.stop)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
