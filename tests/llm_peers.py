"""Programs of other people's that stand between the gateway and its providers, or in a provider's place.

`scripts/test` installs them into `.llm/`; without them a test is skipped, or fails with CI=true.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

__all__ = ["Peer", "envoy_before", "llmock", "small_model"]

_BESIDE = Path(__file__).parent.parent / ".llm" / "bin"
_READY_S = 15.0


def _program(name: str) -> str:
    path = _BESIDE / name
    if path.exists():
        return str(path)
    missing = f"{name} is not installed; `scripts/test` installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        socks = [held.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]


class Peer:
    """A running program: where it is, and its administration, if it has one."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, http: aiohttp.ClientSession, admin: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.alive = True
        self._process = process
        self._http = http
        self._admin = admin

    def kill(self) -> None:
        """End it with SIGKILL, in the middle of whatever it does."""
        self._process.send_signal(signal.SIGKILL)
        self.alive = False

    async def say(self, method: str, path: str, body: Any = None) -> Any:
        """Speak to its administration."""
        async with self._http.request(method, self._admin + path, json=body) as answer:
            text = await answer.text()
            assert answer.status < 300, text
            return json.loads(text) if text.startswith(("{", "[")) else text


@asynccontextmanager
async def _running(command: list[str], port: int, health: str, log: Path, admin: str = "") -> AsyncIterator[Peer]:
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(*command, stdout=sink, stderr=sink, start_new_session=True)
    async with aiohttp.ClientSession() as http:
        try:
            await _ready(process, http, health, log)
            yield Peer(process, port, http, admin)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _ready(process: asyncio.subprocess.Process, http: aiohttp.ClientSession, health: str, log: Path) -> None:
    deadline = asyncio.get_running_loop().time() + _READY_S
    while True:
        assert process.returncode is None, f"it ended; see {log}"
        try:
            async with http.get(health) as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        assert asyncio.get_running_loop().time() < deadline, f"it is not ready; see {log}"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def llmock(home: Path) -> AsyncIterator[Peer]:
    """Run llmock: a provider that fails as told, and judges how its client took it (`/_llmock/…`)."""
    (port,) = _free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [_program("llmock"), "serve", "--port", str(port), "--log-level", "warning"]
    async with _running(command, port, f"{url}/health", home / "llmock.log", url) as peer:
        yield peer


@asynccontextmanager
async def small_model(home: Path, name: str) -> AsyncIterator[Peer]:
    """Run a real language model (SmolLM2, 135 million parameters) behind an OpenAI-compatible server."""
    (port,) = _free_ports(1)
    command = [_program("python"), str(Path(__file__).parent / "small_model.py"), str(port)]
    async with _running(command, port, f"http://127.0.0.1:{port}/health", home / f"{name}.log") as peer:
        yield peer


@asynccontextmanager
async def envoy_before(upstream: str, home: Path) -> AsyncIterator[Peer]:
    """Run a real Envoy in front of a provider; it goes by `POST /runtime_modify?…` of its administration."""
    port, admin = _free_ports(2)
    at = urlsplit(upstream)
    config = {
        "admin": {"address": _address(admin)},
        "layered_runtime": {"layers": [{"name": "admin", "admin_layer": {}}]},
        "static_resources": {
            "listeners": [{"name": "llm", "address": _address(port), "filter_chains": [{"filters": [_MANAGER]}]}],
            "clusters": [
                {
                    "name": "llm", "connect_timeout": "0.25s", "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "llm",
                        "endpoints": [
                            {"lb_endpoints": [{"endpoint": {"address": _address(at.port or 80)}}]},
                        ],
                    },
                }
            ],
        },
    }  # fmt: skip
    (home / "envoy.json").write_text(json.dumps(config))
    command = [
        _program("envoy"), "-c", str(home / "envoy.json"), "--concurrency", "1", "--disable-hot-restart",
        "--use-dynamic-base-id", "--log-level", "error",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{admin}"
    async with _running(command, port, f"{url}/ready", home / "envoy.log", url) as peer:
        yield peer


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


_FILTERS = "type.googleapis.com/envoy.extensions.filters"
_NEVER = {"numerator": 0, "denominator": "HUNDRED"}
_MANAGER = {
    "name": "envoy.filters.network.http_connection_manager",
    "typed_config": {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "llm",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "llm", "timeout": "0s"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.fault",
                "typed_config": {
                    "@type": f"{_FILTERS}.http.fault.v3.HTTPFault",
                    "abort": {"http_status": 503, "percentage": _NEVER},
                    "delay": {"fixed_delay": "1s", "percentage": _NEVER},
                },
            },
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_FILTERS}.http.router.v3.Router"}},
        ],
    },
}
