"""Who is alive, by locks of a real Postgres."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.db.engine import engine_for
from reanimate.orchestrator.presence import Presence, count_responders


@asynccontextmanager
async def alive(url: str) -> AsyncIterator[Presence]:
    presence = Presence(url)
    task = asyncio.create_task(presence.hold())
    try:
        async with asyncio.timeout(20):
            await presence.held.wait()
        yield presence
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(look: Callable[[], bool], within_s: float = 20.0) -> None:
    for _ in range(int(within_s / 0.02)):
        if look():
            return
        await asyncio.sleep(0.02)
    raise TimeoutError(f"not within {within_s:g} s")


async def test_presence__one_that_holds_its_lock_is_alive_and_one_that_ended_is_not(postgres_url: str) -> None:
    """The server itself says who lives: a process that died holds no lock."""
    async with alive(postgres_url) as mine:
        async with alive(postgres_url) as other:
            assert await mine.is_alive(other.owner)
            assert await other.is_alive(mine.owner)
        for _ in range(100):  # the server notices a closed connection in its own time
            if not await mine.is_alive(other.owner):
                break
            await asyncio.sleep(0.05)
        assert not await mine.is_alive(other.owner)
        assert not await mine.is_alive("responder:never:0:lived")


async def test_presence__comes_back_after_its_connection_broke(postgres_url: str) -> None:
    """After a restart of Postgres the lock is taken again; meanwhile nobody is declared dead by one who cannot know."""
    async with alive(postgres_url) as mine, alive(postgres_url) as other:
        async with await psycopg.AsyncConnection.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as sql:
            await sql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        assert await mine.is_alive(other.owner), "not known is not dead"
        await until(lambda: not mine.held.is_set() and not other.held.is_set())
        await until(lambda: mine.held.is_set() and other.held.is_set())
        assert await mine.is_alive(other.owner)


async def test_count_responders__counts_those_that_live(postgres_url: str) -> None:
    """Whoever holds a presence is counted, and no other lock is."""
    engine = engine_for(postgres_url)
    async with AsyncSession(engine) as session:
        assert await count_responders(session) == 0
        async with alive(postgres_url), alive(postgres_url):
            await session.execute(text("SELECT pg_advisory_xact_lock(1, 2), pg_advisory_xact_lock(3)"))
            assert await count_responders(session) == 2
    await engine.dispose()
