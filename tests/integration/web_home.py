"""A home directory and services for tests of the web process, around a database that is there already."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from reanimate.addresses import Addresses
from reanimate.bootstrap import Services, open_services
from reanimate.config import AlertSettings, DatabaseSettings, Settings, WebSettings
from reanimate.secrets import Secrets
from reanimate.web.app import create_app

PAYLOADS = Path(__file__).parent.parent / "payloads"
NOBODY = "http://127.0.0.1:9"

ALERTS = AlertSettings(
    alertmanager_bearer=(SecretStr("am-token"), SecretStr("am-next")),
    alertmanager_basic=(SecretStr("am:pass"),),
    cloudevents_bearer=(SecretStr("ce-token"),),
    cloudevents_hmac=(SecretStr("ce-key"), SecretStr("ce-key-next")),
    max_body_bytes=262_144,
)


def addresses(port: int) -> Addresses:
    """Addresses at which nothing answers but the web process, on `port`."""
    return Addresses(
        web=f"http://127.0.0.1:{port}",
        prefect_api=f"{NOBODY}/api",
        prefect_ui=NOBODY,
        gateway=NOBODY,
        gateway_control=NOBODY,
        watch=NOBODY,
        database="postgresql+psycopg://reanimate@127.0.0.1:9/reanimate",
        vector={"primary": NOBODY, "replica": "http://127.0.0.1:19"},
    )


def settings(home: Path, database_url: str, **changes: Any) -> Settings:
    return Settings(
        **{
            "home": home,
            "database": DatabaseSettings(url=SecretStr(database_url)),
            "alerts": ALERTS,
            "web": WebSettings(port=0),
            **changes,
        }
    )


@dataclass
class Web:
    """The application under test, a client of it, and the incidents whose reflex was called for."""

    services: Services
    http: httpx.AsyncClient
    reflexes: list[str]
    state: Any

    async def post(self, source: str, body: Any, **headers: str) -> httpx.Response:
        """Post `body` as the sender `source` would, with its own token unless `headers` say otherwise."""
        kinds = {"alertmanager": "application/json", "cloudevents": "application/cloudevents+json"}
        tokens = {"alertmanager": "Bearer am-token", "cloudevents": "Bearer ce-token"}
        given = {"content-type": kinds[source], "authorization": tokens[source]} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.http.post(f"/alerts/{source}", content=content, headers=given)

    async def fold(self) -> int:
        """Fold what is stored now."""
        return int(await self.state.folder.fold_waiting())


@asynccontextmanager
async def web(configured: Settings, *, running: bool = False) -> AsyncIterator[Web]:
    """Open the application. Without `running`, spool and folding move only when the test says so."""
    addresses(80).save(configured.home)
    async with open_services(configured) as services:
        reflexes: list[str] = []

        async def on_opened(incident_id: str) -> None:
            reflexes.append(incident_id)

        app = create_app(services, loops={}, on_opened=on_opened)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://web") as http:
            opened = Web(services, http, reflexes, app.state)
            if not running:
                yield opened
                return
            async with app.router.lifespan_context(app):
                yield opened


def captured(name: str) -> Any:
    """A body that a real Alertmanager posted."""
    return json.loads((PAYLOADS / f"alertmanager_{name}.json").read_bytes())["body"]


def event(
    number: int = 1, *, fingerprint: str = "f", component: str = "vector:primary", **changes: Any
) -> dict[str, Any]:
    """A CloudEvent like those of our own watch."""
    data = {
        "fingerprint": fingerprint,
        "starts_at": datetime(2026, 11, 22, 6, 0, tzinfo=UTC).isoformat(),
        "labels": {"fault": "vector_database_down", "component": component},
        "annotations": {"summary": f"{component} is down"},
        "evidence": [{"check": "liveness", "found": "refused"}],
    }
    return {
        "specversion": "1.0",
        "id": f"{fingerprint}-{number}",
        "source": "reanimate/watch",
        "type": "reanimate.alert.firing",
        "subject": component,
        "time": datetime.now(UTC).isoformat(),
        "data": data | changes.pop("data", {}),
    } | changes


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@dataclass
class Process:
    """A real web process."""

    url: str
    child: "subprocess.Popen[bytes]"
    log: Path
    token: str

    def post(self, body: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/cloudevents+json"}
        return httpx.post(f"{self.url}/alerts/cloudevents", content=json.dumps(body), headers=headers, trust_env=False)

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.child.poll() is None:
            try:
                if httpx.get(f"{self.url}/healthz", trust_env=False).is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(f"the web process did not come up: {self.log.read_text()[-2000:]}")

    def end(self, number: signal.Signals) -> int:
        self.child.send_signal(number)
        return self.child.wait(10)


@contextmanager
def web_process(home: Path, database_url: str, port: int, *, wait: bool = True) -> Iterator[Process]:
    """Start `python -m reanimate.web` on `home`; it is killed at the end if it still runs."""
    addresses(port).save(home)
    secrets = Secrets.load_or_create(home)
    environment = {**os.environ, "REANIMATE_HOME": str(home), "DATABASE_URL": database_url}
    with (home / "web.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "reanimate.web"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=Path(__file__).parents[2],
        )
    process = Process(f"http://127.0.0.1:{port}", child, home / "web.log", secrets.intake_token)
    try:
        if wait:
            process.wait_until_up()
        yield process
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
