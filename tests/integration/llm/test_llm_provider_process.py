"""The stand-in provider as a process of its own, told over HTTP what to do."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator

import aiohttp
import pytest

from reanimate.demo.provider import Fault, answer_text


@pytest.fixture
async def urls() -> AsyncIterator[tuple[str, str]]:
    """The URLs of a provider process: for callers and for the administration."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "reanimate.demo.provider", "--name", "side", "--token-ms", "2",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    url, word, admin = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().split()
    assert word == "administration"
    yield url, admin
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 5) == 0


async def test_process__administration(urls: tuple[str, str]) -> None:
    """Faults, calls and behaviour by HTTP; the administration answers while callers are refused."""
    url, admin = urls
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    async with aiohttp.ClientSession() as http:

        async def say(method: str, path: str, body: object = None, at: str = admin) -> object:
            async with http.request(method, at + path, json=body) as answer:
                return answer.status, await answer.json()

        async def chat() -> tuple[int, str]:
            async with http.post(f"{url}/v1/chat/completions", json=asked) as answer:
                body = await answer.json()
                return answer.status, body["choices"][0]["message"]["content"] if answer.status == 200 else ""

        assert await say("GET", "/_health") == (200, {"name": "side", "url": url, "admin": admin})
        assert await chat() == (200, answer_text("hi"))
        fault = Fault("status", error="overloaded", times=1)
        assert await say("POST", "/_faults", [{"kind": "status", "error": "overloaded", "times": 1}], at=url) == (
            200,
            [fault.to_json()],
        )
        assert [(await chat())[0] for _ in range(2)] == [503, 200]
        async with http.get(f"{admin}/_calls") as answer:
            calls = await answer.json()
        assert [(call["status"], call["faults"], call["ended"], call["body"]) for call in calls] == [
            (200, [], "answered", asked),
            (503, ["status"], "answered", asked),
            (200, [], "answered", asked),
        ]
        assert await say("DELETE", "/_calls") == (200, [])
        assert await say("GET", "/_calls") == (200, [])
        await say("POST", "/_faults", [{"kind": "refuse"}])
        with pytest.raises(aiohttp.ClientConnectionError):
            await chat()
        assert await say("DELETE", "/_faults") == (200, [])
        assert await say("GET", "/_faults") == (200, [])
        assert (await chat())[0] == 200
        await say("PUT", "/_behaviour", {"tokens": 3})
        assert await chat() == (200, answer_text("hi", 3))
        assert await say("POST", "/_reset") == (200, {})
        assert await chat() == (200, answer_text("hi"))
        for path, body in (("/_faults", [{"kind": "explode"}]), ("/_faults", {}), ("/_calls", None)):
            status, _ = await say("POST", path, body)  # type: ignore[misc]
            assert status == (422 if path == "/_faults" else 404)
