"""The last resort: an offline standby answers when nobody online can, marked so, and never takes a write."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from gateway_process import Gateway, gateway_for
from vector_target import VectorTarget, running

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def offline() -> AsyncIterator[VectorTarget]:
    async with running(VectorTarget("offline")) as (target,):
        yield target


@pytest.fixture
async def gateway(
    tmp_path: Path, targets: tuple[VectorTarget, VectorTarget], offline: VectorTarget
) -> AsyncIterator[Gateway]:
    async with gateway_for(tmp_path, *targets, offline) as running_gateway:
        yield running_gateway


async def _served_by(gateway: Gateway) -> tuple[str, str | None]:
    status, body, headers = await gateway.query()
    assert status == 200
    return body["result"]["served_by"], headers.get("x-reanimate-degraded")


async def test_offline__answers_when_nobody_online_is_left(
    gateway: Gateway, primary: VectorTarget, replica: VectorTarget, offline: VectorTarget
) -> None:
    """It is asked last, says so, takes no write, and is left by itself once another is back."""
    assert await _served_by(gateway) == ("primary", None)
    await primary.stop()
    assert (await _served_by(gateway))[0] == "replica"
    assert not offline.seen, "an offline standby must not be asked while a replica answers"
    await replica.stop()
    assert await _served_by(gateway) == ("offline", "offline")
    status, body, _ = await gateway.upsert()
    assert status == 503
    assert "nothing was sent" in body["status"]["error"]
    assert offline.writes == 0
    await replica.start()
    await gateway.until("replica", "up")
    assert (await _served_by(gateway))[0] == "replica"
    await primary.start()
    await gateway.until("primary", "up")
    assert await _served_by(gateway) == ("primary", None)
    assert (await gateway.figures())["reads"]["failed"] == 0


async def test_offline__the_age_of_its_answer_reaches_the_client(
    gateway: Gateway, primary: VectorTarget, replica: VectorTarget, offline: VectorTarget
) -> None:
    """The two headers that say how old the answer is pass through."""
    offline.extra_headers = {
        "x-reanimate-snapshot-age": "7200",
        "x-reanimate-snapshot-taken-at": "2026-11-23T01:30:00Z",
    }
    await primary.stop()
    await replica.stop()
    _, _, headers = await gateway.query()
    assert headers["x-reanimate-target"] == "offline"
    assert headers["x-reanimate-snapshot-age"] == "7200"
    assert headers["x-reanimate-snapshot-taken-at"] == "2026-11-23T01:30:00Z"


@pytest.mark.parametrize("fault", ["hang", "http", "reset"])
async def test_offline__answers_when_the_others_fail_in_other_ways(
    gateway: Gateway, primary: VectorTarget, replica: VectorTarget, offline: VectorTarget, fault: str
) -> None:
    """Servers that hang, fail or break connections count as unable to answer; soon no read waits for them any more."""
    assert (await _served_by(gateway))[0] == "primary"
    primary.fault = replica.fault = fault
    assert await _served_by(gateway) == ("offline", "offline")
    if fault == "hang":
        await gateway.until("primary", "out", within_s=15)
        await gateway.until("replica", "out", within_s=15)
        async with asyncio.timeout(0.7):
            assert await _served_by(gateway) == ("offline", "offline")


async def test_offline__a_slow_answer_is_better_than_an_old_one(
    gateway: Gateway, primary: VectorTarget, replica: VectorTarget, offline: VectorTarget
) -> None:
    """A server that lives and takes longer than the limit is waited for."""
    await replica.stop()
    primary.fault, primary.faulty, primary.slow_s = "slow", "/collections/kb/points/query", 1.6
    assert (await _served_by(gateway))[0] == "primary"
    assert not offline.seen


async def test_offline__a_collection_lost_everywhere_is_read_there(
    gateway: Gateway, primary: VectorTarget, replica: VectorTarget, offline: VectorTarget
) -> None:
    """ "There is no such collection" is no answer while an old copy is there; where there is none, it is."""
    primary.collections.clear()
    replica.collections.clear()
    assert await _served_by(gateway) == ("offline", "offline")
    status, body, _ = await gateway.ask("GET", "/collections/kb/exists")
    assert (status, body["result"]) == (200, {"exists": True})
    assert (await gateway.query("never-there"))[0] == 404


async def test_offline__a_hold_keeps_reads_away_from_it(
    gateway: Gateway, primary: VectorTarget, replica: VectorTarget, offline: VectorTarget
) -> None:
    """The switches reach it as any target; and a target that is held is not read, for that it is there."""
    await gateway.switch(1, ("read_share", "primary", 0), ("read_share", "replica", 0))
    assert await _served_by(gateway) == ("offline", "offline")
    await gateway.switch(2, *((("read_share", name, 0)) for name in ("primary", "replica", "offline")))
    status, _, headers = await gateway.query()
    assert (status, headers["retry-after"]) == (503, "1")


async def test_offline__when_it_is_away_too_the_client_is_told_of_all(
    gateway: Gateway, primary: VectorTarget, replica: VectorTarget, offline: VectorTarget
) -> None:
    """The refusal names every target that was tried."""
    for target in (primary, replica, offline):
        await target.stop()
    status, body, _ = await gateway.query()
    assert status == 503
    assert all(f"{name}: " in body["status"]["error"] for name in ("primary", "replica", "offline"))
