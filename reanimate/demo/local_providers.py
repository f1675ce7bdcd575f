"""The demo's LLM providers: two processes of the stand-in, which share their words but nothing else."""

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from reanimate.deathsig import die_with_parent
from reanimate.errors import ServerFailed

__all__ = ["ROUTE", "LocalProviders"]

ROUTE = "chat"
_WIRES = {"main": "openai", "spare": "anthropic"}
"""An outage of one vendor is best met by another one: what crosses over is translated."""
_TOKEN_MS = 10
_READY_S = 20.0
_MODEL = "stand-in"

_PROVIDER = """
[[llm.providers]]
name = "{name}"
wire = "{wire}"
url = "{url}"
keys = ["key-of-{name}"]
[[llm.providers.models]]
name = "{model}"
prefill = true
input_price = 1.0
output_price = 4.0
"""
_ROUTE = f"""
[[llm.routes]]
name = "{ROUTE}"
targets = ["main/{_MODEL}", "spare/{_MODEL}"]
# These providers bring a token every {_TOKEN_MS} ms: silence means something sooner than with a real one.
idle_s = 0.5
first_token_s = 2.0
"""


class LocalProviders:
    """Two providers. Their ports are held from the start until they have them."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._ports = {name: self._hold() for name in _WIRES}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._kept = False

    def _hold(self) -> int:
        sock = self._held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        # The provider binds with the same option, and may have the port while we hold it; nobody else may.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port

    @property
    def urls(self) -> Mapping[str, str]:
        return {name: f"http://127.0.0.1:{port}" for name, port in self._ports.items()}

    def settings(self) -> str:
        """Return what goes into `reanimate.toml`."""
        providers = [
            _PROVIDER.format(name=name, wire=wire, url=self.base_url(name), model=_MODEL)
            for name, wire in _WIRES.items()
        ]
        return "".join(providers) + _ROUTE

    def base_url(self, name: str) -> str:
        """Return the base URL as the vendor's SDK takes it."""
        return self.urls[name] + ("/v1" if _WIRES[name] == "openai" else "")

    async def start(self, home: Path, *, follow: int, keep: bool) -> None:
        """Start both; they end when the process `follow` does, and unless `keep`, with this one.

        Raises:
            ServerFailed: one of them did not get ready.
        """
        self._kept = keep
        self._processes = [self._spawn(name, home, follow) for name in self._ports]
        for name in self._ports:
            await self._ready(name, home / f"provider-{name}.log")
        self._held.close()

    def _spawn(self, name: str, home: Path, follow: int) -> "subprocess.Popen[bytes]":
        command = [
            sys.executable, "-m", "reanimate.demo.provider", "--name", name, "--port", str(self._ports[name]),
            "--token-ms", str(_TOKEN_MS), "--follow", str(follow),
        ]  # fmt: skip
        with (home / f"provider-{name}.log").open("wb") as sink:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                preexec_fn=None if self._kept else die_with_parent(signal.SIGTERM),
            )

    async def _ready(self, name: str, log: Path) -> None:
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                await self._say(name, "GET", "/_health")
                return
            except ServerFailed as error:
                if time.monotonic() > deadline:
                    said = await asyncio.to_thread(log.read_text, errors="replace")
                    raise ServerFailed(f"provider {name} did not get ready: {said[-500:]}") from error
            await asyncio.sleep(0.1)

    async def fail(self, name: str, faults: Sequence[Mapping[str, Any]]) -> None:
        """Set what is wrong with a provider; nothing, when there are no faults.

        Raises:
            ServerFailed: it does not do as told.
        """
        await self._say(name, "POST", "/_faults", list(faults))

    async def _say(self, name: str, method: str, path: str, body: Any = None) -> None:
        async with httpx.AsyncClient(base_url=self.urls[name], timeout=5, trust_env=False) as http:
            try:
                (await http.request(method, path, json=body)).raise_for_status()
            except httpx.HTTPError as error:
                raise ServerFailed(f"provider {name} at {self.urls[name]}: {method} {path}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._held.close()
        if self._kept and error is None:
            return
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()
