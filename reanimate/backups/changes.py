"""Which full backup a backup of changes only can build on, or why none can. Pure."""

from collections.abc import Iterable, Mapping

from reanimate.backups.manifest import Server, VectorManifest
from reanimate.vector.config import Json, vector_differences

__all__ = ["NoBase", "newest_full", "why_not_base"]


class NoBase(Exception):
    """Changes only cannot be taken, and a full backup is; the text says why."""


def newest_full(backups: Iterable[VectorManifest], collection: str, target: str) -> VectorManifest:
    """Return the newest full backup of this collection there; `backups` are newest first.

    An older one is no way out when this one will not do: what changed since is more, and what rules one out rules out
    the other.

    Raises:
        NoBase: there is none.
    """
    for backup in backups:
        if backup.base is None and backup.collection == collection and backup.target == target:
            return backup
    raise NoBase("there is no full backup yet")


def why_not_base(base: VectorManifest, server: Server, config: Json, peers: Mapping[int, int]) -> str | None:
    """Say why changes cannot go on top of a full backup, or None."""
    if base.server != server:
        return f"the server was {base.server.version} then and is {server.version}"
    if differences := vector_differences(base.config, config):
        return f"the vectors are others: {differences[0]}"
    if silent := [part.shard_id for part in base.parts if part.numbers is None]:
        return f"it does not say how the changes of shard {silent[0]} were numbered"
    had = {part.shard_id: part.peer_id for part in base.parts}
    if had.keys() != peers.keys():
        return f"the shards were {sorted(had)} and are {sorted(peers)}"
    for shard_id, peer_id in peers.items():
        if had[shard_id] != peer_id:
            return f"shard {shard_id} was taken from peer {had[shard_id]}, which does not hold a healthy replica now"
    return None
