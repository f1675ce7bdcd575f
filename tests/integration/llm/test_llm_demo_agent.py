"""The demo's streaming agent notices whatever is wrong with an answer; its providers come and go with the demo."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from reanimate.demo.chat_agent import ChatAgent, ChatCount
from reanimate.demo.local_providers import LocalProviders
from reanimate.demo.provider import Behaviour, Fault, Provider


async def _asked(provider: Provider, seconds: float = 0.35) -> ChatCount:
    """Let the agent ask a provider, with nothing between them."""
    async with ChatAgent(provider.url, ["a snapshot", "a replica"]).asking() as count:
        await asyncio.sleep(seconds)
    assert count.asked == count.whole + count.failures() >= 3
    return count


@pytest.mark.timed
async def test_agent__counts_whole_answers(provider: Provider) -> None:
    provider.behaviour = Behaviour(token_ms=2)
    count = await _asked(provider)
    assert (count.whole, count.failures(), count.first_failure) == (count.asked, 0, "")
    assert 0 < count.slowest_first_s < 0.3
    assert 0 < count.slowest_gap_s < 0.3
    assert [call.ended for call in provider.calls] == ["answered"] * count.asked


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (Fault("cut", after=7), "cut"),
        (Fault("cut", after=7, how="end"), "cut"),
        (Fault("error_event", after=7), "cut"),
        (Fault("no_finish"), "cut"),
        (Fault("no_end"), "cut"),
        (Fault("malformed", after=7), "cut"),
        (Fault("status", error="overloaded"), "lost"),
        (Fault("reset"), "lost"),
        (Fault("refuse"), "lost"),
        (Fault("garbage", garbage="html"), "lost"),
        (Fault("error_event"), "lost"),
    ],
)
async def test_agent__counts_what_is_wrong(provider: Provider, fault: Fault, what: str) -> None:
    provider.fail(fault)
    count = await _asked(provider)
    assert (getattr(count, what), count.failures()) == (count.asked, count.asked)
    assert count.first_failure.startswith("question ")


async def test_agent__counts_answers_in_another_voice_as_wrong(provider: Provider) -> None:
    provider.behaviour = Behaviour(voice="another")
    count = await _asked(provider)
    assert (count.wrong, count.whole) == (count.asked, 0)


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return True
    return False


async def test_providers__hold_their_ports_obey_and_end(tmp_path: Path) -> None:
    """Ports are known before the processes are there; faults are set by name; at the end nobody is left."""
    with LocalProviders() as providers:
        urls = dict(providers.urls)
        assert list(urls) == ["main", "spare"]
        assert f'wire = "openai"\nurl = "{urls["main"]}/v1"' in providers.settings()
        assert f'wire = "anthropic"\nurl = "{urls["spare"]}"' in providers.settings()
        await providers.start(tmp_path, follow=os.getpid(), keep=False)
        pids = [process.pid for process in providers._processes]
        await providers.fail("main", [{"kind": "status", "error": "rate_limit"}])
        counts: list[Any] = []
        for url in urls.values():
            async with ChatAgent(url, ["a snapshot"]).asking() as count:
                await asyncio.sleep(0.15)
            counts.append((count.lost == count.asked, count.whole == count.asked))
        assert counts == [(True, False), (False, True)]
    assert all(_gone(pid) for pid in pids)


async def test_providers__kept_end_with_what_they_follow(tmp_path: Path) -> None:
    followed = await asyncio.create_subprocess_exec("sleep", "60")
    with LocalProviders() as providers:
        await providers.start(tmp_path, follow=followed.pid, keep=True)
        processes = providers._processes
    assert all(process.poll() is None for process in processes)
    followed.kill()
    await followed.wait()
    assert [await asyncio.to_thread(process.wait, 5) for process in processes] == [0, 0]
