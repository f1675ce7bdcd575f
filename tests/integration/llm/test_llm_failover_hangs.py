"""Providers that are silent, or slow: who is asked beside them, what that costs, and that nobody waits for long."""

import asyncio
import time
from dataclasses import replace

import pytest
from failover_rig import Rig, rig_for, users_in

from reanimate.demo.provider import Behaviour, Fault, Provider, answer_text
from reanimate.gateway.llm.failover.verdict import AllFailed

BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


async def _timed(rig: Rig, stream: bool) -> float:
    began = time.monotonic()
    _, text = await rig.ask(stream=stream)
    assert text == answer_text("Hello")
    return time.monotonic() - began


@pytest.mark.timed
@BOTH
async def test_hang__the_slowest_call_of_the_first_second_takes_half_a_second(
    stream: bool, providers: tuple[Provider, Provider]
) -> None:
    """Twenty callers at once the moment it begins, and one every 20 ms from then on; nobody is failed."""
    main, backup = providers
    async with rig_for(main, backup) as rig:
        await rig.warm(stream=stream)
        main.calls.clear()
        main.fail(Fault("hang"))
        calls = [asyncio.create_task(_timed(rig, stream)) for _ in range(20)]
        for _ in range(50):
            await asyncio.sleep(0.02)
            calls.append(asyncio.create_task(_timed(rig, stream)))
        took = await asyncio.gather(*calls)
        assert max(took) <= 0.5
        assert len(users_in(main)) <= 25, "once it is suspected nobody is sent there"


@pytest.mark.timed
@BOTH
async def test_hang__who_loses_is_left_within_100_ms(stream: bool, providers: tuple[Provider, Provider]) -> None:
    """The provider sees its caller go, soon after the other one's answer; what it cost is counted."""
    main, backup = providers
    async with rig_for(main, backup, probes=False) as rig:
        await rig.warm(stream=stream)
        main.calls.clear()
        main.fail(Fault("hang"))
        call, _ = await rig.ask(stream=stream)
        await main.ended()
        assert [one.ended for one in main.calls] == ["client closed"]
        assert main.calls[0].ms < 50 + 100
        first, second = call.attempts
        assert (first.target.name, first.lost_race, first.failure, first.served) == ("main/model", True, None, False)
        assert (second.target.name, second.purpose, second.served) == ("backup/model", "hedge", True)
        assert first.usage is not None
        assert first.usage.input_tokens > 0
        assert call.degraded == ["main/model: late"]


@pytest.mark.timed
@BOTH
async def test_hang__a_silent_provider_is_not_asked_again_for_the_same_call(
    stream: bool, providers: tuple[Provider, Provider]
) -> None:
    """Without hedging it is given up after the time to the first token; its other models are not asked either."""
    main, backup = providers
    own = {"main": {"models": [{"name": "one"}, {"name": "two"}]}}
    targets = ["main/one", "main/two", "backup/model"]
    async with rig_for(main, backup, own=own, targets=targets, hedge=False, first_token_s=0.3, probes=False) as rig:
        main.fail(Fault("hang"))
        took = await _timed(rig, stream)
        assert 0.3 <= took < 0.6
        assert [call.model for call in main.calls] == ["one"]
        await main.ended()
        assert main.calls[0].ended == "client closed"


@pytest.mark.timed
async def test_hang__when_everybody_is_silent_the_caller_is_told_in_time(
    providers: tuple[Provider, Provider],
) -> None:
    """504, each provider asked once."""
    main, backup = providers
    async with rig_for(main, backup, first_token_s=0.3, probes=False) as rig:
        for provider in providers:
            provider.fail(Fault("hang"))
        began = time.monotonic()
        with pytest.raises(AllFailed) as raised:
            await rig.ask()
        assert time.monotonic() - began < 1.2
        assert raised.value.status == 504
        assert (len(main.calls), len(backup.calls)) == (1, 1)


