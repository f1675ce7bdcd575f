"""A watch as a real process, with a real intake and real targets to kill, stop and cut off."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from reanimate.addresses import Addresses
from reanimate.secrets import Secrets

SMALL_SERVER = Path(__file__).parent.parent / "small_server.py"
ROOT = SMALL_SERVER.parent.parent
Json = dict[str, Any]


@dataclass
class Rig:
    """A home directory, and an intake, targets and a watch, each a process; `prefix` puts them in a namespace."""

    home: Path
    ports: dict[str, int]
    prefix: tuple[str, ...] = ()
    standbys: bool = False
    """Targets are real standby servers, primary and replica, instead of small ones that hold nothing."""
    config: Json = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def targets(self) -> list[str]:
        return [name for name in self.ports if name not in (*PARTS, "watch")]

    def vector_home(self, target: str) -> Path:
        """Where the standby server of that target keeps its data."""
        return self.home / "vector" / target

    @property
    def posted(self) -> Path:
        return self.home / "posted.jsonl"

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def write(self) -> None:
        """Write what `up` would have written."""
        Addresses(
            web=self.url("web"),
            prefect_api=f"{self.url('prefect')}/api",
            prefect_ui=self.url("prefect"),
            gateway=self.url("gateway"),
            gateway_control=self.url("gateway"),
            watch=self.url("watch"),
            database="postgresql+psycopg://unused",
            vector={name: self.url(name) for name in self.targets},
        ).save(self.home)
        roles = ["primary"] + ["replica"] * (len(self.targets) - 1)
        lines = [f"[watch]\n{''.join(f'{key} = {value}{chr(10)}' for key, value in self.config.items())}"]
        for name, role in zip(self.targets, roles, strict=True):
            url = "" if self.standbys else f'url = "{self.url(name)}"\n'
            lines.append(f'[[vector.targets]]\nname = "{name}"\nrole = "{role}"\n{url}')
        (self.home / "reanimate.toml").write_text("\n".join(lines))

    def start(self, name: str) -> None:
        """Start a target or a part; the intake keeps what is posted."""
        if self.standbys and name in self.targets:
            port, data = str(self.ports[name]), str(self.vector_home(name))
            self._run(name, "-m", "reanimate.standby", "--name", name, "--port", port, "--data", data)
        else:
            keeping = [str(self.posted)] if name == "web" else []
            self._run(name, str(SMALL_SERVER), str(self.ports[name]), *keeping)

    def start_watch(self) -> None:
        self._run("watch", "-m", "reanimate.watch")

    def _run(self, name: str, *arguments: str) -> None:
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*self.prefix, sys.executable, *arguments],
                env={**os.environ, "REANIMATE_HOME": str(self.home), "PYTHONPATH": str(ROOT)},
                stderr=log,
            )

    def kill(self, name: str) -> float:
        """SIGKILL it, reap it, and return when it was killed."""
        at = time.monotonic()
        self.processes[name].kill()
        self.processes.pop(name).wait()
        return at

    def signal(self, name: str, number: signal.Signals) -> float:
        at = time.monotonic()
        self.processes[name].send_signal(number)
        return at

    def stop(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    def events(self) -> list[Json]:
        """Return every event the intake took, with `at`, when it came in."""
        if not self.posted.exists():
            return []
        whole, _, _ = self.posted.read_text().rpartition("\n")  # the last line may still be being written
        lines = [json.loads(line) for line in whole.splitlines()]
        return [{"at": line["at"], "headers": line["headers"], **line["body"]} for line in lines]

    def of(self, subject: str, kind: str = "firing", since: float = 0.0) -> list[Json]:
        return [
            event
            for event in self.events()
            if event["subject"] == subject and event["type"] == f"reanimate.alert.{kind}" and event["at"] >= since
        ]

    def log(self) -> str:
        return (self.home / "watch.log").read_text()


async def until(
    found: Callable[[], Any], *, within: float = 20.0, saying: Callable[[], str] = lambda: "it did not happen"
) -> Any:
    """Return what `found` returns once that is true."""
    deadline = time.monotonic() + within
    while not (value := found()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {saying()}")
        await asyncio.sleep(0.01)
    return value


async def status(rig: Rig, *, within: float = 60.0) -> Json:
    """Return what the watch says of itself, as soon as it listens."""
    deadline = time.monotonic() + within
    async with httpx.AsyncClient(trust_env=False) as http:
        while True:
            try:
                answer: Json = (await http.get(f"{rig.url('watch')}/status")).json()
                return answer
            except httpx.HTTPError:
                assert time.monotonic() < deadline, rig.log()
                await asyncio.sleep(0.05)


async def ready(rig: Rig, *, within: float = 60.0) -> None:
    """Wait until the watch has seen every dependency up."""
    deadline = time.monotonic() + within
    while not all(one["state"] == "up" for one in (await status(rig))["dependencies"]):
        assert time.monotonic() < deadline, rig.log()
        await asyncio.sleep(0.05)


PARTS = ("web", "prefect", "gateway")


@contextmanager
def running(home: Path, free_port: Callable[[], int], targets: int = 2, **how: Any) -> Iterator[Rig]:
    """Run a rig. Small targets are called t0 (the primary), t1, …; standby servers primary and replica."""
    named = ("primary", "replica") if how.get("standbys") else tuple(f"t{number}" for number in range(targets))
    rig = Rig(home, {name: free_port() for name in (*PARTS, "watch", *named)}, **how)
    rig.write()
    try:
        for name in (*PARTS, *rig.targets):
            rig.start(name)
        rig.start_watch()
        yield rig
    finally:
        rig.stop()


async def observe(rig: Rig, kind: str, key: str | None = None, target: str = "t0") -> httpx.Response:
    key = key or Secrets.load_or_create(rig.home).control_key
    body = {"target": target, "kind": kind, "collection": "kb", "detail": "seen by a test"}
    async with httpx.AsyncClient(trust_env=False) as http:
        url = f"{rig.url('watch')}/observations"
        return await http.post(url, json=body, headers={"Authorization": f"Bearer {key}"})
