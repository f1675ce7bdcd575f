"""Asking again and again beside something else, at fixed moments, answered or not."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp

__all__ = ["asking_every"]


@asynccontextmanager
async def asking_every(
    seconds: float, ask: Callable[[aiohttp.ClientSession], Awaitable[None]], *, patience_s: float
) -> AsyncIterator[None]:
    """Call `ask` every so many seconds while the block lasts; on leaving, wait for those still underway.

    A request that takes longer than `patience_s` ends with TimeoutError within `ask`.
    """
    stop = asyncio.Event()
    loop = asyncio.create_task(_ask_until(stop, seconds, ask, patience_s))
    try:
        yield
    finally:
        stop.set()
        await loop


async def _ask_until(
    stop: asyncio.Event, seconds: float, ask: Callable[[aiohttp.ClientSession], Awaitable[None]], patience_s: float
) -> None:
    timeout = aiohttp.ClientTimeout(total=patience_s)
    async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as underway:

        async def one() -> None:
            await ask(session)

        due = time.monotonic()
        while not stop.is_set():
            underway.create_task(one())
            due += seconds
            await asyncio.sleep(max(0.0, due - time.monotonic()))
