"""Quotas of real calls: a real gateway, a provider that counts its calls, and the ledger."""

import asyncio
import json
import os
import secrets
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from llm_gateway import LlmGateway, llm_gateway_for, provider_toml, route_toml, write_settings
from quota_rig import ControlPlane, until

from reanimate.demo.provider import Fault, Provider


@pytest.fixture
def name() -> str:
    return f"e-{secrets.token_hex(3)}"


def quota_toml(name: str, **fields: Any) -> str:
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())
    return f'[[llm.quotas]]\nname = "{name}"\n{lines}'


@asynccontextmanager
async def limited(
    home: Path,
    control: ControlPlane,
    provider: Provider,
    quota: str,
    *,
    usage_in_streams: bool = True,
    **environment: str,
) -> AsyncIterator[LlmGateway]:
    """A gateway with one provider and one quota, and the control plane that lends."""
    write_settings(
        home,
        provider_toml("main", provider.url, usage_in_streams=usage_in_streams),
        route_toml("chat", ["main/model"], hedge=False, attempts=1, static_answer="later"),
        quota,
    )
    shutil.copy(control.home / "secrets.json", home / "secrets.json")
    async with llm_gateway_for(home, control=control.url, **environment) as gateway:
        yield gateway


async def test_calls__are_refused_before_the_provider_is_asked(
    quota_control: ControlPlane, provider: Provider, tmp_path: Path, name: str
) -> None:
    """What the provider counted is what the ledger says; the client raises a rate limit error that says it all."""
    async with (
        limited(tmp_path, quota_control, provider, quota_toml(name, tokens=2000, reserve=0.25)) as gateway,
        openai.AsyncOpenAI(base_url=gateway.openai_url, api_key="x", max_retries=0) as client,
    ):
        counted = answered = 0
        left = []
        refused: openai.RateLimitError | None = None
        for n in range(100):
            asked = {"model": "chat", "max_tokens": 200, "messages": [{"role": "user", "content": f"question {n}"}]}
            try:
                if n % 2:
                    stream = await client.chat.completions.create(
                        **asked, stream=True, stream_options={"include_usage": True}
                    )
                    usage = [event.usage async for event in stream if event.usage][-1]
                else:
                    raw = await client.chat.completions.with_raw_response.create(**asked)
                    left.append(int(raw.headers["x-reanimate-quota-remaining"]))
                    usage = raw.parse().usage
            except openai.RateLimitError as error:
                refused = error
                break
            answered += 1
            counted += usage.total_tokens
        assert refused is not None
        assert name in refused.message
        assert "of 1,500 tokens this day" in refused.message
        assert int(refused.response.headers["retry-after"]) > 0
        assert len([call for call in provider.calls if "question" in str(call.body)]) == answered
        assert left == sorted(left, reverse=True)
        await until(lambda: quota_control.rows(name)[0]["spent"] == counted)
        assert 1500 - 250 < counted <= 1500


UNCOUNTED: dict[str, Any] = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "model",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "four" * 50}, "finish_reason": "stop"}],
}  # fmt: skip


