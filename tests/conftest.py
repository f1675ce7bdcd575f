"""Shared fixtures: real servers, each started once and quick."""

import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import free_ports as ports
import psycopg
import pytest

from reanimate.db.embedded import EmbeddedPostgres, create_database
from reanimate.db.migrate import migrate

# A stray setting of the person who runs the tests must not reach them.
for _name in [name for name in os.environ if name.startswith(("REANIMATE_", "PREFECT_", "PG"))]:
    del os.environ[_name]
os.environ.pop("DATABASE_URL", None)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

_TEMPLATE = "migrated"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Try a test of a time limit again, twice: another process may have had the processor at the wrong moment."""
    for item in items:
        if item.get_closest_marker("timed"):
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=1))


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """A function that returns a port on which nobody listens now."""
    return ports.free_port


@pytest.fixture(scope="session")
def need_program() -> Callable[..., str]:
    """A function that returns the path of the first of some programs that is installed.

    Where none is, the test is skipped; with CI=true it fails, because there a missing part is a failure.
    """

    def find(*names: str) -> str:
        for name in names:
            if path := shutil.which(name):
                return path
        missing = f"{' or '.join(names)} is not installed; `scripts/test` installs it as root"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)

    return find


def _server(directory: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(
        directory / "pg", ports.free_port(), secrets.token_urlsafe(12), sync=False, settings={"fsync": "off"}
    )


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The Postgres server that the whole session shares. Do not stop it; take `postgres_server` for that."""
    server = _server(tmp_path_factory.mktemp("postgres"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
async def migrated_template(postgres: EmbeddedPostgres) -> str:
    """The name of a database with our schema, to copy from."""
    create_database(postgres.url("postgres"), _TEMPLATE)
    await migrate(postgres.url(_TEMPLATE))
    return _TEMPLATE


@pytest.fixture(scope="module")
def postgres_url(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """The URL (postgresql+psycopg://…) of a fresh database with our schema, for one test module."""
    name = f"t_{secrets.token_hex(6)}"
    admin = postgres.url("postgres")
    create_database(admin, name, template=migrated_template)
    yield postgres.url(name)
    with psycopg.connect(admin.replace("+psycopg", "", 1), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


@pytest.fixture(scope="module")
async def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """A server of this module's own, with the migrated database `reanimate`; stop, kill and start it at will."""
    server = _server(tmp_path_factory.mktemp("own-postgres"))
    server.start()
    create_database(server.url("postgres"), "reanimate")
    await migrate(server.url("reanimate"))
    yield server
    server.stop()
