"""A hundred callers at once while the first provider dies and comes back at random moments, in every way it knows.

Each caller gets its answer whole, right, and once. `TEST_SEEDS=200` for the long run.
"""

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from llm_gateway import LlmGateway, llm_gateway_for, provider_toml, route_toml, write_settings

from reanimate.demo.provider import Behaviour, Fault, Provider, answer_text

SEEDS = int(os.environ.get("TEST_SEEDS", "6"))
CALLERS = 100
ARRIVE_WITHIN_S = 0.6
DEATHS = (
    Fault("refuse"),
    Fault("unaccepted"),
    Fault("reset", running=True),
    Fault("close", running=True),
    Fault("hang", running=True),
    Fault("cut", how="rst"),
    Fault("cut", how="fin"),
    Fault("cut", how="end"),
    Fault("stall"),
    Fault("error_event", error="overloaded"),
    Fault("no_finish"),
    Fault("malformed"),
    Fault("status", error="overloaded"),
    Fault("status", error="server_error"),
    Fault("status", error="rate_limit", headers={"retry-after": "1"}),
    Fault("garbage", garbage="html"),
    Fault("garbage", garbage="empty"),
    Fault("garbage", garbage="truncated"),
)


@dataclass
class Rig:
    gateway: LlmGateway
    main: Provider
    spare: Provider


@asynccontextmanager
async def _running(home: Path) -> AsyncIterator[Rig]:
    well = Behaviour(token_ms=4)
    async with Provider("main", behaviour=well) as main, Provider("spare", behaviour=well) as spare:
        model: Any = {"name": "m", "prefill": True}
        write_settings(
            home,
            provider_toml("main", main.url, models=[model]),
            provider_toml("spare", spare.url, models=[model]),
            route_toml("chat", ["main/m", "spare/m"], idle_s=1.5, first_token_s=5.0, attempts=6),
        )
        async with llm_gateway_for(home) as gateway:
            yield Rig(gateway, main, spare)


@pytest.fixture(scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """One gateway for all seeds: it goes into each with what it learned in the one before."""
    async with _running(tmp_path_factory.mktemp("dying")) as running:
        yield running


async def _whole(gateway: LlmGateway, prompt: str) -> tuple[str, str, str]:
    """Ask for an answer in one piece; return its id, text and finish reason."""
    status, body, _ = await gateway.chat(prompt)
    assert status == 200, json.dumps(body)
    (choice,) = body["choices"]
    return body["id"], choice["message"]["content"], choice["finish_reason"]


async def _streamed(gateway: LlmGateway, prompt: str) -> tuple[str, str, str]:
    """Have an answer streamed; return its id, text and finish reason. It must end with the end mark."""
    ids, text, finish, done = set(), "", "", 0
    asked = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": prompt}]}
    async with gateway.http.post(f"{gateway.url}/v1/chat/completions", json=asked) as answer:
        assert answer.status == 200, await answer.text()
        async for line in answer.content:
            if line == b"data: [DONE]\n":
                done += 1
            elif line.startswith(b"data: "):
                event = json.loads(line[6:])
                assert "error" not in event, line.decode()
                ids.add(event["id"])
                for choice in event["choices"]:
                    assert not finish, "something came after the finish"
                    text += choice["delta"].get("content") or ""
                    finish = choice["finish_reason"] or finish
    assert done == 1
    assert len(ids) == 1
    return ids.pop(), text, finish


async def _misfortune(main: Provider, chance: random.Random) -> None:
    """Let the provider die and come back, twice, at random moments."""
    for _ in range(2):
        await asyncio.sleep(chance.uniform(0.02, ARRIVE_WITHIN_S / 2))
        fault = chance.choice(DEATHS)
        after = chance.randint(0, 20) if fault.kind in ("cut", "stall", "error_event", "malformed") else 0
        main.fail(Fault.from_json(fault.to_json() | {"after": after}))
        await asyncio.sleep(chance.uniform(0.05, 0.4))
        main.heal()


async def _caller(rig: Rig, seed: int, number: int, chance: random.Random) -> str:
    """Ask one question at a random moment; return what is wrong with the answer, or nothing."""
    await asyncio.sleep(chance.uniform(0, ARRIVE_WITHIN_S))
    prompt = f"seed {seed} caller {number} [[tokens={chance.randint(2, 60)}]]"
    ask = _streamed if chance.random() < 0.7 else _whole
    try:
        _, text, finish = await ask(rig.gateway, prompt)
    except (aiohttp.ClientError, AssertionError, ValueError, TimeoutError) as error:
        return f"{prompt} {ask.__name__}: {type(error).__name__}: {error}"
    if (text, finish) != (answer_text(prompt), "stop"):
        return f"{prompt} {ask.__name__}: {finish!r} {text!r} instead of {answer_text(prompt)!r}"
    return ""


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_primary_dies__every_answer_is_whole_right_and_given_once(rig: Rig, seed: int) -> None:
    chance = random.Random(seed)
    rig.main.reset()
    rig.spare.reset()
    dying = asyncio.create_task(_misfortune(rig.main, random.Random(seed)))
    callers = [_caller(rig, seed, number, random.Random(chance.random())) for number in range(CALLERS)]
    wrong = [what for what in await asyncio.gather(*callers) if what]
    await dying
    assert not wrong, f"{len(wrong)} of {CALLERS}: {wrong[0]}"
    asked = [call for call in (*rig.main.calls, *rig.spare.calls) if call.body.get("max_tokens") != 1]
    assert CALLERS <= len(asked) <= CALLERS * 3, "no storm"


async def _back(rig: Rig) -> None:
    """Have answers streamed until it is the first provider again that gives them all, and how quick it is is known."""
    in_a_row = 0
    async with asyncio.timeout(20):
        while in_a_row < 20:
            before = rig.spare.total
            await _streamed(rig.gateway, "[[tokens=1]]")
            in_a_row = in_a_row + 1 if rig.spare.total == before else 0


async def test_hedge_that_lost__goes_on_with_the_answer(tmp_path: Path) -> None:
    """Who was asked beside a slow provider and was not needed is not silent: it is asked when that one breaks off."""
    asked = []
    async with _running(tmp_path) as rig:
        for number in range(3):
            for provider in (rig.main, rig.spare):
                provider.reset()
            await _back(rig)
            rig.main.fail(Fault("late_body", ms=200), Fault("cut", after=6, how="rst"))
            rig.spare.fail(Fault("delay", ms=600, times=1))
            prompt = f"hedged {number} [[tokens=30]]"
            _, text, finish = await _streamed(rig.gateway, prompt)
            assert (text, finish) == (answer_text(prompt), "stop")
            asked.append(sum(call.body["messages"][0]["content"] == prompt for call in rig.spare.calls))
            if asked[-1] == 2:
                return
    raise AssertionError(f"it was not hedged and gone on with: {asked}")
