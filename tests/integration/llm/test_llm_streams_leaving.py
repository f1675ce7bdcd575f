"""Streams that somebody leaves: the caller, the provider's process, the call's time; and callers that read slowly."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
from llm_gateway import LlmGateway, llm_gateway_for, provider_toml, route_toml, write_settings
from raw_server import Peer, serving
from stream_rig import Case, StreamRig, stream_rig_for

from reanimate.demo.provider import Behaviour, Provider, answer_text


@pytest.fixture(scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StreamRig]:
    async with stream_rig_for(
        tmp_path_factory.mktemp("streams"), each=4, more={("main", "backup"): 20}, first_token_s=1.0
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def _well(rig: StreamRig) -> None:
    for provider in rig.providers.values():
        provider.reset()


def _ask(rig: StreamRig, case: Case, path: str = "/v1/chat/completions", **fields: Any) -> Any:
    said = {"model": case.route, "stream": True, "messages": [{"role": "user", "content": case.prompt}], **fields}
    return rig.gateway.http.post(rig.gateway.url + path, json=said)


async def _left(case: Case, where: str) -> float:
    """Wait until a provider has lost its caller; return when, by the steady clock."""
    async with asyncio.timeout(2):
        await case.rig.providers[where].ended()
    assert case.asked(where)[-1].ended == "client closed"
    return time.monotonic()


@pytest.mark.timed
@pytest.mark.parametrize(("first", "path"), [("main", "/v1/chat/completions"), ("main-a", "/v1/messages")])
async def test_a_caller_that_leaves_takes_the_upstream_call_along(rig: StreamRig, first: str, path: str) -> None:
    case = rig.case(first, "backup" if first == "main" else "backup-a", prompt=" [[tokens=5000]]")
    rig.providers["main"].behaviour = Behaviour(token_ms=5)
    async with _ask(rig, case, path, max_tokens=9000) as answer:
        await answer.content.readany()
        await asyncio.sleep(0.1)
        answer.close()
        left = time.monotonic()
    assert await _left(case, "main") - left < 0.1
    assert case.counts == (1, 0)


@pytest.mark.timed
async def test_a_caller_that_leaves_before_the_first_token_does_so_too(rig: StreamRig) -> None:
    case = rig.case()
    case.breaks("late_body", ms=5000)
    with pytest.raises(asyncio.TimeoutError):
        async with asyncio.timeout(0.15), _ask(rig, case):
            pass
    left = time.monotonic()
    assert await _left(case, "main") - left < 0.1
    assert case.counts == (1, 0)


@pytest.mark.timed
async def test_a_caller_that_leaves_while_another_provider_is_asked_to_go_on_does_so_too(rig: StreamRig) -> None:
    case = rig.case()
    case.breaks("cut", how="fin", after=5)
    case.breaks("late_body", where="backup", ms=5000)
    async with _ask(rig, case) as answer:
        await answer.content.readany()
        await asyncio.sleep(0.3)
        assert case.asked("backup")
        answer.close()
        left = time.monotonic()
    assert await _left(case, "backup") - left < 0.1
    assert case.counts == (1, 1)


@pytest.mark.parametrize("kind", ["late_body", "hang", "reset", "garbage", "cut", "malformed", "error_event"])
async def test_nothing_of_a_provider_that_brings_no_token_reaches_the_caller(rig: StreamRig, kind: str) -> None:
    """Its head, and the role that comes first, may have been there."""
    case = rig.case()
    case.breaks(kind, **({"ms": 1000} if kind == "late_body" else {}))
    head = {}
    async with asyncio.timeout(15), _ask(rig, case) as answer:
        head = answer.headers
        body = await answer.text()
    chunks = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == answer_text(case.prompt)
    assert len({chunk["id"] for chunk in chunks}) == 1
    if kind != "late_body":
        assert head["x-reanimate-target"] == f"backup/{case.model}"
        assert "reanimate continued" not in body


@pytest.mark.timed
async def test_the_time_of_a_call_ends_a_stream_with_an_error(tmp_path: Path) -> None:
    async with stream_rig_for(tmp_path, deadline_s=0.5) as rig:
        case, other = rig.case(prompt=" [[tokens=5000]]"), rig.case("main-a", "backup-a", prompt=" [[tokens=5000]]")
        rig.providers["main"].behaviour = Behaviour(token_ms=5)
        began = time.monotonic()
        with pytest.raises(openai.APIError, match="time of route"):
            await rig.read_chat(case)
        assert 0.4 < time.monotonic() - began < 0.9
        with pytest.raises(anthropic.APIError, match="time of route"):
            await rig.read_message(other, max_tokens=9000)
        await _left(case, "main")
        await _left(other, "main")
        assert case.counts == other.counts == (1, 0)


async def _process(*options: str) -> tuple[asyncio.subprocess.Process, str]:
    """Start a provider as a process of its own; return it and its URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "reanimate.demo.provider", "--port", "0", *options, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    return process, line.split()[0]


