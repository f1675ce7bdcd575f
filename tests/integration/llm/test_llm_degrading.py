"""The degradation rules at a real gateway: what begins a hold, what it does to the calls, and how it lets go."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from llm_gateway import LlmGateway, llm_gateway_for, provider_toml, route_toml, write_settings
from web_home import web_process

from reanimate.demo.provider import Fault, Provider

STATIC = "Please come back later."


def rule_toml(name: str, **fields: Any) -> str:
    """Return a rule of the settings."""
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())
    return f'[[llm.rules]]\nname = "{name}"\n{lines}'


OFF = {name: rule_toml(name, enabled=False) for name in ("quota_low", "failures_in_a_row", "slow", "errors")}


@asynccontextmanager
async def degrading(home: Path, provider: Provider, name: str, **fields: Any) -> AsyncIterator[LlmGateway]:
    """Run a gateway with one provider and one of the rules, made quick."""
    others = [text for other, text in OFF.items() if other != name]
    route = route_toml("chat", ["main/model"], static_answer=STATIC, hedge=False, attempts=1)
    write_settings(home, provider_toml("main", provider.url), route, rule_toml(name, **fields), *others)
    async with llm_gateway_for(home) as gateway:
        yield gateway


async def holds(gateway: LlmGateway) -> dict[tuple[str, str], Any]:
    """Return what the gateway's own rules hold."""
    policies = (await gateway.figures())["llm"]["policies"]
    return {(c["switch"], c["scope"]): c["value"] for held in policies["by_rules"].values() for c in held}


async def until(look: Callable[[], Awaitable[bool]], within_s: float = 30.0) -> float:
    """Look again and again until it is so; return how long that took."""
    began = time.monotonic()
    while not await look():
        assert time.monotonic() - began < within_s, "not in time"
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def test_error_rate__static_answers_and_gradually_back(tmp_path: Path, provider: Provider) -> None:
    """Above a tenth: static answers without a call; then ever more calls are let through, and at last all of them."""
    rule = {"min_samples": 5, "window_s": 10, "hold_s": 2.0, "step_s": 1.0}
    async with degrading(tmp_path, provider, "errors", **rule) as gateway:
        provider.fail(Fault("status", error="server_error"))
        for number in range(6):
            status, body, headers = await gateway.chat(f"bad {number}")
            assert (status, body["choices"][0]["message"]["content"]) == (200, STATIC)
            assert headers["x-reanimate-degraded"]

        async def static() -> bool:
            return await holds(gateway) == {("llm_static", "chat"): 100}

        await until(static)
        assert (await gateway.figures())["llm"]["policies"]["level"] == "minimal"
        provider.heal()
        before = provider.total
        status, body, headers = await gateway.chat("held")
        assert (status, body["choices"][0]["message"]["content"]) == (200, STATIC)
        assert "static" in headers["x-reanimate-degraded"]
        assert len([call for call in list(provider.calls)[before:] if "held" in str(call.body)]) == 0

        seen = [100]

        async def back() -> bool:
            await gateway.chat("again")
            share = (await holds(gateway)).get(("llm_static", "chat"), 0)
            if share != seen[-1]:
                seen.append(share)
            return share == 0

        await until(back)
        assert seen == [100, 50, 25, 12, 0]
        status, _, headers = await gateway.chat("good")
        assert (status, headers.get("x-reanimate-degraded")) == (200, None)
        assert (await gateway.figures())["llm"]["policies"]["level"] == "normal"


async def test_restarts__a_gateway_that_is_killed_stays_degraded(tmp_path: Path, provider: Provider) -> None:
    """Killed again and again while a rule holds: from its first call on each one holds it, and asks nobody."""
    rule = {"min_samples": 5, "window_s": 10, "hold_s": 60.0, "step_s": 1.0}
    async with degrading(tmp_path, provider, "errors", **rule) as gateway:
        provider.fail(Fault("status", error="server_error"))
        for number in range(6):
            await gateway.chat(f"bad {number}")

        async def static() -> bool:
            return await holds(gateway) == {("llm_static", "chat"): 100} and (tmp_path / "gateway/rules.json").exists()

        await until(static)
        gateway.process.kill()
        await asyncio.to_thread(gateway.process.wait)
    provider.heal()
    for processes in ("1", "2"):
        environment = {"REANIMATE_GATEWAY__PROCESSES": processes}
        async with llm_gateway_for(tmp_path, **environment) as gateway:
            _, body, headers = await gateway.chat("held")
            assert body["choices"][0]["message"]["content"] == STATIC
            assert "static" in headers["x-reanimate-degraded"]
            assert await holds(gateway) == {("llm_static", "chat"): 100}
            if processes == "1":
                gateway.process.kill()
                await asyncio.to_thread(gateway.process.wait)
    assert [call for call in provider.calls if "held" in str(call.body)] == []
    (tmp_path / "gateway/rules.json").write_bytes(b"{")
    async with llm_gateway_for(tmp_path) as gateway:
        status, _, headers = await gateway.chat("held no more")
        assert (status, headers.get("x-reanimate-degraded")) == (200, None)
        assert "the degradation rules begin anew" in gateway.log


