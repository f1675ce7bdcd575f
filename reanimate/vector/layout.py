"""Where the shards of a collection are: every replica, as every peer sees it, and which of them to take a copy from."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from reanimate.errors import NotFound, Refused, ServerFailed, Unreachable
from reanimate.vector.peers import CLUSTER_HINT, Peers, cluster_view, find_peers
from reanimate.vector.server import Json, VectorServer

__all__ = [
    "ACTIVE",
    "Layout",
    "Replica",
    "ShardKey",
    "ShardKeyGroup",
    "choose_replicas",
    "layout_of",
    "survey",
    "wait_until_active",
]

ACTIVE = "Active"
ShardKey = str | int

_POLL_S = 0.2


@dataclass(frozen=True)
class Replica:
    """One copy of a shard. `states` are what each peer that was asked says of it, by the peer."""

    shard_id: int
    peer_id: int
    states: Mapping[int, str]
    shard_key: ShardKey | None = None

    @property
    def active(self) -> bool:
        """Say whether every peer that was asked holds it for healthy."""
        return all(state == ACTIVE for state in self.states.values())

    @property
    def trouble(self) -> str:
        """Say what it is instead of active, and who says so."""
        odd = sorted(f"{state} for {viewer}" for viewer, state in self.states.items() if state != ACTIVE)
        return ", ".join(odd) if len(set(self.states.values())) > 1 else next(iter(self.states.values()), "unknown")


@dataclass(frozen=True)
class ShardKeyGroup:
    """The shards of one custom shard key, in order of id, and how many replicas each has."""

    key: ShardKey
    shard_ids: tuple[int, ...]
    replicas: int


@dataclass(frozen=True)
class Layout:
    """All replicas of a collection."""

    collection: str
    peers: Peers
    shard_count: int
    """Shards that the collection has, also those of which no replica is left."""
    replicas: tuple[Replica, ...]
    transfers: int = 0

    @property
    def shard_ids(self) -> list[int]:
        """Return the ids of the shards that have a replica somewhere."""
        return sorted({replica.shard_id for replica in self.replicas})

    def of(self, shard_id: int) -> list[Replica]:
        """Return the replicas of one shard, by peer."""
        return [replica for replica in self.replicas if replica.shard_id == shard_id]

    def key_of(self, shard_id: int) -> ShardKey | None:
        """Return the custom key of a shard; None where shards are chosen by hash."""
        return next((replica.shard_key for replica in self.of(shard_id)), None)

    @property
    def shard_keys(self) -> list[ShardKeyGroup]:
        """Return the custom shard keys, in order of their first shard; empty where there are none."""
        groups: dict[ShardKey, list[int]] = {}
        for shard_id in self.shard_ids:
            if (key := self.key_of(shard_id)) is not None:
                groups.setdefault(key, []).append(shard_id)
        return [
            ShardKeyGroup(key, tuple(ids), max(len(self.of(shard_id)) for shard_id in ids))
            for key, ids in groups.items()
        ]

    @property
    def problems(self) -> list[str]:
        """Name every replica that is not healthy, every shard without one, peers that are silent, and transfers."""
        return [*self.problems_of_others, *self.problems_of_silent]

    @property
    def problems_of_others(self) -> list[str]:
        """Name the problems that no silent peer explains."""
        found = [self._told(replica) for replica in self.replicas if not replica.active and not self._silent(replica)]
        if missing := self.shard_count - len(self.shard_ids):
            found.append(f"{missing} of {self.shard_count} shards have no replica on any peer")
        if self.transfers and not self.peers.silent:
            found.append(f"{self.transfers} transfers of shards are under way")
        return found

    @property
    def problems_of_silent(self) -> list[str]:
        """Name the peers that do not answer, and the replicas that are not healthy because of it."""
        replicas = [self._told(replica) for replica in self.replicas if not replica.active and self._silent(replica)]
        return [*(f"{url} does not answer" for url in self.peers.silent), *replicas]

    def _silent(self, replica: Replica) -> bool:
        return bool(self.peers.silent) and replica.peer_id not in self.peers.servers

    def _told(self, replica: Replica) -> str:
        return f"shard {replica.shard_id} on {self.peers.named(replica.peer_id)} is {replica.trouble}"


async def survey(server: VectorServer, collection: str) -> Layout:
    """Ask every peer of a target where the shards of a collection are.

    Raises:
        NotFound: no such collection.
        Unreachable: no peer answers.
        Refused: a configured URL is not one peer's own (see `find_peers`).
    """
    peers = await find_peers(server)
    ids = list(peers.servers)
    answers = await asyncio.gather(
        *(_view(peers.servers[peer_id], collection, peer_id) for peer_id in ids),
    )
    views = [view for view in answers if view is not None]
    if not views:
        raise Unreachable(f"asking for the shards of {collection!r} on {server.name}: no peer answers any more")
    return layout_of(collection, peers, views)


async def _view(server: VectorServer, collection: str, peer_id: int) -> Json | None:
    try:
        return await cluster_view(server, collection, peer_id)
    except Unreachable:
        return None


def layout_of(collection: str, peers: Peers, views: list[Json]) -> Layout:
    """Put together what the peers say; each knows its own shards as local ones and those of the others as remote."""
    if not peers.distributed:
        only = int(views[0]["peer_id"])
        server = next(iter(peers.servers.values()))
        peers = Peers(False, {only: server.url}, {only: server})
    states: dict[tuple[int, int], dict[int, str]] = {}
    keys: dict[int, ShardKey] = {}
    for view in views:
        viewer = int(view["peer_id"])
        local = [{**row, "peer_id": viewer} for row in view.get("local_shards") or []]
        for row in [*local, *(view.get("remote_shards") or [])]:
            states.setdefault((row["shard_id"], row["peer_id"]), {})[viewer] = row["state"]
            if row.get("shard_key") is not None:
                keys[row["shard_id"]] = row["shard_key"]
    return Layout(
        collection=collection,
        peers=peers,
        shard_count=max(int(view["shard_count"]) for view in views),
        replicas=tuple(
            Replica(shard_id, peer_id, seen, keys.get(shard_id)) for (shard_id, peer_id), seen in sorted(states.items())
        ),
        transfers=max(len(view.get("shard_transfers") or []) for view in views),
    )


def choose_replicas(layout: Layout, prefer: Mapping[int, int] | None = None) -> dict[int, Replica]:
    """Choose for every shard one healthy replica at a peer that can be reached, the work spread over the peers.

    `prefer` says for some shards on which peer, where that one is healthy.

    Raises:
        Refused: some shard has none; the message names each and why.
    """
    chosen: dict[int, Replica] = {}
    refused: list[str] = []
    load: Counter[int] = Counter()
    # Shards with the least choice first, so that the others can go round them.
    for shard_id in sorted(layout.shard_ids, key=lambda one: (len(_usable(layout, one)), one)):
        usable = _usable(layout, shard_id)
        if not usable:
            refused.append(_why_none(layout, shard_id))
            continue
        wanted = (prefer or {}).get(shard_id)
        usable.sort(key=lambda replica: (replica.peer_id != wanted, load[replica.peer_id], replica.peer_id))
        chosen[shard_id] = usable[0]
        load[usable[0].peer_id] += 1
    if missing := layout.shard_count - len(layout.shard_ids):
        refused.append(f"{missing} of its {layout.shard_count} shards have no replica on any peer")
    if refused:
        raise Refused(
            f"choosing a healthy replica of every shard of {layout.collection!r}: {'; '.join(refused)}",
            hint=CLUSTER_HINT if layout.peers.without_url else "heal the cluster first, or restore an older backup",
        )
    return dict(sorted(chosen.items()))


def _usable(layout: Layout, shard_id: int) -> list[Replica]:
    return [replica for replica in layout.of(shard_id) if replica.active and replica.peer_id in layout.peers.servers]


def _why_none(layout: Layout, shard_id: int) -> str:
    reasons = []
    for replica in layout.of(shard_id):
        where = layout.peers.named(replica.peer_id)
        reasons.append(
            f"on {where} it is {replica.trouble}" if not replica.active else f"{where} has no URL configured"
        )
    return f"shard {shard_id}: {', '.join(reasons)}"


async def wait_until_active(
    server: VectorServer, collection: str, *, timeout_s: float, without_silent: bool = False
) -> Layout:
    """Wait until every peer sees every replica of every shard as active, and nothing is being transferred.

    `without_silent` does not wait for peers that do not answer; what is not well for that is told by the layout.

    Raises:
        ServerFailed: some are not in time; the message names them.
        NotFound: no such collection.
        Unreachable, Refused: as `survey`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        problems: list[str] = []
        try:
            layout = await survey(server, collection)
        except NotFound:
            if loop.time() > deadline:
                raise  # until then: a peer learns of a new collection a moment later than the one that was asked
        else:
            problems = layout.problems
            if not (layout.problems_of_others if without_silent else problems):
                return layout
        if loop.time() > deadline:
            raise ServerFailed(
                f"waiting for the replicas of {collection!r} on {server.name}: after {timeout_s:.0f} s "
                f"{'; '.join(problems)}",
                hint="see GET /collections/{name}/cluster on each peer; a dead replica can be transferred anew",
            )
        await asyncio.sleep(_POLL_S)
