"""A gateway as a real process, the control plane and the watch that it speaks with, and switches to send it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from free_ports import free_port
from vector_target import VectorTarget

from reanimate.addresses import Addresses
from reanimate.clock import utcnow
from reanimate.secrets import Secrets
from reanimate.switches.document import LIFETIME, Claim, SwitchDocument, effective, sign

LEDGER_START = datetime(2026, 1, 1, tzinfo=UTC)
SIGNATURE = "x-reanimate-signature"


@dataclass
class ControlPlane:
    """What stands in for web and watch: it answers polls as told, and writes down what it hears."""

    document: tuple[bytes, str] | None = None
    polls: list[dict[str, str]] = field(default_factory=list)
    observations: list[dict[str, str]] = field(default_factory=list)
    authorization: set[str] = field(default_factory=set)
    url: str = ""

    async def _switches(self, request: web.Request) -> web.Response:
        self.polls.append(dict(request.query))
        self.authorization.add(request.headers.get("authorization", ""))
        if self.document is None:
            return web.Response(status=204)
        return web.Response(body=self.document[0], headers={SIGNATURE: self.document[1]})

    async def _observations(self, request: web.Request) -> web.Response:
        self.authorization.add(request.headers.get("authorization", ""))
        self.observations.append(await request.json())
        return web.Response(status=202)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ControlPlane"]:
        app = web.Application()
        app.router.add_get("/switches", self._switches)
        app.router.add_post("/observations", self._observations)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


class Gateway:
    """One gateway process."""

    def __init__(self, home: Path, targets: dict[str, str], control: str, environment: dict[str, str]) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{free_port()}"
        self.control = f"http://127.0.0.1:{free_port()}"
        Addresses(
            web=control, prefect_api="", prefect_ui="", gateway=self.url, gateway_control=self.control, watch=control,
            database="", vector=targets,
        ).save(home)  # fmt: skip
        self.key = Secrets.load_or_create(home).control_key
        self.http: aiohttp.ClientSession
        self._environment = {**os.environ, "REANIMATE_HOME": str(home), **environment}
        self.process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return (self.home / "gateway.log").read_text()

    async def start(self) -> None:
        with (self.home / "gateway.log").open("ab") as log:
            command = (sys.executable, "-m", "reanimate.gateway")
            self.process = subprocess.Popen(command, env=self._environment, stderr=log)  # noqa: ASYNC220
        for _ in range(500):
            assert self.process.poll() is None, self.log
            try:
                async with self.http.get(f"{self.control}/healthz") as answer:
                    assert answer.status == 200
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.02)
        raise AssertionError(f"the gateway did not start: {self.log}")

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, 10)

    def rss_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any, dict[str, str]]:
        """Send one request; return status, JSON (or None) and headers in lower case."""
        async with self.http.request(method, self.url + path, **options) as answer:
            body = await answer.json() if "json" in answer.headers.get("content-type", "") else None
            return answer.status, body, {key.lower(): value for key, value in answer.headers.items()}

    async def query(self, name: str = "kb", **options: Any) -> tuple[int, Any, dict[str, str]]:
        return await self.ask("POST", f"/collections/{name}/points/query", json={"query": [0.1, 0.2]}, **options)

    async def upsert(self, name: str = "kb") -> tuple[int, Any, dict[str, str]]:
        return await self.ask("PUT", f"/collections/{name}/points?wait=true", json={"points": []})

    def document(self, seq: int, *claims: tuple[str, str, Any], **fields: Any) -> tuple[bytes, str]:
        """Return a switch document and its signature."""
        now = utcnow()
        given = {"ledger": "one", "ledger_started_at": LEDGER_START, "issued_at": now, "expires_at": now + LIFETIME}
        switches = tuple(effective(Claim(*claim) for claim in claims))
        body = SwitchDocument(**{**given, **fields}, seq=seq, switches=switches).encode()
        return body, sign(body, self.key)

    async def push(self, body: bytes, signature: str) -> tuple[int, Any]:
        async with self.http.post(f"{self.control}/switches", data=body, headers={SIGNATURE: signature}) as answer:
            return answer.status, await answer.json()

    async def switch(self, seq: int, *claims: tuple[str, str, Any], **fields: Any) -> None:
        status, answer = await self.push(*self.document(seq, *claims, **fields))
        assert (status, answer["seq"]) == (200, seq)

    async def figures(self, since: datetime | None = None) -> dict[str, Any]:
        params = {"since": since.isoformat()} if since else {}
        async with self.http.get(f"{self.control}/figures", params=params) as answer:
            assert answer.status == 200
            result: dict[str, Any] = await answer.json()
            return result

    async def until(self, target: str, state: str, within_s: float = 5.0) -> None:
        """Wait until the gateway says that a target is up or out."""
        deadline = asyncio.get_running_loop().time() + within_s
        while (await self.figures())["targets"][target]["state"] != state:
            assert asyncio.get_running_loop().time() < deadline, f"{target} is not {state}: {self.log}"
            await asyncio.sleep(0.02)


@asynccontextmanager
async def gateway_for(
    home: Path, *targets: VectorTarget, control: str = "http://127.0.0.1:9", **environment: str
) -> AsyncIterator[Gateway]:
    """Run a gateway in front of `targets`."""
    gateway = Gateway(home, {target.name: target.url for target in targets}, control, environment)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        gateway.http = http
        await gateway.start()
        try:
            yield gateway
        finally:
            code = await gateway.stop()
            assert code in (0, -signal.SIGKILL), gateway.log
            assert "Traceback" not in gateway.log, gateway.log


async def load(gateway: Gateway, count: int, concurrency: int) -> tuple[Counter[Any], list[float]]:
    """Send reads as fast as answers come; return (status, server) counts and the seconds that each took."""
    results: Counter[Any] = Counter()
    took: list[float] = []
    left = iter(range(count))

    async def client() -> None:
        for _ in left:
            began = time.monotonic()
            try:
                status, body, _ = await gateway.query()
                results[status, body["result"]["served_by"] if status == 200 else None] += 1
            except aiohttp.ClientError as error:
                results[repr(error)] += 1
            took.append(time.monotonic() - began)

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return results, took


EXPIRED = {"issued_at": utcnow() - timedelta(minutes=2), "expires_at": utcnow() - timedelta(minutes=1)}
