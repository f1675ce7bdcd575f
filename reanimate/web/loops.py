"""Background work of the web process: each loop by itself, so that the failure of one stops neither it nor another."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

__all__ = ["Loop", "running"]

log = logging.getLogger(__name__)

_PAUSE_S = 1.0
_LEAVE_S = 3.0

Loop = Callable[[], Awaitable[None]]
"""Something that runs until it is cancelled."""


@asynccontextmanager
async def running(loops: Mapping[str, Loop], on_failure: Callable[[str], None]) -> AsyncIterator[None]:
    """Keep every loop running while the context is open; `on_failure` is told the name of one that fell over."""
    tasks = [asyncio.create_task(_keep(name, loop, on_failure), name=name) for name, loop in loops.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_LEAVE_S)
            for task in late:
                log.warning("the loop %s did not end within %g s", task.get_name(), _LEAVE_S)


async def _keep(name: str, loop: Loop, on_failure: Callable[[str], None]) -> None:
    while True:
        try:
            await loop()
            log.warning("the loop %s ended by itself and is started again", name)
        except Exception:  # whatever it was, the work must go on: it is counted, logged and begun anew
            log.exception("the loop %s failed and is started again", name)
        on_failure(name)
        await asyncio.sleep(_PAUSE_S)
