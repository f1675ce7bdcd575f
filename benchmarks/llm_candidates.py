"""The gateways that the LLM benchmarks compare, each in front of the same two providers, configured with care."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.llm_driver import Caller, rendered
from benchmarks.peers.environments import peer_environment
from benchmarks.stage import free_port
from reanimate.addresses import Addresses

__all__ = ["EVERY_CORE", "NAMES", "Candidate", "StandIn", "candidates", "provider"]

ROOT = Path(__file__).parent.parent
PROCESSES = max(2, len(os.sched_getaffinity(0)))
EVERY_CORE = f"reanimate, {PROCESSES} processes"
"""With as many processes as there are cores, since peers with threads use every core too."""
NAMES = ("reanimate", EVERY_CORE, "TensorZero", "LiteLLM proxy", "httpx by hand", "raw asyncio proxy")
TENSORZERO = "tensorzero==2026.6.0"
LITELLM = "litellm[proxy]==1.106.2"
UPSTREAM_TIMEOUT_S = 2
READY_WITHIN_S = 60.0


@dataclass
class StandIn:
    """A provider's process and its two addresses."""

    process: subprocess.Popen[str]
    url: str
    admin_url: str


@dataclass
class Candidate:
    """A running gateway and how it is asked."""

    name: str
    url: str
    path: str
    model: str
    process: subprocess.Popen[bytes] | subprocess.Popen[str]
    patience_s: float = 30.0
    """How long its callers wait for an answer."""
    caller: Caller = field(init=False)

    def __post_init__(self) -> None:
        self.caller = Caller(self.url, self.patience_s)

    def request(self, prompt: str, *, stream: bool = False, tokens: int | None = None, model: str = "") -> bytes:
        return rendered(self.path, model or self.model, prompt, stream=stream, tokens=tokens)

    def cpu_s(self) -> float:
        """Return the processor time that it and its children have used."""
        return sum(_cpu_s(pid) for pid in _family(self.process.pid))

    def rss_mb(self) -> float:
        return sum(_rss_mb(pid) for pid in _family(self.process.pid))


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(member for child in children for member in _family(int(child)))]


def _cpu_s(pid: int) -> float:
    try:
        return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    except OSError:
        return 0.0


def _rss_mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return 0.0


@asynccontextmanager
async def provider(name: str, *options: str) -> AsyncIterator[StandIn]:
    """Run a stand-in for a provider."""
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-m", "reanimate.demo.provider", "--port", "0", "--name", name, *options],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = (await asyncio.to_thread(process.stdout.readline)).split()
        yield StandIn(process, said[0], said[2])
    finally:
        process.terminate()
        process.wait()


def _reanimate(home: Path, main: str, backup: str, log: int, processes: int = 1) -> Candidate:
    gateway, control = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    nobody = "http://127.0.0.1:9"
    Addresses(
        web=nobody, prefect_api="", prefect_ui="", gateway=gateway, gateway_control=control, watch=nobody,
        database="", vector={"primary": nobody, "replica": nobody},
    ).save(home)  # fmt: skip
    providers = "".join(
        f'[[llm.providers]]\nname = "{name}"\nurl = "{url}/v1"\nkeys = ["key"]\n'
        f'[[llm.providers.models]]\nname = "m"\nprefill = true\ninput_price = 0.5\noutput_price = 1.5\n'
        for name, url in (("main", main), ("backup", backup))
    )
    routes = "".join(
        f'[[llm.routes]]\nname = "{name}"\ntargets = ["main/m", "backup/m"]\ncache_ttl_s = {ttl}\n'
        for name, ttl in (("m", 0), ("cached", 3600))
    )
    (home / "reanimate.toml").write_text(
        f"[vector]\noffline = false\n[gateway]\nprocesses = {processes}\n{providers}{routes}"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "reanimate.gateway"],
        cwd=ROOT, env={**os.environ, "REANIMATE_HOME": str(home)}, stderr=log,
    )  # fmt: skip
    name = "reanimate" if processes == 1 else EVERY_CORE
    return Candidate(name, gateway, "/v1/chat/completions", "m", process)


