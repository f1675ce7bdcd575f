"""The demo's own running system: a fresh home directory, ports of its own, and an end that leaves nothing behind."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from reanimate.addresses import Addresses
from reanimate.clock import utcnow
from reanimate.config import default_home
from reanimate.deathsig import die_with_parent
from reanimate.demo.local_providers import LocalProviders
from reanimate.errors import ConfigInvalid, ServerFailed

__all__ = ["demo_home", "kill_and_lose_disk", "running_system"]

_READY_S = 240.0
_MARK = ".made-by-the-demo"

_SETTINGS = """# Written by the demo: every part on a free port, everything else as it ships.
[agent]
name = "demo agent"
[web]
port = 0
[database]
port = 0
[prefect]
port = 0
[gateway]
port = 0
control_port = 0
[watch]
port = 0
"""


def demo_home() -> Path:
    """Return the demo's home directory: a sibling of the real one, so that the demo never touches a real system."""
    if home := os.environ.get("REANIMATE_HOME"):
        return Path(home).expanduser().absolute()
    return default_home().with_name("reanimate-demo")


def _fresh(home: Path, more: str) -> None:
    """Empty the demo's home; refuse to empty anything that the demo did not make."""
    if home.exists() and any(home.iterdir()):
        if not (home / _MARK).exists():
            raise ConfigInvalid(
                f"{home} holds something that the demo did not make", hint="set REANIMATE_HOME to an empty directory"
            )
        shutil.rmtree(home)
    home.mkdir(parents=True, exist_ok=True)
    (home / _MARK).touch()
    targets = "".join(
        f'[[vector.targets]]\nname = "{name}"\nrole = "{name}"\nport = 0\n' for name in ("primary", "replica")
    )
    (home / "reanimate.toml").write_text(_SETTINGS + targets + more)


@asynccontextmanager
async def running_system(
    home: Path, *, keep: bool, providers: LocalProviders | None = None
) -> AsyncIterator[Addresses]:
    """Start everything with `reanimate up`, and providers beside it, and stop it at the end, unless `keep`.

    Raises:
        ServerFailed: it did not get ready; its log says why.
    """
    os.environ["REANIMATE_HOME"] = str(home)
    _run(["down"], quiet=True)  # what an earlier run with --keep left
    _fresh(home, providers.settings() if providers else "")
    log = home / "demo-up.log"
    process = _spawn_up(log, keep)
    try:
        if providers is not None:
            await providers.start(home, follow=process.pid, keep=keep)
        await _ready(process, home, log)
        yield Addresses.load(home)
    except BaseException:
        await _stop(process)
        raise
    if not keep:
        await _stop(process)


def _spawn_up(log: Path, keep: bool) -> subprocess.Popen[bytes]:
    """Start `reanimate up`; it ends with the demo, however that ends, unless it is to be kept."""
    with log.open("wb") as sink:
        return subprocess.Popen(
            [sys.executable, "-m", "reanimate.cli", "up"],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            preexec_fn=None if keep else die_with_parent(signal.SIGTERM),
        )


async def _ready(process: subprocess.Popen[bytes], home: Path, log: Path) -> None:
    async with asyncio.timeout(_READY_S):
        while not await asyncio.to_thread(_is_ready):
            if process.poll() is not None:
                said = await asyncio.to_thread(log.read_text, errors="replace")
                raise ServerFailed(f"reanimate up ended: {said[-2000:]}")
            await asyncio.sleep(0.3)


def _is_ready() -> bool:
    """Ask as a person would: with `reanimate status`."""
    answer = _run(["status", "--json"], quiet=True)
    try:
        return bool(json.loads(answer.stdout)["ready"])
    except (ValueError, KeyError):
        return False


def _run(arguments: list[str], *, quiet: bool = False) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "reanimate.cli", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else None,
        check=False,
    )


async def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        await asyncio.to_thread(process.wait, 15)
    except subprocess.TimeoutExpired:
        process.kill()
        await asyncio.to_thread(process.wait)


def kill_and_lose_disk(home: Path, target: str) -> datetime:
    """Kill a vector server with SIGKILL, take its data away before anybody can start it again, and say when.

    Raises:
        ServerFailed: the server is not running.
    """
    parts = json.loads(_run(["status", "--json"], quiet=True).stdout)["parts"]
    pid = next((part["pid"] for part in parts if part["name"] == f"vector-{target}"), None)
    if not pid:
        raise ServerFailed(f"vector server {target} is not running, so it cannot be killed")
    killed_at = utcnow()
    os.kill(pid, signal.SIGKILL)
    data = home / "vector" / target
    lost = data.with_name(f"{target}.lost")
    data.rename(lost)
    shutil.rmtree(lost)
    return killed_at
