"""Outages as a whole: no storm, nobody is sent to find out, and the way back."""

import asyncio
import statistics
import time
from dataclasses import replace

import pytest
from failover_rig import Rig, probes_in, rig_for, users_in

from reanimate.demo.provider import Behaviour, Fault, Match, Provider, answer_text
from reanimate.gateway.llm.failover.verdict import AllFailed

OUTAGES = {
    "429": Fault("status", error="rate_limit", headers={"retry-after": "1", "retry-after-ms": "500"}),
    "500": Fault("status", error="server_error"),
    "overloaded": Fault("status", error="overloaded"),
    "reset": Fault("reset"),
    "refuse": Fault("refuse"),
    "hang": Fault("hang"),
    "garbage": Fault("garbage", garbage="html"),
}


async def _load(rig: Rig, seconds: float, stream: bool = False) -> list[float]:
    """Ask every 5 ms; return how long each took."""
    took = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.perf_counter()
        _, text = await rig.ask(stream=stream)
        took.append(time.perf_counter() - began)
        assert text == answer_text("Hello")
        await asyncio.sleep(0.005)
    return took


@pytest.mark.parametrize("name", OUTAGES)
async def test_outage__costs_its_callers_almost_nothing(name: str, providers: tuple[Provider, Provider]) -> None:
    """Once it is known, no call goes there, and calls take as long as on a good day."""
    main, backup = providers
    async with rig_for(main, backup) as rig:
        await rig.warm()
        healthy = statistics.median(await _load(rig, 0.3))
        main.fail(OUTAGES[name])
        await asyncio.gather(*(rig.ask() for _ in range(20)))
        await asyncio.sleep(0.05)
        main.calls.clear()
        outage = statistics.median(await _load(rig, 0.4))
        assert users_in(main) == [], "nobody is sent there to find out"
        # 1.2 is measured by the benchmark on a quiet machine; this one would fail for a timeout or a back-off.
        assert outage < healthy * 2 + 0.001


@pytest.mark.parametrize("name", ["500", "reset"])
async def test_storm__two_hundred_callers_at_once_make_no_storm(
    name: str, providers: tuple[Provider, Provider]
) -> None:
    """All are answered; each provider gets each call at most once, but for the few quick retries of the budget."""
    main, backup = providers
    async with rig_for(main, backup, probes=False) as rig:
        main.fail(OUTAGES[name])
        answers = await asyncio.gather(*(rig.ask(f"q{number}") for number in range(200)))
        assert [text for _, text in answers] == [answer_text(f"q{number}") for number in range(200)]
        assert len(main.calls) <= 200 + 10
        assert len(backup.calls) == 200


async def test_storm__when_all_fail_each_provider_gets_a_call_once_and_a_tenth_more(
    providers: tuple[Provider, Provider],
) -> None:
    """Callers one after the other, while no breaker stays open: the retry budget is what holds."""
    main, backup = providers
    async with rig_for(main, backup, probes=False) as rig:
        for provider in providers:
            provider.fail(Fault("status", error="server_error"))
        failed = 0
        for number in range(100):
            for line in rig.health.lines():
                if number % 2 == 0:  # as if something good had come in between
                    line.breaker = type(line.breaker)()
            try:
                await rig.ask()
            except AllFailed:
                failed += 1
        assert failed == 100
        assert len(main.calls) <= 100 + 10 + 10


@pytest.mark.parametrize("name", OUTAGES)
async def test_return__within_two_seconds_after_it_heals(name: str, providers: tuple[Provider, Provider]) -> None:
    """By the gateway's own probes, whatever the outage was; the first call that goes there is answered there."""
    main, backup = providers
    async with rig_for(main, backup) as rig:
        await rig.warm()
        main.fail(OUTAGES[name])
        await _load(rig, 0.6)
        assert rig.standing("main/model") in ("OPEN", "SUSPECT")
        main.heal()
        assert await rig.back("main/model") < 2.0


async def test_return__is_ramped(providers: tuple[Provider, Provider]) -> None:
    """At first a twentieth of the calls, then more, within a few seconds all."""
    main, backup = providers
    async with rig_for(main, backup) as rig:
        await rig.warm()
        main.fail(OUTAGES["500"])
        await _load(rig, 0.3)
        main.heal()
        main.calls.clear()
        backup.calls.clear()
        steps: dict[str, list[int]] = {}
        line = rig.health.lines()[0]
        until = time.monotonic() + 4.0
        while rig.standing("main/model") != "CLOSED" and time.monotonic() < until:
            step = f"{line.breaker.share:g}"
            call, _ = await rig.ask()
            assert call.answered_by is not None
            steps.setdefault(step, []).append(call.answered_by.name == "main/model")
            await asyncio.sleep(0.002)
        assert rig.standing("main/model") == "CLOSED"
        assert sum(steps["0"]) == 0
        for share in (0.05, 0.25, 0.5):
            taken = steps[f"{share:g}"]
            assert abs(sum(taken) - share * len(taken)) <= 2, f"{share:.0%} of {len(taken)} calls, got {sum(taken)}"
        call, _ = await rig.ask()
        assert call.answered_by is not None
        assert call.answered_by.name == "main/model"


