"""Failover as a caller of a real gateway sees it: answers, headers, errors, and what the watch is told."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from failover_rig import users_in
from gateway_process import ControlPlane
from llm_gateway import LlmGateway, llm_gateway_for, provider_toml, route_toml, write_settings

from reanimate.demo.provider import Fault, Provider, answer_text

FAULTS = {
    "429": (Fault("status", error="rate_limit"), "rate_limited", 1),
    "500": (Fault("status", error="server_error"), "http_500", 2),
    "refuse": (Fault("refuse"), "refused", 0),
    "reset": (Fault("reset"), "reset", 2),
    "hang": (Fault("hang"), "late", 1),
    "garbage": (Fault("garbage", garbage="html"), "garbage", 1),
}


@pytest.fixture
async def gateway(tmp_path: Path, providers: tuple[Provider, Provider]) -> AsyncIterator[LlmGateway]:
    main, backup = providers
    write_settings(
        tmp_path,
        provider_toml("main", main.url),
        provider_toml("backup", backup.url),
        route_toml(targets=["main/model", "backup/model"]),
    )
    async with llm_gateway_for(tmp_path) as running:
        yield running


async def _closed(gateway: LlmGateway) -> None:
    """Wait until the first provider has all of its share again."""
    for _ in range(200):
        if (await gateway.figures())["llm"]["health"]["main/model"]["standing"] == "closed":
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it does not come back")


async def _stream(client: openai.AsyncOpenAI, text: str) -> str:
    parts = []
    async for chunk in await client.chat.completions.create(
        model="chat", messages=[{"role": "user", "content": text}], stream=True
    ):
        parts += [choice.delta.content or "" for choice in chunk.choices]
    return "".join(parts)


@pytest.mark.timed
async def test_gateway__every_fault_costs_one_callers_second_attempt_and_then_nobodys(
    gateway: LlmGateway, providers: tuple[Provider, Provider]
) -> None:
    """One gateway through all of them: the answer is right, says whose it is and why, and the way back is short."""
    main, _ = providers
    for name, (fault, why, asked) in FAULTS.items():
        main.calls.clear()
        main.fail(fault)
        for number in range(100):  # while it is coming back from the last one, not each call goes there first
            began = time.monotonic()
            status, body, headers = await gateway.chat(f"{name} {number}")
            assert time.monotonic() - began < 0.5
            assert status == 200
            assert body["choices"][0]["message"]["content"] == answer_text(f"{name} {number}")
            assert headers["x-reanimate-target"] == "backup/model"
            if int(headers["x-reanimate-attempts"]) > 1:
                break
        assert headers["x-reanimate-degraded"] == f"main/model: {why}"
        # A reset of a connection that was kept is met once more before it counts: the server may just have closed it.
        assert min(asked, 1) <= len(users_in(main)) <= asked + (name == "reset")
        await asyncio.gather(*(gateway.chat(f"{number}") for number in range(20)))
        known = len(users_in(main))
        for number in range(20):
            await gateway.chat(f"again {number}")
        assert len(users_in(main)) - known <= 1, f"{name}: once it is known nobody is sent there"
        main.heal()
        began = time.monotonic()
        while (await gateway.chat("Back?"))[2]["x-reanimate-target"] != "main/model":
            assert time.monotonic() - began < 4.0, f"{name}: it does not come back"
            await asyncio.sleep(0.02)


async def test_gateway__streams_of_the_official_client_are_whole_through_every_fault(
    gateway: LlmGateway, providers: tuple[Provider, Provider]
) -> None:
    """Before the first token nothing has reached the caller, so another provider's stream is as good."""
    main, _ = providers
    client = openai.AsyncOpenAI(base_url=gateway.openai_url, api_key="x", max_retries=0)
    for name, (fault, _, _) in FAULTS.items():
        main.fail(fault)
        texts = await asyncio.gather(*(_stream(client, f"{name} {number}") for number in range(10)))
        assert texts == [answer_text(f"{name} {number}") for number in range(10)]
    await client.close()


async def test_gateway__when_nobody_answers_the_client_is_told_why_and_when_to_come_back(
    gateway: LlmGateway, providers: tuple[Provider, Provider]
) -> None:
    """429 with the smaller pause of the two; 502 with the first reason; both list every attempt."""
    for provider, seconds in zip(providers, (90, 45), strict=True):
        pause = {"retry-after": str(seconds), "retry-after-ms": str(seconds * 1000)}
        provider.fail(Fault("status", error="rate_limit", headers=pause))
    status, body, headers = await gateway.chat()
    assert status == 429
    assert 40 <= int(headers["retry-after"]) <= 45
    assert "main/model" in body["error"]["message"]
    assert "backup/model" in body["error"]["message"]
    assert [attempt["target"] for attempt in body["error"]["reanimate"]["attempts"]] == ["main/model", "backup/model"]


async def test_gateway__tells_the_watch_how_a_provider_fails_and_that_it_is_back(
    tmp_path: Path, providers: tuple[Provider, Provider]
) -> None:
    """At once, aside; with the provider, the key's name and what was seen, never the key."""
    main, backup = providers
    write_settings(
        tmp_path,
        provider_toml("main", main.url),
        provider_toml("backup", backup.url),
        route_toml(targets=["main/model", "backup/model"]),
    )
    async with ControlPlane().running() as control, llm_gateway_for(tmp_path, control=control.url) as gateway:
        main.fail(Fault("status", error="server_error"))
        await gateway.chat()
        main.heal()
        await _closed(gateway)
        await asyncio.sleep(0.1)
        failed = next(seen for seen in control.observations if seen["kind"] == "http_500")
        assert (failed["plane"], failed["target"], failed["provider"]) == ("llm", "main/model", "main")
        assert failed["key"] == "main#1"
        assert "500" in failed["detail"]
        assert "key-of-main" not in str(control.observations)
        back = next(seen for seen in control.observations if seen["kind"] == "recovered")
        assert back["standing"] == "closed"
