"""Second opinions from other people's programs: a judge of clients, a real proxy, and a real model that is killed."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
from llm_gateway import LlmGateway, llm_gateway_for, provider_toml, route_toml, write_settings
from llm_peers import envoy_before, llmock, small_model

from reanimate.demo.provider import Behaviour, Fault, Provider, answer_text

MODEL: Any = {"name": "m", "prefill": True}


def _said(text: str) -> Any:
    return [{"role": "user", "content": text}]


@asynccontextmanager
async def _gateway(home: Path, **urls: str) -> AsyncIterator[tuple[LlmGateway, openai.AsyncOpenAI]]:
    """Run a gateway with one route over these providers, in this order, and a client of it that never asks twice."""
    providers = [provider_toml(name, url, models=[MODEL]) for name, url in urls.items()]
    write_settings(home, *providers, route_toml("chat", [f"{name}/m" for name in urls], idle_s=1.0, first_token_s=2.5))
    async with llm_gateway_for(home) as gateway:
        client = openai.AsyncOpenAI(base_url=gateway.openai_url, api_key="k", max_retries=0, timeout=15)
        async with client:
            yield gateway, client


async def _streamed(client: openai.AsyncOpenAI, text: str, **options: Any) -> tuple[str, str | None]:
    """Return the text of a streamed answer and why it ended."""
    said, finish = "", None
    async for event in await client.chat.completions.create(model="chat", messages=_said(text), stream=True, **options):
        for choice in event.choices:
            said += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return said, finish


async def test_llmock__has_nothing_against_the_gateways_retries(tmp_path: Path) -> None:
    """A 429 is not asked again before its time, what is final is asked once, an outage makes no storm."""
    async with llmock(tmp_path) as mock, _gateway(tmp_path / "home", main=mock.url) as (gateway, _):

        async def judged(text: str, **failure: Any) -> tuple[int, int, list[str]]:
            """Have it fail, ask; return the status that the caller got, the attempts, and what is held against us."""
            await mock.say("POST", "/_llmock/reset")
            await mock.say("POST", "/_llmock/scenario", {"behaviors": [{"type": "fail", **failure}]})
            status, _, _ = await gateway.chat(text)
            verdict = await mock.say("GET", "/_llmock/verdict")
            faults = [finding["code"] for finding in verdict["findings"] if finding["severity"] == "error"]
            return status, verdict["attempts"], faults

        status, attempts, faults = await judged("limited", status=429, retry_after=0.4, times=1)
        assert (status, faults) == (200, [])
        assert 2 <= attempts <= 4
        # One pause is waited for; who asks for another one after it is passed on to the caller, who may come back.
        status, attempts, faults = await judged("limited for longer", status=429, retry_after=0.4, times=2)
        assert (status, faults) == (429, [])
        assert 2 <= attempts <= 3
        await asyncio.sleep(1)
        status, attempts, faults = await judged("a lone failure", status=503, retry_after=0.2, times=1)
        assert (status, faults) == (200, [])
        assert 2 <= attempts <= 4
        for final in (400, 422):
            assert await judged(f"final {final}", status=final, times=1) == (final, 1, [])
        status, attempts, faults = await judged("an outage", status=503, retry_after=1, times=None)
        assert (status in (502, 503), faults) == (True, [])
        assert attempts <= 5


async def test_envoy__resets_and_errors_of_a_real_proxy_are_not_noticed(
    tmp_path: Path, providers: tuple[Provider, Provider]
) -> None:
    """Envoy turns its upstream's resets into its own: 503 with a text, or a stream that is cut. Answers stay whole."""
    main, spare = providers
    main.behaviour = spare.behaviour = Behaviour(token_ms=2)
    async with (
        envoy_before(main.url, tmp_path) as envoy,
        _gateway(tmp_path / "home", main=envoy.url, spare=spare.url) as (_, client),
    ):
        assert await _streamed(client, "well") == (answer_text("well"), "stop")
        assert (main.total, spare.total) == (1, 0)
        main.fail(Fault("cut", after=9, how="rst", times=1))
        assert await _streamed(client, "cut") == (answer_text("cut"), "stop")
        assert (main.total, spare.total) == (2, 1)
        main.fail(Fault("reset"))
        assert await _streamed(client, "reset") == (answer_text("reset"), "stop")
        main.heal()
        abort = "/runtime_modify?fault.http.abort.abort_percent=100&fault.http.abort.http_status="
        for status in (500, 429):
            await envoy.say("POST", f"{abort}{status}")
            answer = await client.chat.completions.create(model="chat", messages=_said(f"status {status}"))
            assert answer.choices[0].message.content == answer_text(f"status {status}")


async def test_real_model__killed_in_the_middle_of_an_answer(tmp_path: Path) -> None:
    """The other model goes on to the character: the caller gets one whole answer, and hears who gave which part."""
    question = "Tell the story of a lighthouse keeper who finds a letter in a bottle."
    options: Any = {"temperature": 0, "max_tokens": 64}
    async with (
        small_model(tmp_path, "main") as main,
        small_model(tmp_path, "spare") as spare,
        _gateway(tmp_path / "home", main=main.url, spare=spare.url) as (gateway, client),
    ):
        whole, _ = await _streamed(client, question, **options)
        first, second, finish = "", "", None
        async with gateway.http.post(
            f"{gateway.url}/v1/chat/completions",
            json={"model": "chat", "messages": _said(question), "stream": True, **options},
        ) as answer:
            assert answer.headers["x-reanimate-target"] == "main/m"
            continued = b""
            async for line in answer.content:
                if line.startswith(b": reanimate continued"):
                    continued = line.strip()
                if not line.startswith(b"data: {"):
                    continue
                for choice in json.loads(line[6:])["choices"]:
                    text = choice["delta"].get("content") or ""
                    first, second = (first, second + text) if continued else (first + text, second)
                    finish = choice["finish_reason"] or finish
                if len(first) > len(whole) // 4 and main.alive:
                    main.kill()
        assert continued == b": reanimate continued by spare/m"
        assert whole.startswith(first)
        assert len(first) > len(whole) // 4
        assert finish in ("stop", "length")
        # What the other model says by itself when it is given the first part as the beginning of its answer.
        async with openai.AsyncOpenAI(base_url=f"{spare.url}/v1", api_key="k") as direct:
            said = [*_said(question), {"role": "assistant", "content": first.rstrip()}]
            rest = ""
            async for event in await direct.chat.completions.create(model="m", messages=said, stream=True, **options):
                rest += "".join(choice.delta.content or "" for choice in event.choices)
        assert len(second) > 20
        assert (first.rstrip() + rest).startswith(first + second)
