"""Reads through a real gateway before servers that fail in every way that is known: none is lost."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest
import vector_target
from gateway_process import Gateway, free_port, gateway_for, load
from vector_target import VectorTarget


async def test_read__passes_through_untouched(gateway: Gateway, primary: VectorTarget) -> None:
    """Path, query, body and headers arrive as sent; the answer comes back as given, and says who gave it."""
    status, body, headers = await gateway.ask(
        "POST", "/collections/caf%C3%A9%20kb/points/query?timeout=3&consistency=all", data=b'{ "query":  1 }',
        headers={"content-type": "application/json", "traceparent": "00-abc", "api-key": "mine", "te": "trailers"},
    )  # fmt: skip
    assert status == 404
    assert "café kb" in body["status"]["error"]
    assert primary.seen[-1] == ("POST", "/collections/caf%C3%A9%20kb/points/query?timeout=3&consistency=all")
    sent = primary.headers[-1]
    assert (sent["traceparent"], sent["api-key"], sent["content-length"]) == ("00-abc", "mine", "15")
    assert "te" not in sent
    assert headers["x-reanimate-target"] == "primary"
    status, body, headers = await gateway.query()
    assert (status, body["result"]["served_by"]) == (200, "primary")
    assert (headers["x-reanimate-target"], "x-reanimate-degraded" in headers) == ("primary", False)


@pytest.mark.timed
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("http", "primary answered with an error"),
        ("reset", "primary broke the connection"),
        ("cut", "primary broke off within its answer"),
        ("garbage", "primary answered with an error"),
        ("hang", "primary hung"),
    ],
)
async def test_read__fails_over_and_says_why(gateway: Gateway, primary: VectorTarget, fault: str, reason: str) -> None:
    """Every way to fail before or within a small answer costs the client nothing but time, at most the limit."""
    primary.fault, primary.faulty = fault, "/points"
    began = time.monotonic()
    status, body, headers = await gateway.query()
    assert time.monotonic() - began < 1.5
    assert (status, body["result"]["served_by"]) == (200, "replica")
    assert (headers["x-reanimate-target"], headers["x-reanimate-degraded"]) == ("replica", reason)


async def test_read__a_target_that_refuses_is_out_and_comes_back(
    gateway: Gateway, primary: VectorTarget, replica: VectorTarget
) -> None:
    """The first refusal is enough, and two good probes bring it back, without a user's request being one of them."""
    await gateway.query()
    await primary.stop()
    _, body, headers = await gateway.query()
    assert (body["result"]["served_by"], headers["x-reanimate-degraded"]) == ("replica", "primary refused")
    _, _, headers = await gateway.query()
    assert headers["x-reanimate-degraded"] == "primary is out: primary refused"
    figures = await gateway.figures()
    assert figures["targets"]["primary"]["state"] == "out"
    assert figures["targets"]["primary"]["out_since"]
    primary.seen.clear()
    await primary.start()
    await gateway.until("primary", "up")
    assert primary.asked_for("/points") == 0
    _, body, headers = await gateway.query()
    assert (body["result"]["served_by"], "x-reanimate-degraded" in headers) == ("primary", False)
    assert replica.asked_for("/points") == 2


@pytest.mark.timed
async def test_read__none_is_lost_when_the_primary_is_killed_under_load(tmp_path: Path, replica: VectorTarget) -> None:
    """SIGKILL in the middle of 20 concurrent clients: every read has an answer, and a quick one."""
    port = free_port()
    command = (sys.executable, vector_target.__file__, "primary", str(port))
    process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: ASYNC220
    try:
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        async with gateway_for(tmp_path, VectorTarget("primary", port=port), replica) as gateway:
            await gateway.query()

            async def kill() -> None:
                await asyncio.sleep(0.15)
                os.kill(process.pid, signal.SIGKILL)

            (results, took), _ = await asyncio.gather(load(gateway, 600, 20), kill())
            assert sum(results.values()) == 600
            assert set(results) == {(200, "primary"), (200, "replica")}
            assert max(took) < 1.0
            figures = await gateway.figures()
            assert (figures["reads"]["answered"], figures["reads"]["failed"]) == (601, 0)
            assert figures["reads"]["degraded"] == results[200, "replica"]
            status, _, headers = await gateway.upsert()
            assert (status, headers["retry-after"]) == (503, "2")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.timed
