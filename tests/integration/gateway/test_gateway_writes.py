"""Writes through a real gateway: to the primary once, and never answered falsely."""

import time

import pytest
from gateway_process import Gateway
from vector_target import VectorTarget


async def test_write__goes_to_the_primary_once_and_is_counted(
    gateway: Gateway, primary: VectorTarget, replica: VectorTarget
) -> None:
    """An acknowledged write is one that the primary acknowledged."""
    for _ in range(5):
        status, body, headers = await gateway.upsert()
        assert (status, body["status"], headers["x-reanimate-target"]) == (200, "ok", "primary")
    assert (primary.writes, replica.writes) == (5, 0)
    figures = await gateway.figures()
    assert (figures["writes"]["asked"], figures["writes"]["acknowledged"]) == (5, 5)
    assert figures["totals"]["writes_acknowledged"] == {"kb": 5}


async def test_write__while_the_primary_is_out_it_is_refused(
    gateway: Gateway, primary: VectorTarget, replica: VectorTarget
) -> None:
    """503 with Retry-After, in the servers' own form of an error, and nothing reaches the replica."""
    await primary.stop()
    for _ in range(3):
        status, body, headers = await gateway.upsert()
        assert (status, headers["retry-after"]) == (503, "2")
        assert "nothing was sent" in body["status"]["error"]
    assert (await gateway.ask("GET", "/collections/kb/snapshots"))[0] == 503
    assert replica.writes == 0
    figures = await gateway.figures()
    assert (figures["writes"]["refused"], figures["writes"]["acknowledged"]) == (3, 0)
    await primary.start()
    await gateway.until("primary", "up")
    assert (await gateway.upsert())[0] == 200


@pytest.mark.parametrize("fault", ["reset", "cut", "garbage"])
async def test_write__a_lost_answer_is_told_as_unknown_and_nothing_is_sent_twice(
    gateway: Gateway, primary: VectorTarget, replica: VectorTarget, fault: str
) -> None:
    """The write may have been applied: neither a 200 nor a 503 would be true."""
    await gateway.query()
    primary.fault, primary.faulty = fault, "/points"
    status, body, _ = await gateway.upsert()
    assert status == 502
    assert "unknown" in body["status"]["error"]
    assert primary.asked_for("/points?wait") == 1
    assert replica.asked_for("/points?wait") == 0
    assert (await gateway.figures())["writes"]["failed"] == 1


@pytest.mark.timed
async def test_write__to_a_primary_that_hangs_ends_as_unknown(gateway: Gateway, primary: VectorTarget) -> None:
    """Slow writes are waited for; one to a server that answers no probe either is not."""
    primary.fault = "hang"
    began = time.monotonic()
    status, body, _ = await gateway.upsert()
    assert (status, time.monotonic() - began < 6) == (504, True)
    assert "unknown" in body["status"]["error"]
    assert (await gateway.upsert())[0] == 503
    primary.fault = "slow"
    primary.slow_s = 1.5
    primary.faulty = "/points"
    await gateway.until("primary", "up")
    assert (await gateway.upsert())[0] == 200


async def test_write__an_error_of_the_primary_is_passed_on(gateway: Gateway, primary: VectorTarget) -> None:
    """The gateway neither hides nor repeats it."""
    primary.fault, primary.faulty = "http", "/points"
    status, body, _ = await gateway.upsert()
    assert (status, "on purpose" in body["status"]["error"]) == (500, True)
    assert primary.asked_for("/points") == 1


async def test_write__to_a_lost_collection_is_refused(gateway: Gateway, primary: VectorTarget) -> None:
    """Neither filling nor creating it anew may pass while a replica holds what is to be restored."""
    primary.collections.clear()
    for _ in range(2):
        status, body, headers = await gateway.upsert()
        assert (status, headers["retry-after"]) == (503, "2")
        assert "recovery is due" in body["status"]["error"]
    status, body, _ = await gateway.ask("PUT", "/collections/kb", json={"vectors": {"size": 4, "distance": "Dot"}})
    assert (status, "recovery is due" in body["status"]["error"]) == (503, True)
    assert primary.collections == set()
    status, _, _ = await gateway.ask("PUT", "/collections/brand-new", json={"vectors": {"size": 4, "distance": "Dot"}})
    assert status == 200
    assert (await gateway.upsert("never"))[0] == 404


async def test_write__deleting_a_collection_passes_and_is_told(gateway: Gateway, primary: VectorTarget) -> None:
    """Somebody may do that; the log says who."""
    assert (await gateway.ask("DELETE", "/collections/kb"))[0] == 200
    assert primary.collections == set()
    assert "127.0.0.1 asks to delete collection kb" in gateway.log
    assert (await gateway.ask("PUT", "/collections/kb", json={}))[0] == 503
