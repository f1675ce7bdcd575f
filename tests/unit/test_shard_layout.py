"""Where shards are, as a real cluster of three said it, and which replica is taken."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from reanimate.errors import Refused
from reanimate.vector.layout import Layout, choose_replicas, layout_of
from reanimate.vector.peers import Peers
from reanimate.vector.server import VectorServer

Json = dict[str, Any]

RECORDED = Path(__file__).parents[1] / "recorded" / "qdrant" / "cluster.jsonl"
IDS = (2016522302629939, 8618610910497612, 5230363713536061)


def _views(collection: str) -> list[Json]:
    """The last that each of the three peers said of a collection's shards."""
    rows = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    path = f"/collections/{collection}/cluster"
    found = {row["peer"]: row["response"]["json"]["result"] for row in rows if row["request"]["path"] == path}
    return [found[peer] for peer in sorted(found)]


@pytest.fixture
def peers() -> Callable[..., Peers]:
    """A function that returns the three peers, of which those with these numbers have a URL."""

    def make(*reachable: int) -> Peers:
        http = httpx.AsyncClient()
        members = {peer: f"http://127.0.0.1:7{n}03/" for n, peer in enumerate(IDS)}
        servers = {IDS[n]: VectorServer("cluster", f"http://peer-{n}:6333", None, http) for n in reachable or (0, 1, 2)}
        return Peers(True, members, servers)

    return make


def _with_state(views: list[Json], shard: int, peer: int, state: str) -> list[Json]:
    """The same views, in which one replica is in another state for all."""
    changed = json.loads(json.dumps(views))
    for view in changed:
        for row in view["local_shards"]:
            if row["shard_id"] == shard and view["peer_id"] == peer:
                row["state"] = state
        for row in view["remote_shards"]:
            if row["shard_id"] == shard and row["peer_id"] == peer:
                row["state"] = state
    return changed


def test_layout__every_replica_once(peers: Callable[..., Peers]) -> None:
    """Three shards of two replicas each, all seen by all three peers."""
    layout = layout_of("kb", peers(), _views("kb"))
    assert layout.shard_ids == [0, 1, 2]
    assert {len(layout.of(shard)) for shard in layout.shard_ids} == {2}
    assert all(len(replica.states) == 3 and replica.active for replica in layout.replicas)
    assert layout.problems == []
    assert layout.shard_keys == []


def test_choice__one_replica_each_over_all_peers(peers: Callable[..., Peers]) -> None:
    """Every shard once, at a peer that holds it, and no peer does all the work."""
    layout = layout_of("kb", peers(), _views("kb"))
    chosen = choose_replicas(layout)
    assert list(chosen) == [0, 1, 2]
    assert {replica.peer_id for replica in chosen.values()} == set(IDS)
    assert all(chosen[shard] in layout.of(shard) for shard in chosen)


def test_choice__the_preferred_peer_when_it_is_healthy(peers: Callable[..., Peers]) -> None:
    """A partial snapshot must come from the replica that its base came from."""
    views = _views("kb")
    wanted = {0: IDS[2], 1: IDS[1], 2: IDS[2]}
    assert {s: r.peer_id for s, r in choose_replicas(layout_of("kb", peers(), views), wanted).items()} == wanted
    ill = layout_of("kb", peers(), _with_state(views, 0, IDS[2], "Dead"))
    assert choose_replicas(ill, wanted)[0].peer_id == IDS[0]


def test_choice__a_replica_is_not_healthy_because_it_says_so_itself(peers: Callable[..., Peers]) -> None:
    """When one peer holds it for dead and another for active, it is not taken."""
    views = json.loads(json.dumps(_views("kb")))
    for row in views[1]["remote_shards"]:
        if row["shard_id"] == 0 and row["peer_id"] == IDS[0]:
            row["state"] = "Dead"
    layout = layout_of("kb", peers(), views)
    assert choose_replicas(layout)[0].peer_id == IDS[2]
    assert [f"Dead for {IDS[1]}" in problem for problem in layout.problems] == [True]


def test_choice__refused_by_name(peers: Callable[..., Peers]) -> None:
    """A shard without a healthy replica at a known URL is a refusal that names it, its peers and why."""
    views = _views("kb")
    dead = _with_state(_with_state(views, 0, IDS[0], "Dead"), 0, IDS[2], "Recovery")
    with pytest.raises(Refused) as caught:
        choose_replicas(layout_of("kb", peers(), dead))
    assert f"shard 0: on peer {IDS[0]} (http://peer-0:6333) it is Dead" in str(caught.value)
    assert "it is Recovery" in str(caught.value)
    assert "shard 1" not in str(caught.value)
    with pytest.raises(Refused, match=rf"peer {IDS[2]} .* has no URL configured.*its own URL in `peers`"):
        choose_replicas(layout_of("kb", peers(0), views[:1]))


def test_choice__a_lost_shard_is_not_overlooked(peers: Callable[..., Peers]) -> None:
    """A shard of which no replica is left is listed by nobody; only the count of shards tells."""
    views = json.loads(json.dumps(_views("kb")))
    for view in views:
        for rows in ("local_shards", "remote_shards"):
            view[rows] = [row for row in view[rows] if row["shard_id"] != 1]
    layout = layout_of("kb", peers(), views)
    with pytest.raises(Refused, match="1 of its 3 shards have no replica"):
        choose_replicas(layout)


@pytest.mark.parametrize(
    ("collection", "found"), [("kb_a", 0), ("kb_b", 5)], ids=["answers well and lacks points", "dead and recovering"]
)
def test_problems__of_the_recorded_restores(peers: Callable[..., Peers], collection: str, found: int) -> None:
    """The restore that left replicas dead is told as such, replica by replica; states alone do not show lost points."""
    layout: Layout = layout_of(collection, peers(), _views(collection))
    assert len(layout.problems) == found, layout.problems
    assert all("Dead" in problem or "ManualRecovery" in problem for problem in layout.problems)


def test_problems__of_a_silent_peer_are_told_apart(peers: Callable[..., Peers]) -> None:
    """What a dead peer explains does not keep a restore waiting; what it does not explain does."""
    views = _with_state(_with_state(_views("kb")[:2], 2, IDS[2], "Dead"), 1, IDS[1], "Partial")
    alive = peers(0, 1)
    silent = Peers(True, alive.members, alive.servers, {"http://peer-2:6333": "refused"})
    layout = layout_of("kb", silent, views)
    assert layout.problems_of_silent[0] == "http://peer-2:6333 does not answer"
    assert ["shard 2" in problem for problem in layout.problems_of_silent] == [False, True]
    assert ["shard 1" in problem for problem in layout.problems_of_others] == [True]
    assert layout_of("kb", alive, views).problems_of_silent == []