async def test_a_provider_that_is_killed_in_the_middle_of_its_answers_costs_nobody_a_character(tmp_path: Path) -> None:
    process, url = await _process("--name", "main", "--token-ms", "20")
    try:
        async with Provider("backup", behaviour=Behaviour(token_ms=1)) as backup:
            parts = [
                provider_toml(name, where, wire, [{"name": "model"}])
                for name, where, wire in (
                    ("main", url, "openai"), ("main-a", url, "anthropic"),
                    ("backup", backup.url, "openai"), ("backup-a", backup.url, "anthropic"),
                )
            ]  # fmt: skip
            routes = [
                route_toml("chat", ["main/model", "backup/model"], hedge=False),
                route_toml("claude", ["main-a/model", "backup-a/model"], hedge=False),
            ]
            write_settings(tmp_path, *parts, *routes)
            async with llm_gateway_for(tmp_path) as gateway:
                prompts = [f"call {n}: how is the replica?" for n in range(20)]
                asked = [asyncio.create_task(_heard(gateway, prompt, n % 2)) for n, prompt in enumerate(prompts)]
                await asyncio.sleep(0.35)
                os.kill(process.pid, signal.SIGKILL)
                assert await asyncio.gather(*asked) == [(answer_text(prompt), 1) for prompt in prompts]
                assert len(backup.calls) == 20
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _heard(gateway: LlmGateway, prompt: str, wire: int) -> tuple[str, int]:
    """Return the text of a streamed answer, and how many finish reasons it had."""
    path, model = (("/v1/chat/completions", "chat"), ("/v1/messages", "claude"))[wire]
    said = {"model": model, "stream": True, "max_tokens": 1000, "messages": [{"role": "user", "content": prompt}]}
    async with gateway.http.post(gateway.url + path, json=said) as answer:
        body = await answer.text()
    text, ends = "", 0
    for line in body.splitlines():
        if line.startswith("data: {"):
            data = json.loads(line[6:])
            if wire:
                text += data.get("delta", {}).get("text", "")
                ends += data["type"] == "message_delta"
            else:
                text += data["choices"][0]["delta"].get("content") or ""
                ends += data["choices"][0]["finish_reason"] is not None
    return text, ends


async def test_a_caller_that_reads_slowly_makes_the_provider_wait(tmp_path: Path) -> None:
    """The gateway keeps a small part of a large answer, not all of it; and its slowness is not taken for a stall."""
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "model"}
    piece = json.dumps({**chunk, "choices": [{"index": 0, "delta": {"content": "x" * 10_000}, "finish_reason": None}]})
    last = json.dumps({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    pieces = 3_000
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for _ in range(pieces):
            await peer.say(f"data: {piece}\n\n".encode())
            sent += 1
        await peer.say(f"data: {last}\n\ndata: [DONE]\n\n".encode())
        peer.writer.close()

    async with serving(script) as server:
        write_settings(
            tmp_path,
            provider_toml("main", server.url, models=[{"name": "model"}]),
            route_toml("chat", ["main/model"], idle_s=0.3, hedge=False),
        )
        async with llm_gateway_for(tmp_path) as gateway, aiohttp.ClientSession(read_bufsize=65536) as http:
            said = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
            async with http.post(f"{gateway.openai_url}/chat/completions", json=said) as answer:
                await answer.content.read(1)
                await asyncio.sleep(1.0)
                held = sent
                assert held < pieces * 0.7
                body = await answer.content.read()
    assert body.count(b"x" * 10_000) == pieces
    assert body.endswith(b"data: [DONE]\n\n")
