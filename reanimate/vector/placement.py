"""Backed-up shards onto the shards of a new collection: planned before anything is made, pure, told when it cannot be.

A cluster takes a restore of which a shard found no place with 200 and fewer points. So what cannot be placed is a
refusal that names the shards and the reasons.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reanimate.errors import Refused
from reanimate.vector.config import Json
from reanimate.vector.layout import Layout, ShardKey
from reanimate.vector.peers import CLUSTER_HINT, Peers

__all__ = ["Assignment", "BackedShard", "CreationPlan", "KeyPlan", "place", "plan_creation"]


@dataclass(frozen=True)
class BackedShard:
    """A shard as it is in a backup."""

    shard_id: int
    shard_key: ShardKey | None = None

    def __str__(self) -> str:
        return f"shard {self.shard_id}" + (f" of key {self.shard_key!r}" if self.shard_key is not None else "")


@dataclass(frozen=True)
class KeyPlan:
    """A custom shard key to create. `placement` are the peers that may hold its shards."""

    key: ShardKey
    shards: int
    replicas: int
    placement: tuple[int, ...]

    @property
    def body(self) -> Json:
        """Return the body of `PUT /collections/{name}/shards`."""
        return {
            "shard_key": self.key,
            "shards_number": self.shards,
            "replication_factor": self.replicas,
            "placement": list(self.placement),
        }


@dataclass(frozen=True)
class CreationPlan:
    """How to make the collection so that every backed-up shard has a place: params to overrule, then keys in order."""

    params: Json
    keys: tuple[KeyPlan, ...] = ()
    notes: tuple[str, ...] = ()
    """What will be otherwise than it was: fewer replicas on a smaller cluster."""


@dataclass(frozen=True)
class Assignment:
    """Where one backed-up shard goes: to the new shard's id, uploaded at one peer, from which the others copy it."""

    source: BackedShard
    shard_id: int
    peer_id: int
    replicas: tuple[int, ...]


def plan_creation(
    config: Json, shards: Sequence[BackedShard], peers: Peers, replication: Mapping[ShardKey, int] | None = None
) -> CreationPlan:
    """Say how to create the collection on a target with these peers.

    `replication` is how many replicas the shards of each key had, where that is not the collection's own number.

    Raises:
        Refused: some shard would have no place; the message names each and why.
    """
    params = config.get("params") or {}
    custom = params.get("sharding_method") == "custom"
    if troubles := _contradictions(shards, custom):
        raise Refused(f"placing {len(shards)} shards: {'; '.join(troubles)}", hint="take another backup")
    reachable = sorted(peers.servers)
    wanted = max(1, int(params.get("replication_factor") or 1))
    if not custom:
        _require_reach(shards, peers, wanted)
        return CreationPlan(
            {"shard_number": len(shards)} if shards else {}, notes=_fewer_replicas(wanted, len(peers.members))
        )
    if not peers.distributed:
        keys = ", ".join(sorted({repr(shard.shard_key) for shard in shards}))
        raise Refused(
            f"placing {_listed(shards)}: they are sharded by custom keys ({keys}), and the target is a single server "
            "without cluster mode, which takes no shard keys",
            hint="restore to a cluster, or start that server with QDRANT__CLUSTER__ENABLED=true",
        )
    counts = Counter(shard.shard_key for shard in shards if shard.shard_key is not None)
    plans = []
    notes: dict[str, None] = {}
    for key in dict.fromkeys(shard.shard_key for shard in _ordered(shards) if shard.shard_key is not None):
        replicas = (replication or {}).get(key, wanted)
        notes |= dict.fromkeys(_fewer_replicas(replicas, len(reachable), f"key {key!r}: "))
        plans.append(KeyPlan(key, counts[key], min(replicas, len(reachable)), tuple(reachable)))
    return CreationPlan({}, tuple(plans), tuple(notes))


