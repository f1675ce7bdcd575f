"""Who is alive: each responder holds one session lock in Postgres, which the server drops when the process dies."""

import asyncio
import hashlib
import logging
import os
import socket
from dataclasses import dataclass, field
from secrets import token_hex

import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ["Presence", "count_responders"]

log = logging.getLogger(__name__)

_SPACE = 0x726E  # keeps these locks apart from the incidents' own
_LOOK_S = 1.0


def _lock_number(owner: str) -> int:
    """Return the signed 32-bit number that stands for an owner."""
    return int.from_bytes(hashlib.sha256(owner.encode()).digest()[:4], "big", signed=True)


async def count_responders(session: AsyncSession) -> int:
    """Return how many responders hold their lock now."""
    count = await session.scalar(
        text(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = :space"
            " AND objsubid = 2 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ),
        {"space": _SPACE},
    )
    return int(count or 0)


@dataclass
class Presence:
    """This process, known to the others by `owner` for as long as it lives."""

    database_url: str
    owner: str = field(default_factory=lambda: f"responder:{socket.gethostname()}:{os.getpid()}:{token_hex(4)}")
    held: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while our lock is held, so that others know us to be alive."""
    _connection: psycopg.AsyncConnection | None = None

    async def hold(self) -> None:
        """Hold the lock until cancelled; after a lost connection, take it again as soon as Postgres is back."""
        while True:
            try:
                await self._hold_once()
            except (psycopg.Error, OSError) as error:
                log.warning("presence of %s: the record does not answer (%s); trying again", self.owner, error)
            finally:
                self.held.clear()
                self._connection = None
            await asyncio.sleep(_LOOK_S / 2)

    async def _hold_once(self) -> None:
        plain = self.database_url.replace("postgresql+psycopg://", "postgresql://", 1)
        async with await psycopg.AsyncConnection.connect(
            plain, autocommit=True, connect_timeout=3, keepalives_idle=5, keepalives_interval=2, keepalives_count=3
        ) as connection:
            await connection.execute("SELECT pg_advisory_lock(%s, %s)", (_SPACE, _lock_number(self.owner)))
            self._connection = connection
            self.held.set()
            while True:
                await asyncio.sleep(_LOOK_S)
                await connection.execute("SELECT 1")

    async def is_alive(self, owner: str) -> bool:
        """Say whether the process called `owner` lives. When it cannot be known, it is taken to be alive."""
        if owner == self.owner:
            return True
        if self._connection is None:
            return True
        try:
            found = await self._connection.execute(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"
                " AND classid = %s AND objid = (%s::bigint & 4294967295)::oid AND objsubid = 2"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
                (_SPACE, _lock_number(owner)),
            )
            row = await found.fetchone()
        except (psycopg.Error, OSError) as error:
            log.warning("whether %s lives cannot be known now: %s", owner, error)
            return True
        return bool(row and row[0])