async def test_failures_in_a_row__cache_first(tmp_path: Path, provider: Provider) -> None:
    """After the sixth failure in a row a kept answer is given without asking; it ends when answers come again."""
    async with degrading(tmp_path, provider, "failures_in_a_row", hold_s=1.0, step_s=0.5) as gateway:
        _, known, _ = await gateway.chat("known")
        provider.fail(Fault("status", error="server_error"))
        for number in range(5):
            await gateway.chat(f"bad {number}")
        await asyncio.sleep(1.5)
        assert await holds(gateway) == {}, "five in a row are not more than five"
        await gateway.chat("bad 5")

        async def first() -> bool:
            return await holds(gateway) == {("llm_cache", "chat"): "first"}

        await until(first)
        before = len([call for call in provider.calls if "known" in str(call.body)])
        status, body, headers = await gateway.chat("known")
        assert (status, body["choices"]) == (200, known["choices"])
        assert "cache first" in headers["x-reanimate-degraded"]
        assert len([call for call in provider.calls if "known" in str(call.body)]) == before
        provider.heal()

        async def over() -> bool:
            await gateway.chat(f"new {time.monotonic()}")
            return await holds(gateway) == {}

        await until(over)


async def test_p99__fewer_at_a_time(tmp_path: Path, provider: Provider) -> None:
    """Slow answers bound the calls underway: the provider never sees more than that at a time, and all are answered."""
    rule = {"above": 0.3, "clear_below": 0.2, "min_samples": 3, "window_s": 3, "hold_s": 1.0, "step_s": 0.5}
    async with degrading(tmp_path, provider, "slow", **rule, concurrency=2) as gateway:
        provider.fail(Fault("delay", ms=400))
        await asyncio.gather(*(gateway.chat(f"slow {number}") for number in range(4)))

        async def bounded() -> bool:
            return ("llm_concurrency", "chat") in await holds(gateway)

        await until(bounded)
        before = len(provider.calls)
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                new = list(provider.calls)[before:]
                most = max(most, sum(not call.ended and "queued" in str(call.body) for call in new))
                await asyncio.sleep(0.01)

        watching = asyncio.create_task(watch())
        answers = await asyncio.gather(*(gateway.chat(f"queued {number}") for number in range(6)))
        watching.cancel()
        assert [status for status, _, _ in answers] == [200] * 6
        assert most == 2
        provider.heal()

        async def over() -> bool:
            await gateway.chat("quick")
            return await holds(gateway) == {}

        await until(over)


async def test_rules__a_few_failures_are_no_rate(tmp_path: Path, provider: Provider) -> None:
    """Fewer calls than the rule wants say nothing, even when all of them fail; and an idle gateway holds nothing."""
    async with degrading(tmp_path, provider, "errors", min_samples=20) as gateway:
        await asyncio.sleep(1.2)
        assert await holds(gateway) == {}
        provider.fail(Fault("status", error="server_error"))
        for number in range(4):
            await gateway.chat(f"bad {number}")
        await asyncio.sleep(1.2)
        assert await holds(gateway) == {}
        assert (await gateway.figures())["llm"]["policies"]["level"] == "normal"


async def test_quota_low__cheaper_model(
    tmp_path: Path, provider: Provider, postgres_url: str, free_port: Callable[[], int]
) -> None:
    """A tenant whose quota runs low gets the cheaper model, by the ledger in the record; another tenant does not."""
    write_settings(
        tmp_path,
        provider_toml("main", provider.url, models=("large", "small")),
        route_toml("chat", ["main/large"], cheaper=["main/small"], hedge=False),
        '[[llm.quotas]]\nname = "each"\nper_tenant = true\nrequests = 20\nlease = 0.2\nlease_s = 1.0\n',
        rule_toml("quota_low", above=0.5, clear_below=0.4),
    )
    port = free_port()
    with web_process(tmp_path, postgres_url, port):
        async with llm_gateway_for(tmp_path, control=f"http://127.0.0.1:{port}") as gateway:

            async def ask(tenant: str) -> str:
                status, body, headers = await gateway.chat("hello", headers={"x-reanimate-tenant": tenant})
                assert status == 200, body
                return headers["x-reanimate-target"]

            assert [await ask("poor") for _ in range(8)] == ["main/large"] * 8
            assert await ask("rich") == "main/large"
            assert await holds(gateway) == {}
            for _ in range(4):
                await ask("poor")

            async def low() -> bool:
                return await holds(gateway) == {("llm_tier", "tenant:poor"): "cheaper"}

            await until(low)
            assert await ask("poor") == "main/small"
            assert await ask("rich") == "main/large"
