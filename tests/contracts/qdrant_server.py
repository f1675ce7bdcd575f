"""The server that the contract tests run against: a real one by its URL, or our standby as a process."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

__all__ = ["FULL_KEY", "READ_ONLY_KEY", "QdrantServer", "StandbyProcess"]

FULL_KEY = "sekret"
READ_ONLY_KEY = "lookonly"
_ADDRESS = re.compile(r"listens on (http://\S+?),")


@dataclass(frozen=True)
class QdrantServer:
    """Where to reach it and how."""

    url: str
    key: str | None
    read_only_key: str | None
    is_standby: bool

    def client(self, **options: Any) -> httpx.AsyncClient:
        """Return a client with the key that may do everything."""
        headers = {"api-key": self.key} if self.key else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=120.0, **options)


@dataclass
class StandbyProcess:
    """A standby server of our own, as a process that can be killed and started again on the same data."""

    directory: Path
    port: int = 0
    arguments: tuple[str, ...] = ()
    url: str = ""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def server(self) -> QdrantServer:
        return QdrantServer(self.url, FULL_KEY, READ_ONLY_KEY, is_standby=True)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.directory / "standby.log").read_text()

    def start(self) -> "StandbyProcess":
        """Start it and wait until every shard is open."""
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [
            *(sys.executable, "-m", "reanimate.standby", "--name", "contract"),
            *("--port", str(self.port), "--data", str(self.directory / "data"), *self.arguments),
        ]
        environment = {
            **os.environ,
            "REANIMATE_STANDBY_API_KEY": FULL_KEY,
            "REANIMATE_STANDBY_READ_ONLY_KEY": READ_ONLY_KEY,
        }
        with (self.directory / "standby.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self._wait_until_ready()
        return self

    def _wait_until_ready(self, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, f"the standby ended: {self.log}"
            if found := _ADDRESS.search(self.log):
                self.url = found[1]
                try:
                    if httpx.get(f"{self.url}/readyz").status_code == 200:
                        return
                except httpx.TransportError:
                    pass  # not listening yet
            time.sleep(0.02)
        raise AssertionError(f"the standby was not ready within {timeout_s} s: {self.log}")

    def children(self) -> list[int]:
        """Return the ids of its shard processes."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(one) for one in listed.split()]

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    def stop(self) -> int:
        """SIGTERM, and return its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(10)

    def end(self) -> None:
        """Make sure that nothing is left of it."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)
