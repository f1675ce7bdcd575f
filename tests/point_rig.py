"""A small agent to be restored as one: a collection behind an alias, a Postgres database, and files.

python point_rig.py HOME POINT LINE     restores a point, and dies (SIGKILL) before a line that begins so
"""

import asyncio
import linecache
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from reanimate.addresses import Addresses
from reanimate.bootstrap import Services, open_services
from reanimate.config import load_settings
from reanimate.protection import point_restores

__all__ = ["Agent", "opened"]


@dataclass(frozen=True)
class Agent:
    """What is protected."""

    services: Services
    database: str
    """Its name on the server."""
    url: str
    """Of its database, for psycopg."""
    etc: Path

    def rows(self) -> list[str]:
        """Return what its table holds."""
        with psycopg.connect(self.url) as connection:
            return [row[0] for row in connection.execute("SELECT text FROM notes ORDER BY id").fetchall()]

    def write(self, *texts: str) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS notes (id serial PRIMARY KEY, text text)")
            for text in texts:
                connection.execute("INSERT INTO notes (text) VALUES (%s)", (text,))

    def texts(self) -> dict[str, str]:
        """Return name → text of its files."""
        return {
            str(path.relative_to(self.etc)): path.read_text() for path in sorted(self.etc.rglob("*")) if path.is_file()
        }


@asynccontextmanager
async def opened(home: Path, *, vector_url: str, key: str | None, record: str, admin: str) -> AsyncIterator[Agent]:
    """Open services in `home` as every process does, with settings and addresses on disk, and make the agent."""
    database, etc = f"agent_{secrets.token_hex(4)}", home / "etc"
    etc.mkdir(parents=True)
    plain = admin.replace("+psycopg", "", 1)
    url = plain.rsplit("/", 1)[0] + f"/{database}"
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}".encode())
    nowhere = "http://127.0.0.1:9"
    Addresses(nowhere, nowhere, nowhere, nowhere, nowhere, nowhere, record, {"primary": vector_url}).save(home)
    (home / "reanimate.toml").write_text(
        f'[database]\nurl = "{record}"\n[configuration]\nfiles = ["{etc}"]\nqdrant = false\n'
        f'[[postgres.databases]]\nname = "agent"\nurl = "{url}"\n'
        f'[[vector.targets]]\nname = "primary"\nrole = "primary"\nurl = "{vector_url}"\napi_key = "{key}"\n'
    )
    os.environ["REANIMATE_HOME"] = str(home)
    try:
        async with open_services(load_settings()) as services:
            yield Agent(services, database, url, etc)
    finally:
        del os.environ["REANIMATE_HOME"]
        with psycopg.connect(plain, autocommit=True) as connection:
            rows = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", (f"{database}%",))
            for (name,) in rows.fetchall():
                connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


def _killed_at(text: str) -> Callable[..., Any]:
    """Return a trace function that dies before the line of `point_restores.py` that begins so."""

    def trace(frame: Any, event: str, argument: Any) -> Any:
        return local if frame.f_code.co_filename == point_restores.__file__ else None

    def local(frame: Any, event: str, argument: Any) -> Any:
        if event == "line" and linecache.getline(point_restores.__file__, frame.f_lineno).strip().startswith(text):
            os.kill(os.getpid(), signal.SIGKILL)
        return local

    return trace


async def _restore(point: str) -> None:
    async with open_services(load_settings()) as services:
        await point_restores.restore_point(services, point)


if __name__ == "__main__":
    os.environ["REANIMATE_HOME"] = sys.argv[1]
    sys.settrace(_killed_at(sys.argv[3]))
    asyncio.run(_restore(sys.argv[2]))
