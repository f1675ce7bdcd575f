"""The config history of an installation: its settings say what is kept, its first repository keeps it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from reanimate.addresses import Addresses
from reanimate.backups.repositories import open_repositories
from reanimate.bootstrap import Services
from reanimate.config import Settings
from reanimate.config_history.keeping import ConfigHistory
from reanimate.errors import NotFound
from reanimate.vector.server import VectorServer

__all__ = ["history_of", "open_history"]

_ROLES = ("primary", "replica")
"""An offline standby or a scratch server is ours, and has no settings of anybody's."""


def history_of(services: Services) -> ConfigHistory:
    """Return the history of running services."""
    names = [target.name for target in services.settings.vector.targets if target.role in _ROLES]
    servers = [services.vector(name) for name in names if name in services.addresses.vector]
    return ConfigHistory.of(
        services.settings, services.catalog, servers if services.settings.configuration.qdrant else []
    )


@asynccontextmanager
async def open_history(settings: Settings) -> AsyncIterator[ConfigHistory]:
    """Open the history without a running system: a configuration is mended also while nothing starts because of it.

    Raises:
        ConfigInvalid: the repository cannot be opened.
    """
    try:
        urls = (await asyncio.to_thread(Addresses.load, settings.home)).vector
    except NotFound:
        urls = {}
    async with httpx.AsyncClient(timeout=5.0, trust_env=False) as http:
        servers = []
        for target in settings.vector.targets if settings.configuration.qdrant else ():
            url = target.url or urls.get(target.name)
            if url and target.role in _ROLES:
                key = target.api_key.get_secret_value() if target.api_key else None
                servers.append(VectorServer(target.name, url, key, http))
        repositories = await asyncio.to_thread(open_repositories, settings)
        yield ConfigHistory.of(settings, next(iter(repositories.values())).catalog, servers)
