"""The one place that puts the real parts together: settings in, services out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from reanimate.addresses import Addresses
from reanimate.backups.catalog import Catalog
from reanimate.backups.repositories import Repository, open_repositories
from reanimate.config import Settings, load_settings
from reanimate.db.engine import engine_for, sessions_of
from reanimate.db.url import record_url
from reanimate.errors import ConfigInvalid
from reanimate.secrets import Secrets
from reanimate.vector.server import VectorServer

__all__ = ["Services", "open_services"]


@dataclass(frozen=True)
class Services:
    """What the use cases need. One per process."""

    settings: Settings
    addresses: Addresses
    secrets: Secrets
    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    http: httpx.AsyncClient
    """For control and probes, never for the agent's traffic."""
    repositories: dict[str, Repository]
    """By name; the first is the one that backups are taken into."""

    @property
    def catalog(self) -> Catalog:
        """The catalog of the first repository."""
        return next(iter(self.repositories.values())).catalog

    @property
    def database_url(self) -> str:
        """The record's URL with its password; for LISTEN connections, never for logs."""
        return record_url(self.settings, self.addresses, self.secrets)

    def vector(self, target: str) -> VectorServer:
        """Return the client of a vector target.

        Raises:
            ConfigInvalid: no target has that name, or none runs under it yet.
        """
        configured = self.settings.vector.target(target)
        key = configured.api_key.get_secret_value() if configured.api_key else None
        url = self.addresses.vector.get(target) or configured.url
        if url is None:
            raise ConfigInvalid(
                f"the vector target {target!r} is in the settings and has no address: it came after the last start",
                hint="`reanimate down`, then `reanimate up`",
            )
        if configured.role == "offline" and configured.url is None:
            return VectorServer(target, url, self.secrets.control_key, self.http, reads_files=True)
        return VectorServer(target, url, key, self.http, configured.peers)


@asynccontextmanager
async def open_services(settings: Settings | None = None) -> AsyncIterator[Services]:
    """Open the services of a running system and close them afterwards.

    Nothing is connected yet: the database, for one, is first asked when a session is used.

    Raises:
        NotFound: the system was never started in this home directory.
        ConfigInvalid: settings or secrets are not usable.
    """
    settings = settings or load_settings()
    addresses = Addresses.load(settings.home)
    secrets = Secrets.load_or_create(settings.home)
    engine = engine_for(record_url(settings, addresses, secrets))
    try:
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=50), timeout=5.0, trust_env=False) as http:
            yield Services(
                settings=settings,
                addresses=addresses,
                secrets=secrets,
                engine=engine,
                sessions=sessions_of(engine),
                http=http,
                repositories=open_repositories(settings),
            )
    finally:
        await engine.dispose()
