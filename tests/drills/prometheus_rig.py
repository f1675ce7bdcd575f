"""Real Prometheus and Alertmanager beside a running system, by the files that a user copies."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml
from running_system import System, until
from sqlalchemy import select

from reanimate.db.tables import Alert
from reanimate.deathsig import die_with_parent
from reanimate.incidents.lifecycle import State
from reanimate.incidents.views import View, incident_list, incident_view

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
PAYMENTS_RULES = """
groups:
  - name: payments
    interval: 1s
    rules:
      - alert: PaymentsDown
        expr: up{job="payments"} == 0
        labels: {severity: critical, respond: reanimate, service: payments tool}
        annotations: {summary: payments is down}
"""
_EXPORTER = """
import signal, sys, prometheus_client
prometheus_client.start_http_server(int(sys.argv[1]), "127.0.0.1")
signal.pause()
"""


@contextmanager
def _program(*arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of ours for as long as the block lasts; it never outlives us."""
    with log.open("ab") as sink:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@dataclass
class Exporter:
    """A process with figures for Prometheus: a tool of the agent, of which reanimate knows nothing."""

    port: int
    process: subprocess.Popen[bytes]

    @classmethod
    @contextmanager
    def running(cls, port: int, log: Path) -> "Iterator[Exporter]":
        with _program(sys.executable, "-c", _EXPORTER, str(port), log=log) as process:
            yield cls(port, process)


@dataclass
class Monitoring:
    """The two programs, running."""

    prometheus: str
    alertmanager: str
    http: httpx.AsyncClient

    async def ups(self) -> dict[str, bool]:
        """Return what Prometheus scrapes, `job/target or part` → whether it answered last; nothing while it starts."""
        answer = await self.http.get(f"{self.prometheus}/api/v1/targets", params={"state": "active"})
        if answer.status_code != 200:
            return {}
        labels = [(target["labels"], target["health"] == "up") for target in answer.json()["data"]["activeTargets"]]
        return {f"{of['job']}/{of.get('target') or of.get('part') or ''}": up for of, up in labels}

    async def firing(self) -> list[str]:
        """Return the names of the alerts that fire at Alertmanager."""
        answer = await self.http.get(f"{self.alertmanager}/api/v2/alerts", params={"active": "true"})
        return [alert["labels"]["alertname"] for alert in answer.json()]


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _shipped(name: str) -> Any:
    return yaml.safe_load((DEPLOYMENTS / name).read_text())


def _write_prometheus(directory: Path, system: System, alertmanager: str, payments: int) -> Path:
    """Write the shipped files with the addresses of this system, and a tool of the user's own beside."""
    config, at = _shipped("prometheus.yml"), system.services.addresses
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [_host(alertmanager)]
    vector, ourselves = config["scrape_configs"]
    for entry in vector["static_configs"]:
        entry["targets"] = [_host(at.vector[entry["labels"]["target"]])]
    places = {"web": at.web, "gateway": at.gateway_control, "watch": at.watch}
    for entry in ourselves["static_configs"]:
        entry["targets"] = [_host(places[entry["labels"]["part"]])]
    ourselves |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    tool = {**vector, "job_name": "payments", "static_configs": [{"targets": [f"127.0.0.1:{payments}"]}]}
    config["scrape_configs"] = [vector, ourselves, tool]
    config["rule_files"] = ["prometheus-rules.yml", "payments-rules.yml"]
    (directory / "prometheus-rules.yml").write_text((DEPLOYMENTS / "prometheus-rules.yml").read_text())
    (directory / "payments-rules.yml").write_text(PAYMENTS_RULES)
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


def _write_alertmanager(directory: Path, system: System) -> Path:
    """Write the shipped file with this system's address and token, and with shorter waits."""
    config = _shipped("alertmanager.yml")
    token = directory / "reanimate.token"
    token.write_text(system.services.secrets.intake_token + "\n")
    token.chmod(0o600)
    (hook,) = config["receivers"][1]["webhook_configs"]
    hook["url"] = f"{system.services.addresses.web}{urlsplit(hook['url']).path}"
    hook["http_config"]["authorization"]["credentials_file"] = str(token)
    config["route"]["routes"][0] |= {"group_interval": "2s", "repeat_interval": "8s"}
    path = directory / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    return path


@asynccontextmanager
async def monitored(
    system: System, directory: Path, need_program: Callable[..., str], free_port: Callable[[], int], payments: int
) -> AsyncIterator[Monitoring]:
    """Start both programs beside `system`, and wait until every scrape succeeds and nothing fires."""
    programs = need_program("prometheus"), need_program("prometheus-alertmanager", "alertmanager")
    prometheus, alertmanager = (f"http://127.0.0.1:{free_port()}" for _ in programs)
    with (
        _program(
            programs[1],
            f"--config.file={_write_alertmanager(directory, system)}",
            f"--storage.path={directory / 'alertmanager'}",
            f"--web.listen-address={_host(alertmanager)}",
            f"--web.external-url={alertmanager}",
            "--cluster.listen-address=",
            log=directory / "alertmanager.log",
        ),
        _program(
            programs[0],
            f"--config.file={_write_prometheus(directory, system, alertmanager, payments)}",
            f"--storage.tsdb.path={directory / 'prometheus'}",
            f"--web.listen-address={_host(prometheus)}",
            "--log.level=warn",
            log=directory / "prometheus.log",
        ),
    ):
        running = Monitoring(prometheus, alertmanager, system.services.http)

        async def all_well() -> bool:
            try:
                ups = await running.ups()
                return len(ups) == 6 and all(ups.values()) and not await running.firing()
            except httpx.TransportError:
                return False

        await until(all_well, within_s=60)
        yield running


async def crash_loop(system: System, name: str, enough: Callable[[], Any]) -> None:
    """Kill a part with SIGKILL, and again as often as the supervisor starts it, until there is enough of it."""

    async def kill_and_look() -> bool:
        part = await asyncio.to_thread(system.part, name)
        if part.pid is not None and part.state in ("starting", "ready"):
            os.kill(part.pid, signal.SIGKILL)
        return bool(await enough())

    await until(kill_and_look, within_s=60, every_s=0.1)


async def alerts_since(system: System, since: datetime, source: str, status: str) -> list[Alert]:
    """Return what a sender said since then, in the order in which it was first heard."""
    async with system.services.sessions() as session:
        found = await session.scalars(
            select(Alert)
            .where(Alert.source == source, Alert.status == status, Alert.received_at >= since)
            .order_by(Alert.id)
        )
        return list(found)


async def incidents_since(system: System, since: datetime) -> list[View]:
    """Return the incidents opened since then."""
    found = await incident_list(system.services)
    return [item for item in found if datetime.fromisoformat(item["opened_at"]) >= since]


async def ended(system: System, incident_id: str) -> View:
    """Wait until an incident has ended, or a person has it, and its last paper is written."""

    async def look() -> View | None:
        view = await incident_view(system.services, incident_id)
        over = view["incident"]["state"] in (State.RECOVERED, State.ESCALATED, State.CLOSED)
        return view if over and view["phases"][-1]["state"] in ("done", "failed", "skipped") else None

    view = await until(look, within_s=120, every_s=0.3)
    assert view is not None
    return view
