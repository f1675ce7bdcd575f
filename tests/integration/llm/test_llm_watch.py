"""The watch as a real process beside a real gateway: what of its LLM calls is alarmed, when, and when that ends."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from llm_gateway import LlmGateway, llm_gateway_for, provider_toml, route_toml, write_settings

from reanimate.addresses import Addresses
from reanimate.demo.provider import Fault, Match, Provider

ROOT = Path(__file__).parents[3]
Json = dict[str, Any]
RULE = '[[llm.rules]]\nname = "errors"\nmin_samples = 5\nwindow_s = 10\nhold_s = 2\nstep_s = 1\n'
CALM = '[[llm.rules]]\nname = "failures_in_a_row"\nenabled = false\n'


@dataclass
class Watched:
    """A gateway that is watched, and what the intake got."""

    gateway: LlmGateway
    main: Provider
    backup: Provider
    posted: Path
    watch_url: str
    process: "subprocess.Popen[bytes]"

    def lines(self) -> list[Json]:
        if not self.posted.exists():
            return []
        whole, _, _ = self.posted.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def events(self, kind: str, fingerprint: str) -> list[Json]:
        return [
            line["body"]
            for line in self.lines()
            if line["path"].startswith("/alerts")
            and line["body"]["type"] == f"reanimate.alert.{kind}"
            and line["body"]["data"]["fingerprint"] == fingerprint
        ]

    async def alarmed(self, kind: str, fingerprint: str, within_s: float = 30.0) -> Json:
        """Return the first event of that kind; meanwhile users ask on."""
        deadline = time.monotonic() + within_s
        while not (found := self.events(kind, fingerprint)):
            assert time.monotonic() < deadline, [line["body"].get("data", {}) for line in self.lines()]
            await self.gateway.chat(f"user {time.monotonic()}")
            await asyncio.sleep(0.1)
        return found[0]

    def alerts(self) -> list[str]:
        return [line["body"]["data"]["fingerprint"] for line in self.lines() if line["path"].startswith("/alerts")]


def start(home: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    with (home / "watch.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, "REANIMATE_HOME": str(home), "PYTHONPATH": str(ROOT)},
            stderr=log,
        )


@pytest.fixture
async def watched(
    tmp_path: Path, providers: tuple[Provider, Provider], free_port: Callable[[], int]
) -> AsyncIterator[Watched]:
    main, backup = providers
    write_settings(
        tmp_path,
        provider_toml("main", main.url),
        provider_toml("backup", backup.url),
        route_toml("chat", ["main/model", "backup/model"], static_answer="Later, please.", hedge=False),
        RULE,
        CALM,
    )
    posted, intake_port, watch_port = tmp_path / "posted.jsonl", free_port(), free_port()
    intake = start(tmp_path, str(ROOT / "tests" / "small_server.py"), str(intake_port), str(posted))
    async with llm_gateway_for(tmp_path, control=f"http://127.0.0.1:{intake_port}") as gateway:
        watch_url = f"http://127.0.0.1:{watch_port}"
        replace(Addresses.load(tmp_path), watch=watch_url).save(tmp_path)
        own = Watched(gateway, main, backup, posted, watch_url, start(tmp_path, "-m", "reanimate.watch"))
        await until(lambda: _level(own))
        yield own
        for process in (own.process, intake):
            process.kill()
            process.wait()
    assert "Traceback" not in (tmp_path / "watch.log").read_text()


async def _level(own: Watched) -> str | None:
    """Return the level that the watch has heard of from the gateway."""
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            found: str | None = (await http.get(f"{own.watch_url}/status")).json()["llm"]["level"]
            return found
    except httpx.HTTPError:
        return None


async def until(look: Callable[[], Awaitable[Any]], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not await look():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.1)


def of_llm(fingerprints: list[str]) -> list[str]:
    return sorted({name for name in fingerprints if name.startswith("watch:llm:")})


async def test_provider_out_and_back(watched: Watched) -> None:
    """One failed call is no alarm; a provider that is out is one, told once with what was seen, and it ends."""
    watched.main.fail(Fault("status", error="server_error", times=1))
    for number in range(10):
        await watched.gateway.chat(f"calm {number}")
    await asyncio.sleep(3)
    assert of_llm(watched.alerts()) == []

    watched.main.fail(Fault("status", error="server_error"))
    began = time.monotonic()
    event = await watched.alarmed("firing", "watch:llm:main:calls")
    print(f"\nprovider out to alarm: {time.monotonic() - began:.1f} s")
    assert event["data"]["labels"] == {
        "fault": "llm_api_unavailable",
        "component": "llm:main",
        "seen_by": "gateway",
        "provider": "main",
        "kind": event["data"]["labels"]["kind"],
    }
    assert "500" in event["data"]["annotations"]["summary"]
    await asyncio.sleep(2)
    assert of_llm(watched.alerts()) == ["watch:llm:main:calls"], "backup answers all calls: no route is in trouble"
    assert any(line["path"] == "/observations" and line["body"]["plane"] == "llm" for line in watched.lines())
    watched.main.heal()
    await watched.alarmed("resolved", "watch:llm:main:calls")
    assert len(watched.events("firing", "watch:llm:main:calls")) == 1


async def test_nobody_answers__route_and_rule(watched: Watched) -> None:
    """With no provider left the route is in trouble, and the rule that degrades it is alarmed with the level."""
    for provider in (watched.main, watched.backup):
        provider.fail(Fault("status", error="server_error"))
    route = await watched.alarmed("firing", "watch:llm:route:chat:unanswered")
    rule = await watched.alarmed("firing", "watch:llm:rule:errors:chat")
    assert (route["data"]["labels"]["component"], route["data"]["labels"]["route"]) == ("llm:chat", "chat")
    assert (rule["data"]["labels"]["level"], rule["data"]["labels"]["signal"]) == ("minimal", "error_rate")
    for provider in (watched.main, watched.backup):
        provider.heal()
    await watched.alarmed("resolved", "watch:llm:rule:errors:chat", within_s=60)
    assert await _level(watched) == "normal"


async def test_quota_and_attack_are_told_apart(watched: Watched) -> None:
    """No money at a provider is no outage, and refused prompts are an attack by the tenant who sends them."""
    watched.main.fail(Fault("status", error="insufficient_quota"))
    event = await watched.alarmed("firing", "watch:llm:main:quota")
    assert event["data"]["labels"]["fault"] == "token_quota_exhausted"
    watched.main.heal()
    for provider in (watched.main, watched.backup):
        provider.fail(Fault("status", error="content_policy", match=Match(path="/v1/chat/completions")))
    for number in range(15):
        await watched.gateway.chat(f"evil {number}", headers={"x-reanimate-tenant": "bad"})
    event = await watched.alarmed("firing", "watch:llm:tenant:bad:attack")
    assert event["data"]["labels"]["fault"] == "malicious_prompt_attack"
    assert event["data"]["labels"]["tenant"] == "bad"


async def test_restart__an_alarm_is_neither_repeated_nor_forgotten(watched: Watched) -> None:
    """A watch that is killed and started again knows what was firing, and ends it when it is over."""
    watched.main.fail(Fault("status", error="server_error"))
    await watched.alarmed("firing", "watch:llm:main:calls")
    watched.process.kill()
    watched.process.wait()
    watched.process = start(watched.gateway.home, "-m", "reanimate.watch")
    await until(lambda: _level(watched))
    for _ in range(30):
        await watched.gateway.chat("on and on")
        await asyncio.sleep(0.1)
    assert len(watched.events("firing", "watch:llm:main:calls")) == 1
    assert watched.events("resolved", "watch:llm:main:calls") == []
    watched.main.heal()
    await watched.alarmed("resolved", "watch:llm:main:calls")


async def test_observations__of_llm_providers(watched: Watched) -> None:
    """The watch takes in what a gateway saw with the control key, and says what it cannot read."""
    body = {"plane": "llm", "target": "main/model", "kind": "http_500", "standing": "open", "detail": "it said 500"}
    async with httpx.AsyncClient(trust_env=False) as http:
        key = {"authorization": f"Bearer {watched.gateway.key}"}
        assert (await http.post(f"{watched.watch_url}/observations", json=body, headers=key)).status_code == 202
        assert (await http.post(f"{watched.watch_url}/observations", json=body)).status_code == 401
        wrong = {**body, "plane": "vector"}
        assert (await http.post(f"{watched.watch_url}/observations", json=wrong, headers=key)).status_code == 422
        assert 'target="main/model"' in (await http.get(f"{watched.watch_url}/metrics")).text
    assert of_llm(watched.alerts()) == [], "an observation is a reason to look, never a verdict"
