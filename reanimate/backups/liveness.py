"""The snapshot held against the live collection: counts before and after, a sample of points, whether anybody wrote.

A difference proves nothing while the collection is written to. So each shard is asked for the number of its newest
operation before and after: where the numbers stood still nobody wrote, and then no difference can be explained.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from reanimate.backups.bringing import Source
from reanimate.backups.comparison import Tally, tally
from reanimate.backups.facts import SnapshotFacts
from reanimate.errors import Damaged, ReanimateError
from reanimate.vector.layout import Replica
from reanimate.vector.partial_transfers import partial_manifest

__all__ = ["Witness", "count_warnings", "point_warnings"]

_PAGE = 100


@dataclass(frozen=True)
class Witness:
    """The newest operation of every shard when a backup began; None where the server does not tell."""

    operations: Mapping[int, int] | None

    @classmethod
    async def before(cls, source: Source) -> "Witness":
        """Ask every shard for its newest operation."""
        return cls(await _operations(source))

    async def compare(
        self, source: Source, facts: SnapshotFacts, before: int | None, after: int | None, *, calm: bool
    ) -> list[str]:
        """Hold the snapshot against what was live then and is now; return what is worth saying.

        `before` and `after` are the exact live counts, None where they are not known exactly.

        Raises:
            Damaged: they differ, and nobody wrote meanwhile.
            Unreachable, ServerFailed: the server did not answer.
        """
        points = []
        ids = [sentinel.id for sentinel in facts.sentinels]
        for at in range(0, len(ids), _PAGE):
            points += await source.server.retrieve(source.collection, ids[at : at + _PAGE])
        found = tally(facts.sentinels, points)
        quiet = self.operations is not None and await _operations(source) == self.operations
        return [
            *count_warnings(source.collection, before, after, facts.count, quiet=quiet, calm=calm),
            *point_warnings(source.collection, found, quiet=quiet, calm=calm),
        ]


def count_warnings(
    collection: str, before: int | None, after: int | None, found: int, *, quiet: bool = True, calm: bool = True
) -> list[str]:
    """Hold the snapshot's count against the exact live counts before and after it (None: not known exactly).

    `quiet`: nobody wrote meanwhile. `calm`: the server rewrote no segments meanwhile; if it did, points that had been
    deleted may be in the snapshot, which is a warning to whoever restores it.

    Raises:
        Damaged: the difference cannot be explained, or the snapshot is empty and the collection is not.
    """
    if before is None or after is None:
        return ["the live collection could not be counted exactly (strict mode); the snapshot's own count stands"]
    if found == 0 and 0 not in (before, after):
        raise Damaged(f"the snapshot of {collection!r} is empty, the collection holds {after} points")
    if quiet and before == after != found and (calm or found < after):
        raise Damaged(
            f"the snapshot of {collection!r} holds {found} points, the collection {before}",
            hint="nothing was published; take another backup, and look at the server's log",
        )
    warnings = [] if calm else [_not_calm(found - after if quiet else None)]
    if found == 0:
        warnings.append("the collection was empty; a restore prefers an older backup that holds points")
    return warnings


def _not_calm(more: int | None) -> str:
    what = "points" if more is None else f"{more} points"
    return (
        "the server was rewriting segments all the while, and puts points that are deleted meanwhile into its "
        f"snapshots: {what} may come back with this backup that had been deleted"
    )


def point_warnings(collection: str, found: Tally, *, quiet: bool, calm: bool = True) -> list[str]:
    """Judge a sample of the snapshot's points by what the live collection holds under the same ids.

    Raises:
        Damaged: some differ, and nothing explains it.
    """
    unexplained = len(found.changed) + (len(found.missing) if calm else 0)
    if quiet and unexplained:
        raise Damaged(
            f"the snapshot of {collection!r} does not hold what the collection holds, which nobody wrote to meanwhile: "
            f"of a sample of points {found}",
            hint="nothing was published; look at the server's log, and check its disk",
        )
    if not quiet and (found.changed or found.missing):
        return [f"of a sample of points {found} by the time the backup was done; the collection was being written to"]
    return []


async def _operations(source: Source) -> dict[int, int] | None:
    """Return the number of the newest operation of every shard, at the replica that it is taken from."""

    async def newest(replica: Replica) -> int:
        server = source.layout.peers.servers[replica.peer_id]
        manifest = await partial_manifest(server, source.collection, replica.shard_id)
        return max((int(one.get("segment_version") or 0) for one in manifest.values()), default=0)

    try:
        numbers = await asyncio.gather(*(newest(replica) for replica in source.replicas.values()))
    except ReanimateError:
        return None  # an older server, or a key without the right
    return dict(zip(source.replicas, numbers, strict=True))