async def test_read__a_hang_costs_the_first_ones_the_limit_and_the_others_nothing(
    gateway: Gateway, primary: VectorTarget
) -> None:
    """The whole server hangs, its health route too, as one that is stopped does."""
    await gateway.query()
    primary.fault = "hang"
    began = time.monotonic()
    results, took = await load(gateway, 300, 20)
    assert set(results) == {(200, "replica")}
    slow = [seconds for seconds in took if seconds > 0.5]
    assert len(slow) <= 20
    assert max(took) < 1.6
    await gateway.until("primary", "out", within_s=4 - (time.monotonic() - began))
    _, took = await load(gateway, 100, 5)
    assert max(took) < 0.5
    primary.fault = None
    await gateway.until("primary", "up")
    _, body, _ = await gateway.query()
    assert body["result"]["served_by"] == "primary"


@pytest.mark.timed
async def test_read__a_slow_answer_is_late_but_not_lost(
    tmp_path: Path, primary: VectorTarget, replica: VectorTarget
) -> None:
    """Over the limit everywhere, and yet answered: nobody is given up who still lives."""
    async with gateway_for(tmp_path, primary, replica, REANIMATE_GATEWAY__HANG_LIMIT_S="0.2") as gateway:
        for target in (primary, replica):
            target.fault, target.faulty, target.slow_s = "slow", "/points", 0.7
        began = time.monotonic()
        status, body, _ = await gateway.query()
        assert (status, body["result"]["served_by"]) == (200, "primary")
        assert 0.6 < time.monotonic() - began < 1.0
        assert (await gateway.upsert())[0] == 200, "slow reads of one name take no server out"


@pytest.mark.timed
async def test_read__when_all_hang_the_client_is_told(gateway: Gateway, targets: tuple[VectorTarget, ...]) -> None:
    """An error within seconds, not silence; it names each target and what it did."""
    for target in targets:
        target.fault = "hang"
    began = time.monotonic()
    status, body, headers = await gateway.query()
    assert time.monotonic() - began < 6
    assert (status, headers["retry-after"]) == (503, "1")
    assert "primary" in body["status"]["error"]
    assert "replica" in body["status"]["error"]
    assert (await gateway.figures())["reads"]["failed"] == 1


async def test_read__a_request_that_breaks_every_target_blames_none(
    gateway: Gateway, targets: tuple[VectorTarget, ...]
) -> None:
    """A 5xx counts against a target only if another one can answer: a poisonous query must not take servers out."""
    for target in targets:
        target.fault, target.faulty = "http", "/points"
    for _ in range(6):
        status, body, headers = await gateway.query()
        assert (status, headers["x-reanimate-target"]) == (500, "primary")
        assert "on purpose" in body["status"]["error"]
    for target in targets:
        target.fault = None
    _, body, headers = await gateway.query()
    assert (body["result"]["served_by"], "x-reanimate-degraded" in headers) == ("primary", False)


async def test_read__a_broken_collection_is_passed_over_and_the_others_are_not(
    gateway: Gateway, primary: VectorTarget, replica: VectorTarget
) -> None:
    """One collection answers 500 on the primary: its reads go elsewhere, writes to others go on."""
    for target in (primary, replica):
        target.collections.add("other")
    primary.fault, primary.faulty = "http", "/collections/kb"
    for _ in range(3):
        assert (await gateway.query())[1]["result"]["served_by"] == "replica"
    asked = primary.asked_for("/collections/kb/points")
    await gateway.query()
    assert primary.asked_for("/collections/kb/points") == asked
    assert (await gateway.query("other"))[1]["result"]["served_by"] == "primary"
    assert (await gateway.upsert("other"))[0] == 200
    assert (await gateway.figures())["targets"]["primary"]["state"] == "up"


async def test_read__a_client_that_leaves_ends_the_call_behind(gateway: Gateway, primary: VectorTarget) -> None:
    """Nobody works on for a client that is gone."""
    primary.fault, primary.faulty = "hang", "/points"
    with pytest.raises(TimeoutError):
        await gateway.query(timeout=aiohttp.ClientTimeout(total=0.3))
    for _ in range(100):
        if primary.left:
            break
        await asyncio.sleep(0.02)
    assert primary.left == 1
    assert (await gateway.figures())["reads"]["abandoned"] == 1


async def test_read__idle_connections_that_servers_close_cost_nothing(gateway: Gateway, primary: VectorTarget) -> None:
    """A connection found closed is not a failure of the server behind it: a new one is tried first."""
    await gateway.query()
    await primary.stop()
    await primary.start()
    _, body, headers = await gateway.query()
    assert (body["result"]["served_by"], "x-reanimate-degraded" in headers) == ("primary", False)
