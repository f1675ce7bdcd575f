"""Vector servers shared by the tests here, and clean names on them."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from obstore.store import LocalStore
from qdrant_servers import CleanServer, server_at, start_servers
from rich_database import Databases
from sweep_count import SWEEPS

from reanimate.backups.catalog import Catalog
from reanimate.backups.keyring import Keyring
from reanimate.config import BackupSettings
from reanimate.db.embedded import EmbeddedPostgres
from reanimate.dumps.login import Login
from reanimate.dumps.programs import Programs, find_programs


@pytest.fixture(scope="session")
async def vector_urls(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> AsyncIterator[list[str]]:
    """URLs of a primary and a replica; with QDRANT_URL both are that server."""
    home = tmp_path_factory.mktemp("vectors")
    async with start_servers(home, free_port(), free_port()) as urls:
        yield urls


@pytest.fixture(scope="session")
async def vector_http() -> AsyncIterator[httpx.AsyncClient]:
    """The HTTP client of vector tests."""
    async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http:
        yield http


@pytest.fixture
async def primary(vector_urls: list[str], vector_http: httpx.AsyncClient) -> AsyncIterator[CleanServer]:
    """The primary, with names of this test's own that are removed afterwards."""
    clean = CleanServer(server_at(vector_urls[0], vector_http))
    yield clean
    await clean.clean()


@pytest.fixture
async def replica(vector_urls: list[str], vector_http: httpx.AsyncClient) -> AsyncIterator[CleanServer]:
    """The replica, likewise."""
    clean = CleanServer(server_at(vector_urls[1], vector_http, "replica"))
    yield clean
    await clean.clean()


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """An empty catalog in a folder."""
    keyring = Keyring.load_or_create(tmp_path, BackupSettings())
    return Catalog(LocalStore(prefix=tmp_path / "blobs", mkdir=True), tmp_path / "scratch", keyring)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell what the corruption sweep counted."""
    for sweep in config.stash.get(SWEEPS, []):
        if sweep.tried:
            terminalreporter.write_line(sweep.told)


@pytest.fixture(scope="session")
async def programs() -> list[Programs]:
    """The pg_dump and pg_restore that are installed here."""
    return await find_programs()


@pytest.fixture(scope="module")
async def databases(postgres: EmbeddedPostgres) -> AsyncIterator[Databases]:
    """Databases of this module on the shared server, dropped afterwards with all that restores made of them."""
    made = Databases(Login.from_url(postgres.url("postgres")))
    yield made
    await made.clean()


@pytest.fixture
async def small(databases: Databases) -> Login:
    """A database of this test's own with one table of 1000 rows."""
    return await databases.small()
