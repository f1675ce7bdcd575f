"""A collection that is gone from the primary, or a primary that came back empty."""

import asyncio

from gateway_process import Gateway
from vector_target import VectorTarget


async def test_missing__a_deleted_collection_is_read_from_where_it_is(
    gateway: Gateway, primary: VectorTarget, replica: VectorTarget
) -> None:
    """A 404 that another target can answer is not passed on; after the first one the primary is not asked again."""
    primary.collections.clear()
    _, body, headers = await gateway.query()
    assert (body["result"]["served_by"], headers["x-reanimate-degraded"]) == (
        "replica", "collection missing on primary",
    )  # fmt: skip
    asked = primary.asked_for("/points")
    status, body, _ = await gateway.ask("GET", "/collections/kb/exists")
    assert (status, body["result"]) == (200, {"exists": True})
    await gateway.query()
    assert primary.asked_for("/points") == asked
    assert (await gateway.figures())["targets"]["primary"]["missing"] == ["kb"]
    primary.aliases["kb"] = "kb_restored"
    for _ in range(100):
        if not (await gateway.figures())["targets"]["primary"]["missing"]:
            break
        await asyncio.sleep(0.02)
    assert (await gateway.query())[1]["result"]["served_by"] == "primary"


async def test_missing__an_absent_collection_stays_absent(gateway: Gateway) -> None:
    """A name that no target has is a 404 as ever, and exists says no."""
    status, _, headers = await gateway.query("never")
    assert (status, headers["x-reanimate-target"], "x-reanimate-degraded" in headers) == (404, "primary", False)
    status, body, _ = await gateway.ask("GET", "/collections/never/exists")
    assert (status, body["result"]) == (200, {"exists": False})


async def test_missing__an_empty_server_that_comes_back_is_not_taken_for_a_healthy_one(
    gateway: Gateway, primary: VectorTarget
) -> None:
    """It answers its health route and lists nothing: reads stay where the data is, and so does the list itself."""
    await gateway.query()
    await primary.stop()
    await gateway.query()
    primary.collections.clear()
    primary.seen.clear()
    await primary.start()
    await gateway.until("primary", "up")
    assert (await gateway.query())[1]["result"]["served_by"] == "replica"
    assert primary.asked_for("/points") == 0
    status, body, headers = await gateway.ask("GET", "/collections")
    assert (status, body["result"]["collections"]) == (200, [{"name": "kb"}])
    assert headers["x-reanimate-target"] == "replica"


async def test_missing__is_not_believed_while_those_who_may_know_better_are_away(
    gateway: Gateway, primary: VectorTarget, replica: VectorTarget
) -> None:
    """A 404 from the replica alone, or for a name that was there before, might make a client create it anew."""
    replica.collections.clear()
    await gateway.query()
    await primary.stop()
    status, _, _ = await gateway.query()
    assert status == 503
    primary.collections.clear()
    await primary.start()
    await replica.stop()
    await gateway.until("primary", "up")
    assert (await gateway.query())[0] == 503
    assert (await gateway.query("never"))[0] == 404
