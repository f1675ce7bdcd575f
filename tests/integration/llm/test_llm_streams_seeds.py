"""A hundred streams at once while the main provider dies at random moments: all of them complete, once, uncut.

`TEST_SEEDS=200` runs as many; `TEST_SEED=17` that one alone.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
from stream_rig import Case, StreamRig, stream_rig_for

from reanimate.demo.provider import Behaviour, Fault, Match, answer_text

ONE = os.environ.get("TEST_SEED")
SEEDS = [int(ONE)] if ONE else list(range(int(os.environ.get("TEST_SEEDS", "4"))))
EACH = 20
STREAMS = 100
WIRES = {"main": ("/v1/chat/completions", "backup"), "main-a": ("/v1/messages", "backup-a")}


def _pair(seed: int) -> tuple[str, str]:
    """Return what a seed's main provider and the other one speak."""
    dice = Random(-seed - 1)
    first = dice.choice(list(WIRES))
    same = WIRES[first][1]
    return first, same if dice.random() < 0.7 else {"backup": "backup-a", "backup-a": "backup"}[same]


@pytest.fixture(scope="module")
async def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StreamRig]:
    """A gateway for some of the seeds: each has targets of its own there."""
    first: int = request.param
    more = Counter(_pair(seed) for seed in SEEDS[first : first + EACH])
    patience = {"idle_s": 2.0, "first_token_s": 4.0, "hedge": True}
    async with stream_rig_for(tmp_path_factory.mktemp("seeds"), each=0, more=more, **patience) as running:
        yield running


def _deaths(dice: Random, model: str) -> list[tuple[float, Fault]]:
    """Return what happens to the main provider, and when."""
    match = Match(model=model)
    often = dice.choice((0.2, 0.5, 1.0))
    breaking = [
        Fault("cut", match=match, after=dice.randrange(40), how=how, probability=often / 4, seed=dice.randrange(10**6))
        for how in dice.sample(("rst", "fin", "end"), 2)
    ]
    others = [
        Fault(kind, match=match, after=dice.randrange(40), probability=often / 4, seed=dice.randrange(10**6))
        for kind in dice.sample(("stall", "malformed", "error_event", "no_finish", "no_end"), 2)
    ]
    last = dice.choice(
        (
            Fault("reset", match=match, running=True),
            Fault("close", match=match, running=True),
            Fault("hang", match=match, running=True),
            Fault("refuse"),
            Fault("status", match=match, error="overloaded"),
        )
    )
    return [(0.0, fault) for fault in (*breaking, *others)] + [(dice.uniform(0.02, 0.4), last)]


async def _die(rig: StreamRig, deaths: list[tuple[float, Fault]]) -> None:
    provider = rig.providers["main"]
    now = 0.0
    for at, fault in sorted(deaths, key=lambda death: death[0]):
        await asyncio.sleep(at - now)
        now = at
        provider.fail(fault, *provider.faults)


async def _hear(rig: StreamRig, case: Case, path: str, prompt: str, wait_s: float) -> tuple[str, list[str], int]:
    """Return the text of one answer, its finish reasons, and how many answers its events were of."""
    await asyncio.sleep(wait_s)
    said = {"model": case.route, "stream": True, "max_tokens": 500, "messages": [{"role": "user", "content": prompt}]}
    async with rig.gateway.http.post(rig.gateway.url + path, json=said) as answer:
        body = await answer.text()
        if answer.status != 200:
            return f"{answer.status} {body}", [], 0
    chunks: list[Any] = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
    if errors := [chunk for chunk in chunks if "error" in chunk]:
        return f"{errors}", [], 0
    if path == "/v1/messages":
        text = "".join(chunk.get("delta", {}).get("text", "") for chunk in chunks)
        ends = [chunk["delta"]["stop_reason"] for chunk in chunks if chunk["type"] == "message_delta"]
        return text, ends, sum(chunk["type"] == "message_start" for chunk in chunks)
    choices = [chunk["choices"][0] for chunk in chunks]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    ends = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    return text, ends, len({chunk["id"] for chunk in chunks})


@pytest.mark.parametrize(("rig", "seed"), [(at - at % EACH, seed) for at, seed in enumerate(SEEDS)], indirect=["rig"])
async def test_a_hundred_streams_outlive_the_main_provider(rig: StreamRig, seed: int) -> None:
    dice = Random(seed)
    for provider in rig.providers.values():
        provider.reset()
        provider.behaviour = Behaviour(token_ms=dice.choice((1, 3, 8)))
    first, second = _pair(seed)
    path = WIRES[first][0]
    case = rig.case(first, second)
    prompts = [f"seed {seed}, call {n}: [[tokens={dice.randrange(10, 50)}]]" for n in range(STREAMS)]
    waits = [dice.uniform(0, 0.3) for _ in prompts]
    dying = asyncio.create_task(_die(rig, _deaths(dice, case.model)))
    heard = await asyncio.gather(
        *(_hear(rig, case, path, prompt, wait) for prompt, wait in zip(prompts, waits, strict=True))
    )
    await dying
    end = "end_turn" if path == "/v1/messages" else "stop"
    wrong = [(got, answer_text(p)) for p, got in zip(prompts, heard, strict=True) if got != (answer_text(p), [end], 1)]
    assert not wrong, f"seed {seed}: {len(wrong)} of {STREAMS} are wrong: {wrong[0]}"