def _tensorzero(home: Path, main: str, backup: str, log: int) -> Candidate:
    providers = "".join(
        f'[models.m.providers.{name}]\ntype = "openai"\napi_base = "{url}/v1/"\nmodel_name = "m"\n'
        f'api_key_location = "env::OPENAI_API_KEY"\n'
        f"timeouts = {{ non_streaming.total_ms = {UPSTREAM_TIMEOUT_S * 1000}, "
        f"streaming.ttft_ms = {UPSTREAM_TIMEOUT_S * 1000} }}\n"
        for name, url in (("main", main), ("backup", backup))
    )
    config = home / "tensorzero.toml"
    config.write_text(
        "[gateway]\nobservability.enabled = false\ndisable_pseudonymous_usage_analytics = true\n"
        '[models.m]\nrouting = ["main", "backup"]\n'
        f"{providers}"
    )
    python = peer_environment("tensorzero", TENSORZERO) / "python"
    process = subprocess.Popen(
        [str(python), str(ROOT / "benchmarks/peers/tensorzero_gateway.py"), str(config)],
        env={**os.environ, "OPENAI_API_KEY": "key"}, stdout=log, stderr=log,
    )  # fmt: skip
    # It chooses its port itself, and says which among its other lines.
    said: re.Match[str] | None = None
    deadline = time.monotonic() + READY_WITHIN_S
    while said is None and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
        said = re.search(r"^(http://\S+)/openai/v1$", (home / "log").read_text(), re.MULTILINE)
    url = said[1] if said else "http://127.0.0.1:9"
    return Candidate("TensorZero", url, "/openai/v1/chat/completions", "tensorzero::model_name::m", process)


def _litellm(home: Path, main: str, backup: str, log: int) -> Candidate:
    """One group with an order, one retry, one failure allowed, 5 s of cooling down: the quickest we found it to be."""
    models = "".join(
        f"  - model_name: m\n    litellm_params:\n"
        f"      {{model: openai/m, api_base: {url}/v1, api_key: key, timeout: {UPSTREAM_TIMEOUT_S}, order: {order}}}\n"
        for order, url in ((1, main), (2, backup))
    )
    config = home / "litellm.yaml"
    config.write_text(
        f"model_list:\n{models}router_settings: {{num_retries: 1, retry_after: 0, allowed_fails: 1, cooldown_time: 5, "
        f"timeout: {UPSTREAM_TIMEOUT_S}}}\n"
        f"litellm_settings: {{num_retries: 1, request_timeout: {UPSTREAM_TIMEOUT_S}, allowed_fails: 1, "
        "telemetry: false}\n"
    )
    program = peer_environment("litellm", LITELLM) / "litellm"
    port = free_port()
    process = subprocess.Popen(
        [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"],
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_DOCS": "True", "LITELLM_LOG": "ERROR",
             "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"},
        stdout=log, stderr=log,
    )  # fmt: skip
    return Candidate("LiteLLM proxy", f"http://127.0.0.1:{port}", "/v1/chat/completions", "m", process)


def _httpx(home: Path, main: str, backup: str, log: int) -> Candidate:
    port = free_port()
    module = ["-m", "benchmarks.peers.httpx_gateway", "--port", str(port), "--main", main, "--backup", backup]
    process = subprocess.Popen([sys.executable, *module], cwd=ROOT, stderr=log)
    return Candidate("httpx by hand", f"http://127.0.0.1:{port}", "/v1/chat/completions", "m", process)


def _raw(home: Path, main: str, backup: str, log: int) -> Candidate:
    port = free_port()
    module = ["-m", "benchmarks.peers.raw_proxy", "--port", str(port), "--upstream", main.removeprefix("http://")]
    process = subprocess.Popen([sys.executable, *module], cwd=ROOT, stderr=log)
    # It has no patience of its own that could end: its callers have that of the others.
    url = f"http://127.0.0.1:{port}"
    return Candidate("raw asyncio proxy", url, "/v1/chat/completions", "m", process, UPSTREAM_TIMEOUT_S)


_STARTS = {
    "reanimate": _reanimate,
    EVERY_CORE: partial(_reanimate, processes=PROCESSES),
    "TensorZero": _tensorzero,
    "LiteLLM proxy": _litellm,
    "httpx by hand": _httpx,
    "raw asyncio proxy": _raw,
}


async def _ready(candidate: Candidate, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        outcome = await candidate.caller.ask(candidate.request("are you there?"))
        if outcome.ok:
            return
        if time.monotonic() > deadline or candidate.process.poll() is not None:
            raise TimeoutError(f"{candidate.name}: {outcome}\n{_end_of(log)}")
        await asyncio.sleep(0.2)


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]


@asynccontextmanager
async def candidates(names: Sequence[str], main: str, backup: str) -> AsyncIterator[list[Candidate]]:
    """Run these gateways in front of two providers, given by their origins.

    Raises:
        TimeoutError: one does not answer.
    """
    running: list[Candidate] = []
    with TemporaryDirectory(prefix="reanimate-bench-") as directory:
        try:
            for number, name in enumerate(names):
                home = Path(directory) / str(number)
                home.mkdir()
                log = home / "log"
                with log.open("wb") as file:
                    candidate = _STARTS[name](home, main, backup, file.fileno())
                running.append(candidate)
                await _ready(candidate, log)
            yield running
        finally:
            for candidate in running:
                candidate.caller.close()
                candidate.process.terminate()
            for candidate in running:
                try:
                    candidate.process.wait(10)
                except subprocess.TimeoutExpired:
                    candidate.process.kill()
                    candidate.process.wait()