async def test_return__a_relapse_sends_everybody_back_at_once(providers: tuple[Provider, Provider]) -> None:
    """What fails again while it is coming back costs a few calls a second attempt, and no caller its answer."""
    main, backup = providers
    async with rig_for(main, backup) as rig:
        await rig.warm()
        for _ in range(3):
            main.fail(OUTAGES["500"])
            await _load(rig, 0.2)
            main.heal()
            await rig.back("main/model")
            main.fail(OUTAGES["500"])
            main.calls.clear()
            await _load(rig, 0.3)
            assert len(users_in(main)) <= 4


@pytest.mark.timed
async def test_flapping__no_caller_notices(providers: tuple[Provider, Provider]) -> None:
    """Well for 150 ms, out for 150 ms, for two seconds; every answer is right, and most are the other one's."""
    main, backup = providers
    async with rig_for(main, backup) as rig:
        await rig.warm()
        main.fail(Fault("reset", good_s=0.15, bad_s=0.15))
        main.calls.clear()
        took = await _load(rig, 2.0)
        failed = sum(call.ended == "rst" for call in users_in(main))
        assert failed < len(took) / 10
        assert max(took) < 0.5


async def test_probes__are_tiny_few_and_asked_of_the_model(providers: tuple[Provider, Provider]) -> None:
    """One token each, and not more than four a second."""
    main, backup = providers
    async with rig_for(main, backup) as rig:
        main.fail(OUTAGES["500"])
        await _load(rig, 1.5)
        probes = probes_in(main)
        assert 3 <= len(probes) <= 7
        assert all((probe.path, probe.body["max_tokens"]) == ("/v1/chat/completions", 1) for probe in probes)
        assert all(len(probe.raw) < 100 for probe in probes)


async def test_probes__of_an_anthropic_provider_are_messages(providers: tuple[Provider, Provider]) -> None:
    """In its own wire, with its own key."""
    main, backup = providers
    own = {"main": {"wire": "anthropic"}, "backup": {"wire": "anthropic"}}
    async with rig_for(main, backup, own=own) as rig:
        main.fail(Fault("status", error="overloaded"))
        for _ in range(2):
            await rig.ask(path="/v1/messages", max_tokens=100)
        main.heal()
        await rig.closed("main/model")
        assert {probe.path for probe in probes_in(main)} == {"/v1/messages"}
        assert probes_in(main)[-1].headers["x-api-key"] == "key-1"


async def test_probes__cost_no_more_than_the_hours_tokens(providers: tuple[Provider, Provider]) -> None:
    """When they are spent, what costs nothing is asked: GET /models. It still comes back."""
    main, backup = providers
    async with rig_for(main, backup, llm={"probe_tokens_per_hour": 48}) as rig:
        await rig.warm()
        main.calls.clear()
        main.fail(OUTAGES["hang"])
        await rig.warm(3)
        await asyncio.sleep(2.0)
        paid = [probe for probe in probes_in(main) if probe.method == "POST"]
        assert 1 <= len(paid) <= 2
        free = [probe for probe in probes_in(main) if probe.method == "GET"]
        assert {probe.path for probe in free} == {"/v1/models"}
        main.heal()
        assert await rig.back("main/model") < 2.5


async def test_probes__a_fault_of_streams_is_probed_with_a_stream(providers: tuple[Provider, Provider]) -> None:
    """Whoever cuts streams may answer well otherwise: it is not taken back before a stream comes to its end."""
    main, backup = providers
    async with rig_for(main, backup) as rig:
        main.fail(Fault("cut", after=1, match=Match(stream=True)))
        for _ in range(4):
            call = rig.call(stream=True)
            opened = await rig.open(call)
            assert opened.reader is not None
            try:
                while await opened.reader.next():
                    pass
            except Exception as broken:  # noqa: BLE001  what it is called is the reader's own test
                opened.finished(broken.failure)  # type: ignore[attr-defined]
            else:
                opened.finished(None)
        await asyncio.sleep(1.0)
        assert rig.standing("main/model") == "OPEN"
        assert all(probe.stream for probe in probes_in(main))
        main.heal()
        assert await rig.back("main/model") < 2.0


@pytest.mark.timed
async def test_slow__a_provider_that_has_become_slow_is_left_for_the_other(
    providers: tuple[Provider, Provider],
) -> None:
    """It answers, but late: slow calls count, and callers are spared after the first few."""
    main, backup = providers
    async with rig_for(main, backup) as rig:
        await rig.warm()
        main.behaviour = replace(Behaviour(), think_ms=300)
        took = await _load(rig, 1.5)
        assert statistics.median(took) < 0.05
        assert max(took) < 0.5
