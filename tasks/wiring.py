"""The only door from tasks into the library: one set of services for this process, opened when first asked for."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from reanimate.bootstrap import Services, open_services

__all__ = ["get_services", "override_services", "services_open"]


@dataclass
class _Opened:
    """The services of one event loop; a flow run of a worker has one loop and dies with it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    services: Services | None = None


_opened: WeakKeyDictionary[asyncio.AbstractEventLoop, _Opened] = WeakKeyDictionary()
_override: list[Services] = []


async def get_services() -> Services:
    """Return the services, opening them at the first call.

    Raises:
        NotFound: the system was never started in this home directory.
        ConfigInvalid: settings or secrets are not usable.
    """
    if _override:
        return _override[-1]
    opened = _opened.setdefault(asyncio.get_running_loop(), _Opened())
    async with opened.lock:
        if opened.services is None:
            opened.services = await opened.stack.enter_async_context(open_services())
        return opened.services


@asynccontextmanager
async def services_open() -> AsyncIterator[Services]:
    """Open the services for the block, for a process that lives longer than one flow run, and close them after it."""
    loop = asyncio.get_running_loop()
    try:
        yield await get_services()
    finally:
        if opened := _opened.pop(loop, None):
            await opened.stack.aclose()


@contextmanager
def override_services(services: Services) -> Iterator[None]:
    """Make `get_services` return these for the block: how tests put their own in."""
    _override.append(services)
    try:
        yield
    finally:
        _override.remove(services)
