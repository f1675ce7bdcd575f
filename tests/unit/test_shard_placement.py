"""Backed-up shards onto other clusters: of another size, another placement, another replication; or a plain no."""

from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from reanimate.errors import Refused
from reanimate.vector.layout import Layout, Replica, ShardKey
from reanimate.vector.peers import Peers
from reanimate.vector.placement import BackedShard, place, plan_creation
from reanimate.vector.server import VectorServer


def _peers(count: int, reachable: int | None = None, *, distributed: bool = True) -> Peers:
    """Peers 1, 2, 3 … of which the first `reachable` have a URL."""
    http = httpx.AsyncClient()
    members = {n: f"http://p2p-{n}" for n in range(1, count + 1)}
    known = range(1, (count if reachable is None else reachable) + 1)
    return Peers(distributed, members, {n: VectorServer("t", f"http://peer-{n}", None, http) for n in known})


def _config(replicas: int = 1, *, custom: bool = False) -> dict[str, Any]:
    params: dict[str, Any] = {"shard_number": 1, "replication_factor": replicas}
    return {"params": params | ({"sharding_method": "custom"} if custom else {})}


def _layout(peers: Peers, *shards: tuple[int, ShardKey | None, tuple[int, ...]], count: int | None = None) -> Layout:
    replicas = tuple(Replica(shard, peer, {1: "Active"}, key) for shard, key, at in shards for peer in at)
    return Layout("kb", peers, len(shards) if count is None else count, replicas)


PLAIN = [BackedShard(0), BackedShard(1), BackedShard(2)]
KEYED = [BackedShard(1, "de"), BackedShard(2, "de"), BackedShard(5, 7)]


@dataclass(frozen=True)
class Case:
    """One restore: what was backed up, where it goes, and where each shard must end: old -> (new, peer)."""

    name: str
    shards: list[BackedShard]
    layout: Layout
    expected: dict[int, tuple[int, int]]


CASES = [
    Case("one server", [BackedShard(0)], _layout(_peers(1), (0, None, (1,))), {0: (0, 1)}),
    Case(
        "three shards onto one peer",
        PLAIN,
        _layout(_peers(1), (0, None, (1,)), (1, None, (1,)), (2, None, (1,))),
        {0: (0, 1), 1: (1, 1), 2: (2, 1)},
    ),
    Case(
        "three shards of two replicas, spread",
        PLAIN,
        _layout(_peers(3), (0, None, (1, 2)), (1, None, (1, 3)), (2, None, (1, 2))),
        {0: (0, 1), 1: (1, 3), 2: (2, 2)},
    ),
    Case(
        "a peer without URL holds one replica of each",
        PLAIN,
        _layout(_peers(3, 2), (0, None, (3, 1)), (1, None, (3, 2)), (2, None, (1, 2))),
        {0: (0, 1), 1: (1, 2), 2: (2, 1)},
    ),
    Case(
        "keys keep their order, ids are others",
        KEYED,
        _layout(_peers(2), (1, 7, (1,)), (2, "de", (2,)), (3, "de", (1,))),
        {1: (2, 2), 2: (3, 1), 5: (1, 1)},
    ),
    Case(
        "a number and its text are two keys",
        [BackedShard(1, 7), BackedShard(2, "7")],
        _layout(_peers(1), (1, "7", (1,)), (2, 7, (1,))),
        {1: (2, 1), 2: (1, 1)},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_place(case: Case) -> None:
    """Every shard once, on the new shard that stands for it, at a peer that holds it and can be reached."""
    found = place(case.shards, case.layout)
    assert {one.source.shard_id: (one.shard_id, one.peer_id) for one in found} == case.expected
    assert sorted(one.shard_id for one in found) == case.layout.shard_ids


@pytest.mark.parametrize(
    ("shards", "layout", "words"),
    [
        (PLAIN, _layout(_peers(1), (0, None, (1,)), (1, None, (1,))), "shard 2 has no counterpart"),
        (
            PLAIN[:2],
            _layout(_peers(1), *((n, None, (1,)) for n in range(3))),
            r"has shards \[2\] that the backup has not",
        ),
        (PLAIN, _layout(_peers(3, 1), (0, None, (1,)), (1, None, (2,)), (2, None, (3,))), "shard 1 belongs on peer 2"),
        (KEYED, _layout(_peers(1), (1, "de", (1,)), (2, 7, (1,))), "shard 2 of key 'de' has no counterpart"),
        ([BackedShard(1, 7)], _layout(_peers(1), (1, "7", (1,))), "shard 1 of key 7 has no counterpart"),
    ],
    ids=["fewer shards", "more shards", "no URL", "key with fewer shards", "key of another type"],
)
def test_place__refused_by_name(shards: list[BackedShard], layout: Layout, words: str) -> None:
    """What has no place is named, with the reason; nothing is placed in part."""
    with pytest.raises(Refused, match=words):
        place(shards, layout)


def test_creation__as_many_shards_as_there_were() -> None:
    """The number of shards is that of the backup, whatever the config says; fewer replicas are said so."""
    plan = plan_creation(_config(replicas=3), PLAIN, _peers(2))
    assert plan.params == {"shard_number": 3}
    assert plan.keys == ()
    assert plan.notes == ("3 replicas were asked for, the target has 2 peers: it will have 2",)
    assert plan_creation(_config(), [BackedShard(0)], _peers(1, distributed=False)).notes == ()


def test_creation__keys_in_order_on_peers_that_can_be_reached() -> None:
    """Keys come with the number of their shards and replicas, and only on peers that we can upload to."""
    plan = plan_creation(_config(2, custom=True), KEYED, _peers(3, 2), {7: 1})
    assert [key.body for key in plan.keys] == [
        {"shard_key": "de", "shards_number": 2, "replication_factor": 2, "placement": [1, 2]},
        {"shard_key": 7, "shards_number": 1, "replication_factor": 1, "placement": [1, 2]},
    ]


@pytest.mark.parametrize(
    ("config", "shards", "peers", "words"),
    [
        (_config(custom=True), KEYED, _peers(1, distributed=False), "shard 5 of key 7.*single server"),
        (_config(), PLAIN, _peers(3, 2), "shard 0, shard 1, shard 2 with 1 replicas.*peer 3"),
        (_config(2), PLAIN, _peers(3, 1), "peer 2 .*peer 3"),
        (_config(), [BackedShard(0), BackedShard(2)], _peers(1), r"shards \[0, 2\] are not 0 to 1"),
        (_config(), [BackedShard(0), BackedShard(0)], _peers(1), "shard 0 is in the backup twice"),
        (_config(custom=True), PLAIN, _peers(1), "shard 0 has no shard key"),
        (_config(), [BackedShard(0, "de")], _peers(1), "shard 0 of key 'de' has a key"),
    ],
    ids=[
        "keys on a single server",
        "a peer without URL",
        "too few URLs",
        "a gap",
        "twice",
        "keys lost",
        "keys too many",
    ],
)
def test_creation__refused_before_anything_is_made(
    config: dict[str, Any], shards: list[BackedShard], peers: Peers, words: str
) -> None:
    """What cannot be placed is known before a collection is created, and names shards and reasons."""
    with pytest.raises(Refused, match=words):
        plan_creation(config, shards, peers)


def test_creation__a_replica_elsewhere_is_enough() -> None:
    """With two replicas on three peers, one peer without a URL cannot keep a shard from us."""
    assert plan_creation(_config(2), PLAIN, _peers(3, 2)).params == {"shard_number": 3}