def place(shards: Sequence[BackedShard], layout: Layout) -> list[Assignment]:
    """Map every backed-up shard onto a shard of the collection that was just made, and choose one holder each.

    Where keys are custom a shard goes to the key's shards in the same order; without keys to the same number.

    Raises:
        Refused: some shard has no place, or the collection has shards that the backup has not.
    """
    refused: list[str] = []
    found: list[Assignment] = []
    load: Counter[int] = Counter()
    free: dict[ShardKey | None, list[int]] = {}
    for shard_id in layout.shard_ids:
        free.setdefault(layout.key_of(shard_id), []).append(shard_id)
    for shard in _ordered(shards):
        at = _target_of(shard, free)
        if at is None:
            refused.append(f"{shard} has no counterpart in {layout.collection!r}")
            continue
        holders = [replica.peer_id for replica in layout.of(at)]
        reachable = sorted(
            (peer for peer in holders if peer in layout.peers.servers), key=lambda peer: (load[peer], peer)
        )
        if not reachable:
            names = ", ".join(layout.peers.named(peer) for peer in holders)
            refused.append(f"{shard} belongs on {names}, which has no URL configured or does not answer")
            continue
        load[reachable[0]] += 1
        found.append(Assignment(shard, at, reachable[0], tuple(holders)))
    left = sorted(shard_id for ids in free.values() for shard_id in ids)
    if left:
        refused.append(f"{layout.collection!r} has shards {left} that the backup has not")
    if refused:
        raise Refused(f"placing the shards of the backup: {'; '.join(refused)}", hint=CLUSTER_HINT)
    return found


def _target_of(shard: BackedShard, free: dict[ShardKey | None, list[int]]) -> int | None:
    """Take the new collection's shard for this one: the next of its key, or the same number where there are no keys."""
    left = free.get(shard.shard_key) or []
    if shard.shard_key is None:
        if shard.shard_id not in left:
            return None
        left.remove(shard.shard_id)
        return shard.shard_id
    return left.pop(0) if left else None


def _ordered(shards: Sequence[BackedShard]) -> list[BackedShard]:
    return sorted(shards, key=lambda shard: shard.shard_id)


def _contradictions(shards: Sequence[BackedShard], custom: bool) -> list[str]:
    twice = sorted(shard_id for shard_id, n in Counter(shard.shard_id for shard in shards).items() if n > 1)
    troubles = [f"shard {shard_id} is in the backup twice" for shard_id in twice]
    for shard in _ordered(shards):
        if custom and shard.shard_key is None:
            troubles.append(f"{shard} has no shard key, and the collection is sharded by custom keys")
        if not custom and shard.shard_key is not None:
            troubles.append(f"{shard} has a key, and the collection is not sharded by custom keys")
    if not custom and (ids := sorted({shard.shard_id for shard in shards})) != list(range(len(ids))):
        troubles.append(f"shards {ids} are not 0 to {len(ids) - 1}: points would be looked for in the wrong one")
    return troubles


def _require_reach(shards: Sequence[BackedShard], peers: Peers, wanted: int) -> None:
    """A server places the shards itself: each must meet a peer that we can upload to, wherever they fall.

    Raises:
        Refused: one may end up on peers without a URL only.
    """
    replicas = min(wanted, len(peers.members))
    if len(peers.without_url) >= replicas:
        unreachable = ", ".join(peers.named(peer) for peer in peers.without_url)
        raise Refused(
            f"placing {_listed(shards)} with {replicas} replicas each: the cluster may put one on {unreachable} only, "
            "which has no URL configured or does not answer",
            hint=CLUSTER_HINT,
        )


def _fewer_replicas(wanted: int, peers: int, what: str = "") -> tuple[str, ...]:
    if wanted <= peers:
        return ()
    return (f"{what}{wanted} replicas were asked for, the target has {peers} peers: it will have {peers}",)


def _listed(shards: Sequence[BackedShard]) -> str:
    return ", ".join(str(shard) for shard in _ordered(shards)) or "no shards"
