"""What the control plane says, a real gateway obeys at once, keeps and reports."""

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path

import pytest
from gateway_process import EXPIRED, ControlPlane, Gateway, gateway_for, load
from vector_target import VectorTarget

from reanimate.clock import utcnow


@pytest.mark.parametrize("share", [10, 50, 100])
async def test_switches__reads_are_shared_by_percentage(
    gateway: Gateway, primary: VectorTarget, replica: VectorTarget, share: int
) -> None:
    """The primary gets its share, the replica the rest, marked; 600 reads are within four standard deviations."""
    await gateway.switch(1, ("read_share", "primary/kb", share))
    results, _ = await load(gateway, 600, 8)
    spread = 4 * (600 * share / 100 * (1 - share / 100)) ** 0.5
    assert results[200, "primary"] == pytest.approx(6 * share, abs=spread)
    assert results.total() == results[200, "primary"] + results[200, "replica"] == 600
    assert (await gateway.figures())["reads"]["degraded"] == results[200, "replica"]


async def test_switches__a_held_target_is_never_read_from(
    gateway: Gateway, primary: VectorTarget, replica: VectorTarget
) -> None:
    """Not even when all others fail: wrong data is worse than none. Other names are not concerned."""
    primary.collections.add("other")
    await gateway.switch(1, ("read_share", "primary/kb", 0))
    _, body, headers = await gateway.query()
    assert (body["result"]["served_by"], headers["x-reanimate-degraded"]) == ("replica", "switched by control plane")
    await replica.stop()
    status, body, _ = await gateway.query()
    assert status == 503
    assert "primary: held by the control plane" in body["status"]["error"]
    assert primary.asked_for("/kb/points") == 0
    assert (await gateway.query("other"))[1]["result"]["served_by"] == "primary"


async def test_switches__writes_are_held_by_target_name_and_alias(gateway: Gateway, primary: VectorTarget) -> None:
    """A hold refuses with 503 what it covers, changes of the alias included, and nothing else."""
    primary.collections.add("other")
    await gateway.switch(1, ("writes", "primary/kb", "hold"))
    status, body, headers = await gateway.upsert()
    assert (status, headers["retry-after"], "held" in body["status"]["error"]) == (503, "2", True)
    assert (await gateway.upsert("other"))[0] == 200
    moves = {"actions": [{"create_alias": {"collection_name": "other", "alias_name": "kb"}}]}
    assert (await gateway.ask("POST", "/collections/aliases", json=moves))[0] == 503
    assert (await gateway.query())[0] == 200
    await gateway.switch(2, ("writes", "primary", "hold"))
    assert (await gateway.upsert("other"))[0] == 503
    await gateway.switch(3)
    assert (await gateway.upsert())[0] == 200


async def test_switches__only_newer_signed_and_fresh_documents_are_obeyed(gateway: Gateway) -> None:
    """A wrong signature, an old one, a replay and nonsense change nothing; an older number is answered with ours."""
    await gateway.switch(5, ("writes", "primary", "hold"))
    body, _ = gateway.document(6)
    assert (await gateway.push(body, "v1=" + "0" * 64))[0] == 403
    assert (await gateway.push(*gateway.document(6, **EXPIRED)))[0] == 403
    status, answer = await gateway.push(*gateway.document(4))
    assert (status, answer["seq"]) == (200, 5)
    assert (await gateway.upsert())[0] == 503
    later = utcnow()
    await gateway.switch(1, ledger="two", ledger_started_at=later)
    assert (await gateway.upsert())[0] == 200
    status, answer = await gateway.push(*gateway.document(9))
    assert (status, answer["ledger"]) == (200, "two")


async def test_switches__take_effect_for_the_very_next_request(gateway: Gateway) -> None:
    """Whoever has seen the 200 of a push may rely on it."""
    for seq in range(1, 21):
        await gateway.switch(seq, ("read_share", "primary/kb", 0 if seq % 2 else 100))
        _, body, _ = await gateway.query()
        assert body["result"]["served_by"] == ("replica" if seq % 2 else "primary")


async def test_switches__are_kept_over_a_restart_with_the_control_plane_away(gateway: Gateway) -> None:
    """Even after a kill, and even after the document would have expired; so are the totals."""
    assert (await gateway.upsert())[0] == 200
    await gateway.switch(7, ("read_share", "primary", 0), ("writes", "primary", "hold"))
    await asyncio.sleep(1.2)
    await gateway.stop(signal.SIGKILL)
    await gateway.start()
    _, body, _ = await gateway.query()
    assert body["result"]["served_by"] == "replica"
    assert (await gateway.upsert())[0] == 503
    assert (await gateway.figures())["totals"]["writes_acknowledged"] == {"kb": 1}
    file = gateway.home / "gateway" / "switches.json"
    stored = json.loads(file.read_bytes())
    await gateway.stop()
    file.write_text(json.dumps({**stored, "signature": "v1=" + "0" * 64}))
    await gateway.start()
    assert (await gateway.upsert())[0] == 200
    assert "its signature is wrong" in gateway.log


@pytest.mark.timed
async def test_switches__are_polled_when_no_push_arrives(
    tmp_path: Path, primary: VectorTarget, replica: VectorTarget
) -> None:
    """At the start before the first request, then every 2 s; the control plane hears who asks and what is obeyed."""
    async with (
        ControlPlane().running() as control,
        gateway_for(tmp_path, primary, replica, control=control.url) as gateway,
    ):
        assert (await gateway.figures())["stale_s"] < 2
        control.document = gateway.document(3, ("read_share", "primary", 0))
        for _ in range(300):
            if (await gateway.query())[1]["result"]["served_by"] == "replica":
                break
            await asyncio.sleep(0.01)
        control.document = None
        await asyncio.sleep(2.2)
        assert (await gateway.query())[1]["result"]["served_by"] == "replica"
        poll = control.polls[-1]
        assert (poll["gateway"], poll["control_url"], poll["seq"]) == ("gateway", gateway.control, "3")
        assert control.authorization == {f"Bearer {gateway.key}"}
        control.document = gateway.document(4, ("read_share", "primary", 100))
        await gateway.stop()
        await gateway.start()
        assert (await gateway.query())[1]["result"]["served_by"] == "primary", "asked before it listened"
        control.document = (control.document[0], "v1=wrong")
        await asyncio.sleep(2.2)
        assert (await gateway.query())[1]["result"]["served_by"] == "primary"


async def test_observations__the_watch_is_told_at_once(
    tmp_path: Path, primary: VectorTarget, replica: VectorTarget
) -> None:
    """What failed, how, and for which collection; never more than five a second of one kind."""
    async with (
        ControlPlane().running() as control,
        gateway_for(tmp_path, primary, replica, control=control.url) as gateway,
    ):
        primary.collections.clear()
        await gateway.query()
        primary.collections.add("kb")
        primary.fault, primary.faulty = "http", "/points"
        await gateway.ask("POST", "/collections/kb/points/count", json={})
        await primary.stop()
        await load(gateway, 100, 10)
        await asyncio.sleep(0.3)
        kinds = Counter((seen["target"], seen["kind"]) for seen in control.observations)
        assert kinds["primary", "missing"] == 1
        assert 1 <= kinds["primary", "refused"] <= 10
        missing = next(seen for seen in control.observations if seen["kind"] == "missing")
        assert missing["collection"] == "kb"
        assert control.authorization == {f"Bearer {gateway.key}"}
