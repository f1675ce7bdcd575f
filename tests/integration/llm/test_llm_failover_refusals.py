"""Errors that a second attempt does not help, or only with another key or a larger model; and what callers are told."""

import asyncio
import time
from typing import Any

import pytest
from failover_rig import rig_for, users_in

from reanimate.demo.provider import Fault, Match, Provider, answer_text
from reanimate.gateway.llm.failover.verdict import AllFailed


def _pause(seconds: int) -> dict[str, str]:
    return {"retry-after": str(seconds), "retry-after-ms": str(seconds * 1000)}


@pytest.mark.parametrize("error", ["bad_request", "content_policy"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_refusal__the_callers_own_error_is_passed_on(
    error: str, stream: bool, providers: tuple[Provider, Provider]
) -> None:
    """As the provider said it, after one call; nobody else is asked, and the provider is well."""
    main, backup = providers
    async with rig_for(main, backup) as rig:
        main.fail(Fault("status", error=error))
        with pytest.raises(AllFailed) as raised:
            await rig.ask(stream=stream)
        assert (raised.value.status, raised.value.kind) == (400, error)
        assert raised.value.passed is not None
        assert b'"error"' in raised.value.passed.body
        assert (len(main.calls), len(backup.calls)) == (1, 0)
        assert rig.standing("main/model") == "CLOSED"


@pytest.mark.parametrize("kind", ["status", "error_event"])
async def test_refusal__a_prompt_that_is_too_long_goes_to_a_larger_model_only(
    providers: tuple[Provider, Provider], kind: Any
) -> None:
    """Not to another one of the same size, whose error would be the same; also where a stream begins with it."""
    main, backup = providers
    own = {
        "main": {"models": [{"name": "small", "context_tokens": 8000}, {"name": "large", "context_tokens": 64_000}]},
        "backup": {"models": [{"name": "same", "context_tokens": 8000}]},
    }
    async with rig_for(main, backup, own=own, targets=["main/small", "backup/same", "main/large"]) as rig:
        main.fail(Fault(kind, error="context_length", match=Match(model="small")))
        call, text = await rig.ask(stream=kind == "error_event")
        assert text == answer_text("Hello")
        assert [attempt.target.name for attempt in call.attempts] == ["main/small", "main/large"]
        assert len(backup.calls) == 0


async def test_refusal__where_no_larger_model_is_left_the_providers_own_words_are_passed_on(
    providers: tuple[Provider, Provider],
) -> None:
    """One call: the other one has no more room."""
    main, backup = providers
    async with rig_for(main, backup) as rig:
        main.fail(Fault("status", error="context_length"))
        with pytest.raises(AllFailed) as raised:
            await rig.ask()
        assert (raised.value.status, raised.value.kind) == (400, "context_length")
        assert raised.value.passed is not None
        assert (len(main.calls), len(backup.calls)) == (1, 0)


@pytest.mark.parametrize("error", ["rate_limit", "insufficient_quota", "invalid_key"])
async def test_key__the_next_key_of_the_same_provider_answers_and_the_first_is_left_alone(
    error: str, providers: tuple[Provider, Provider]
) -> None:
    """One call to find out; the next ones do not try the first key again."""
    main, backup = providers
    async with rig_for(main, backup, own={"main": {"keys": ["key-1", "key-2"]}}, probes=False) as rig:
        main.fail(Fault("status", error=error, match=Match(key="key-1")))
        for _ in range(5):
            call, text = await rig.ask()
            assert text == answer_text("Hello")
            assert call.answered_by is not None
            assert call.answered_by.name == "main/model"
        assert [call.key for call in main.calls] == ["key-1"] + ["key-2"] * 5
        assert len(backup.calls) == 0
        assert (rig.standing("main/model", 0), rig.standing("main/model", 1)) == ("OPEN", "CLOSED")


async def test_key__after_the_last_one_it_is_the_next_provider(providers: tuple[Provider, Provider]) -> None:
    """Each key once."""
    main, backup = providers
    async with rig_for(main, backup, own={"main": {"keys": ["key-1", "key-2"]}}, probes=False) as rig:
        main.fail(Fault("status", error="insufficient_quota"))
        call, _ = await rig.ask()
        assert [attempt.target.provider.name for attempt in call.attempts] == ["main", "main", "backup"]
        assert len(main.calls) == 2


@pytest.mark.timed
async def test_pause__is_kept_where_there_is_nobody_else(provider: Provider) -> None:
    """The caller waits for the pause that was asked for, and the provider is not asked before; then it answers."""
    async with rig_for(provider) as rig:
        provider.fail(Fault("status", error="rate_limit", headers=_pause(1), times=1))
        began = time.monotonic()
        call, text = await rig.ask()
        took = time.monotonic() - began
        assert text == answer_text("Hello")
        assert 1.0 <= took < 2.0
        assert len(call.attempts) == 2
        starts = [one.at for one in provider.calls]
        assert starts[1] - starts[0] >= 0.99


@pytest.mark.timed
async def test_pause__with_somebody_else_nobody_waits(providers: tuple[Provider, Provider]) -> None:
    """The next provider at once; and who asked for the pause has it."""
    main, backup = providers
    async with rig_for(main, backup) as rig:
        main.fail(Fault("status", error="rate_limit", headers=_pause(1)))
        began = time.monotonic()
        for _ in range(10):
            await rig.ask()
        assert time.monotonic() - began < 0.5
        assert (len(main.calls), len(backup.calls)) == (1, 10)


@pytest.mark.timed
async def test_pause__longer_than_the_call_has_time_is_told_at_once(provider: Provider) -> None:
    """429, with the pause that the provider asked for."""
    async with rig_for(provider) as rig:
        provider.fail(Fault("status", error="rate_limit", headers=_pause(45)))
        began = time.monotonic()
        with pytest.raises(AllFailed) as raised:
            await rig.ask()
        assert time.monotonic() - began < 0.5
        assert raised.value.status == 429
        assert raised.value.retry_after_s == pytest.approx(45, abs=1)
        assert len(provider.calls) == 1


@pytest.mark.timed
async def test_pause__of_a_503_that_repeats_it_is_not_waited_for_again(provider: Provider) -> None:
    """One pause; then the caller is told."""
    async with rig_for(provider) as rig:
        provider.fail(Fault("status", error="overloaded", headers={"retry-after": "1"}))
        began = time.monotonic()
        with pytest.raises(AllFailed) as raised:
            await rig.ask()
        assert 0.9 < time.monotonic() - began < 2.5
        assert raised.value.status == 503
        assert len(users_in(provider)) == 1


async def test_all_failed__the_first_reason_and_everybodys(providers: tuple[Provider, Provider]) -> None:
    """In the order in which they were asked."""
    main, backup = providers
    async with rig_for(main, backup, probes=False) as rig:
        main.fail(Fault("status", error="server_error"))
        backup.fail(Fault("reset"))
        with pytest.raises(AllFailed) as raised:
            await rig.ask()
        error = raised.value
        assert error.status == 502
        assert error.message.index("main/model: answered 500") < error.message.index("backup/model")
        assert (len(main.calls), len(backup.calls)) == (2, 2), "a lone failure is tried once more, at each"


@pytest.mark.timed
async def test_all_failed__while_everybody_is_known_to_be_out_nobody_is_asked(
    providers: tuple[Provider, Provider],
) -> None:
    """It fails in a moment, so that what is kept for such a case can be given."""
    async with rig_for(*providers) as rig:
        for provider in providers:
            provider.fail(Fault("status", error="server_error"))
        for _ in range(3):
            with pytest.raises(AllFailed):
                await rig.ask()
        known = [len(users_in(provider)) for provider in providers]
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(AllFailed) as raised:
                await rig.ask()
            assert (raised.value.status, raised.value.kind) == (503, "no_target")
        assert time.monotonic() - began < 0.5
        assert [len(users_in(provider)) for provider in providers] == known


async def test_all_failed__who_is_well_again_is_found_by_the_call_that_has_nobody_else(
    providers: tuple[Provider, Provider],
) -> None:
    """Both were out for a while, and probes come seldom then: the call has one made, and is answered."""
    backup = providers[1]
    async with rig_for(*providers) as rig:
        for provider in providers:
            provider.fail(Fault("status", error="server_error"))
        for _ in range(4):
            with pytest.raises(AllFailed):
                await rig.ask()
        await asyncio.sleep(2.5)
        backup.heal()
        await asyncio.sleep(0.3)
        call, text = await rig.ask()
        assert text == answer_text("Hello")
        assert len(call.attempts) == 1
        assert users_in(backup)[-1].ended == "answered"


async def test_attempts__are_bounded(providers: tuple[Provider, Provider]) -> None:
    """By the route, retries included."""
    main, backup = providers
    async with rig_for(main, backup, attempts=2, probes=False) as rig:
        main.fail(Fault("reset"))
        with pytest.raises(AllFailed):
            await rig.ask()
        assert (len(main.calls), len(backup.calls)) == (2, 0)


async def test_limits__of_a_provider_are_kept_without_asking_it(providers: tuple[Provider, Provider]) -> None:
    """Three a minute: the fourth is the next provider's, before the first one has to say 429."""
    main, backup = providers
    async with rig_for(main, backup, own={"main": {"models": [{"name": "model", "requests_per_min": 3}]}}) as rig:
        for _ in range(5):
            await rig.ask()
        assert (len(main.calls), len(backup.calls)) == (3, 2)


async def test_limits__of_calls_at_once_make_callers_wait_where_there_is_nobody_else(provider: Provider) -> None:
    """Two at once, six callers: all are answered, never more than two at the provider."""
    provider.behaviour = provider.behaviour.__class__(think_ms=50)
    async with rig_for(provider, own={"main": {"models": [{"name": "model", "concurrency": 2}]}}) as rig:
        most = 0

        async def look() -> None:
            nonlocal most
            while True:
                most = max(most, sum(not call.ended for call in provider.calls))
                await asyncio.sleep(0.002)

        looking = asyncio.create_task(look())
        answers = await asyncio.gather(*(rig.ask() for _ in range(6)))
        looking.cancel()
        assert all(text == answer_text("Hello") for _, text in answers)
        assert most == 2