@pytest.mark.parametrize("told", ["nothing", "zeros", "stream cut before it", "stream without it"])
async def test_calls__that_nobody_counted_cost_what_they_are_long(
    quota_control: ControlPlane, provider: Provider, tmp_path: Path, name: str, told: str
) -> None:
    """A whole answer is neither free nor all 5,000 tokens that were reserved: it is counted, marked as estimated."""
    zeros = {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}} if told == "zeros" else {}
    if told == "stream cut before it":
        provider.fail(Fault("cut", after=24, rest=1, how="fin"))
    elif told != "stream without it":
        provider.fail(Fault("garbage", body=json.dumps(UNCOUNTED | zeros)))
    streamed = told.startswith("stream")
    in_streams = told != "stream without it"
    quota = quota_toml(name, tokens=100_000)
    async with limited(tmp_path, quota_control, provider, quota, usage_in_streams=in_streams) as gateway:
        asked = {"model": "chat", "max_tokens": 5000, "messages": [{"role": "user", "content": "x" * 400}]}
        async with openai.AsyncOpenAI(base_url=gateway.openai_url, api_key="x", max_retries=0) as client:
            answer = await client.chat.completions.with_raw_response.create(stream=streamed, **asked)
            if streamed:
                chunks = [chunk async for chunk in answer.parse()]
                assert chunks[-1].choices[0].finish_reason == "stop"
        headers = {"authorization": f"Bearer {gateway.key}"}
        async with gateway.http.get(
            f"{gateway.control}/calls/{answer.headers['x-reanimate-call']}", headers=headers
        ) as found:
            record = await found.json()
        assert record["usage"]["estimated"] is True
        counted = record["usage"]["input"] + record["usage"]["output"]
        assert record["usage"]["output"] == 50 if not streamed else 24 <= record["usage"]["output"] <= 60
        assert 100 <= record["usage"]["input"] <= 150
        await until(lambda: quota_control.rows(name)[0]["spent"] == counted)
    assert quota_control.rows(name)[0]["spent"] == counted


async def test_calls__that_nobody_answered_cost_nothing(
    quota_control: ControlPlane, provider: Provider, tmp_path: Path, name: str
) -> None:
    """The static answer is no request of the quota; the same question from a good day is one."""
    async with limited(tmp_path, quota_control, provider, quota_toml(name, requests=3, tokens=100_000)) as gateway:
        provider.fail(Fault("status", error="server_error"))
        for n in range(5):
            status, body, _ = await gateway.chat(f"bad {n}")
            assert (status, body["choices"][0]["message"]["content"]) == (200, "later")
        provider.heal()

        async def answered() -> bool:
            status, _, headers = await gateway.chat("good")
            return status == 200 and "x-reanimate-degraded" not in headers

        async with asyncio.timeout(30):
            for _ in range(3):
                while not await answered():  # noqa: ASYNC110 - asking is what is waited for
                    await asyncio.sleep(0.1)
        status, body, _ = await gateway.chat("one more")
        assert (status, body["error"]["code"]) == (429, "quota_exhausted")
        assert "3 requests of 3 requests" in body["error"]["message"]
    assert {row["meter"]: row["spent"] for row in quota_control.rows(name)}["requests"] == 3


async def test_processes__of_one_gateway_share_the_quota(
    quota_control: ControlPlane, provider: Provider, tmp_path: Path, name: str
) -> None:
    """Two processes, a book each; one is killed in the middle and started again: the sum stays right."""
    quota = quota_toml(name, requests=60)
    async with limited(tmp_path, quota_control, provider, quota, REANIMATE_GATEWAY__PROCESSES="2") as gateway:
        await until(lambda: len(list((tmp_path / "gateway").glob("quota*.book"))) == 2, 30.0)

        async def ask(n: int) -> int:
            try:
                return (await gateway.chat(f"n {n}", headers={"connection": "close"}))[0]
            except aiohttp.ClientError:
                return 0  # it was at the process that was killed

        statuses = [await ask(n) for n in range(30)]
        os.kill(worker_of(gateway), signal.SIGKILL)
        statuses += [await ask(n) for n in range(30, 100)]
        assert 60 - 5 <= statuses.count(200) <= 60
        assert statuses[-5:] == [429] * 5
        # What the one that was killed had not told yet is in its book: it tells when it is back.
        await until(lambda: spent(quota_control, name) >= statuses.count(200), 30.0)
    assert statuses.count(200) <= spent(quota_control, name) <= 60


def worker_of(gateway: LlmGateway) -> int:
    first = gateway.process.pid
    return int(Path(f"/proc/{first}/task/{first}/children").read_text().split()[0])


def spent(control: ControlPlane, name: str) -> int:
    return sum(row["spent"] for row in control.rows(name))