@pytest.mark.timed
async def test_hang__the_calls_deadline_holds_whatever_is_underway(providers: tuple[Provider, Provider]) -> None:
    """All attempts together."""
    main, backup = providers
    async with rig_for(main, backup, deadline_s=0.5, probes=False) as rig:
        for provider in providers:
            provider.fail(Fault("hang"))
        began = time.monotonic()
        with pytest.raises(AllFailed) as raised:
            await rig.ask()
        assert 0.45 < time.monotonic() - began < 0.8
        assert (raised.value.status, raised.value.kind) == (504, "deadline")


@pytest.mark.timed
@BOTH
async def test_stall__before_the_first_token_is_a_hang(stream: bool, providers: tuple[Provider, Provider]) -> None:
    """A head is no answer."""
    main, backup = providers
    async with rig_for(main, backup, probes=False) as rig:
        await rig.warm(stream=stream)
        main.fail(Fault("late_body", ms=60_000))
        assert await _timed(rig, stream) < 0.3


async def test_late__the_first_good_answer_wins_whoever_gives_it(providers: tuple[Provider, Provider]) -> None:
    """The first provider is late but still sooner than the second one: its answer is taken, the other is left."""
    main, backup = providers
    async with rig_for(main, backup, probes=False) as rig:
        await rig.warm()
        backup.behaviour = Behaviour(think_ms=400)
        main.fail(Fault("delay", ms=120))
        call, text = await rig.ask()
        assert text == answer_text("Hello")
        assert [(one.target.name, one.served, one.lost_race) for one in call.attempts] == [
            ("main/model", True, False),
            ("backup/model", False, True),
        ]
        assert call.degraded == []
        await backup.ended()
        assert backup.calls[-1].ended == "client closed"


async def test_late__a_second_one_that_fails_does_not_end_the_first(providers: tuple[Provider, Provider]) -> None:
    """It is late; the one that was asked beside it answers 500; the late answer is still taken."""
    main, backup = providers
    async with rig_for(main, backup, probes=False) as rig:
        await rig.warm()
        main.fail(Fault("delay", ms=150))
        backup.fail(Fault("status", error="server_error"))
        call, text = await rig.ask()
        assert text == answer_text("Hello")
        assert call.answered_by is not None
        assert call.answered_by.name == "main/model"
        assert len(backup.calls) == 1


async def test_late__asking_twice_is_bounded_while_the_provider_is_well(providers: tuple[Provider, Provider]) -> None:
    """Every fourth answer is late: a tenth of the calls is asked twice, and what was saved up before; not a quarter."""
    main, backup = providers
    async with rig_for(main, backup, hedge_max_s=0.05, hedge_share=0.1, probes=False) as rig:
        await rig.warm(200)
        backup.calls.clear()
        backup.behaviour = replace(backup.behaviour, think_ms=200)
        for number in range(60):
            if number % 4 == 0:
                main.fail(Fault("delay", ms=80, times=1))
            await rig.ask()
        assert 1 <= len(backup.calls) <= 6 + 5


async def test_late__no_second_one_is_asked_where_the_route_does_not_want_it(
    providers: tuple[Provider, Provider],
) -> None:
    """hedge = false: the late answer is waited for."""
    main, backup = providers
    async with rig_for(main, backup, hedge=False, probes=False) as rig:
        await rig.warm()
        main.fail(Fault("delay", ms=200))
        call, _ = await rig.ask()
        assert len(call.attempts) == 1
        assert len(backup.calls) == 0


@pytest.mark.timed
async def test_leaving__a_caller_who_goes_takes_all_requests_with_it(providers: tuple[Provider, Provider]) -> None:
    """Both providers see their caller go within 100 ms."""
    main, backup = providers
    async with rig_for(main, backup, probes=False) as rig:
        await rig.warm()
        for provider in providers:
            provider.calls.clear()
            provider.fail(Fault("hang"))
        call = rig.call()
        task = asyncio.create_task(rig.open(call))
        await asyncio.sleep(0.2)
        assert (len(main.calls), len(backup.calls)) == (1, 1)
        left = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await main.ended()
        await backup.ended()
        assert time.monotonic() - left < 0.1
        assert {one.ended for one in (*main.calls, *backup.calls)} == {"client closed"}
        assert not any(attempt.lost_race or attempt.served for attempt in call.attempts), "there was no winner"
        assert all(attempt.ended is not None for attempt in call.attempts)
