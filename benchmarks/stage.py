"""What a benchmark runs on: a real Postgres that syncs to disk, a home directory, and processes that end with it."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from reanimate.addresses import Addresses
from reanimate.db.embedded import EmbeddedPostgres, create_database
from reanimate.db.migrate import migrate
from reanimate.secrets import Secrets

__all__ = ["Stage", "free_port", "stage"]

ROOT = Path(__file__).parent.parent
READY_WITHIN_S = 30.0


def free_port() -> int:
    """Return a port on which nobody listens now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Stage:
    """A home directory with addresses and secrets as `reanimate up` would have written them."""

    home: Path
    postgres: EmbeddedPostgres
    addresses: Addresses
    secrets: Secrets
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def record_url(self) -> str:
        """libpq's URL of the record, with the password."""
        return self.postgres.url("reanimate").replace("+psycopg", "", 1)

    def start(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start `python ARGUMENTS` on this stage; its standard error goes to a log in the home directory."""
        with (self.home / f"process-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**os.environ, "REANIMATE_HOME": str(self.home), **(environment or {})},
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Ask the process to end, and make it end."""
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    async def ready(self, url: str) -> None:
        """Wait until `url` answers below 500.

        Raises:
            TimeoutError: it did not within half a minute; the message shows the end of the logs.
        """
        deadline = time.monotonic() + READY_WITHIN_S
        async with httpx.AsyncClient(trust_env=False) as http:
            while time.monotonic() < deadline:
                try:
                    if (await http.get(url)).status_code < 500:
                        return
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.05)
        logs = "\n".join(file.read_text(errors="replace")[-2000:] for file in sorted(self.home.glob("process-*.log")))
        raise TimeoutError(f"{url} did not answer within {READY_WITHIN_S:g} s\n{logs}")


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """Set up a stage in a temporary directory, and leave nothing of it behind."""
    with TemporaryDirectory(prefix="reanimate-bench-") as directory:
        home = Path(directory)
        generated = Secrets.load_or_create(home)
        postgres = EmbeddedPostgres(home / "postgres", free_port(), generated.postgres_password)
        postgres.start()
        try:
            create_database(postgres.url("postgres"), "reanimate")
            await migrate(postgres.url("reanimate"))
            here = {
                name: f"http://127.0.0.1:{free_port()}" for name in ("web", "prefect", "gateway", "control", "watch")
            }
            addresses = Addresses(
                web=here["web"],
                prefect_api=f"{here['prefect']}/api",
                prefect_ui=here["prefect"],
                gateway=here["gateway"],
                gateway_control=here["control"],
                watch=here["watch"],
                database=postgres.url("reanimate", password=False),
                vector={name: f"http://127.0.0.1:{free_port()}" for name in ("primary", "replica")},
            )
            addresses.save(home)
            built = Stage(home, postgres, addresses, generated)
            try:
                yield built
            finally:
                for process in built.processes:
                    built.end(process)
        finally:
            postgres.stop()
