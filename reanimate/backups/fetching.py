"""Shards brought here from where they are: a full snapshot, or what changed since one put on top of it."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reanimate.backups.manifest import ShardPart
from reanimate.backups.scratch import require_room
from reanimate.backups.unfinished import Unfinished
from reanimate.errors import Damaged, NotFound, ReanimateError
from reanimate.vector.layout import Replica
from reanimate.vector.partial import base_manifest, merge_partial
from reanimate.vector.partial_transfers import fetch_partial_snapshot
from reanimate.vector.server import VectorServer
from reanimate.vector.snapshots import ShardSnapshot, create_shard_snapshot, delete_shard_snapshot
from reanimate.vector.transfers import TransferLimits, download_shard_snapshot

__all__ = ["FetchedShard", "NothingChanged", "ShardSource", "fetch_changes", "fetch_full", "forget"]

Progress = Callable[[int, int], None]


class NothingChanged(Exception):
    """The server says that a shard is as it was."""


@dataclass(frozen=True)
class ShardSource:
    """One replica of a shard, at the peer that holds it."""

    server: VectorServer
    collection: str
    replica: Replica

    @property
    def shard_id(self) -> int:
        return self.replica.shard_id

    def __str__(self) -> str:
        return f"{self.collection!r} shard {self.shard_id}"


@dataclass(frozen=True)
class FetchedShard:
    """One shard on our disk. `whole` is its complete snapshot; `stored`, which goes to the store, may be less."""

    source: ShardSource
    whole: Path
    whole_size: int
    whole_sha256: str
    stored: Path
    stored_size: int
    stored_sha256: str
    base: ShardPart | None = None
    """The part of the full backup that `stored` goes on top of."""
    snapshot: ShardSnapshot | None = None
    """What was made for it on the server and must be removed there."""


async def fetch_full(
    source: ShardSource,
    scratch: Path,
    journal: Unfinished,
    *,
    timeout_s: float,
    limits: TransferLimits,
    on_progress: Progress,
) -> FetchedShard:
    """Create and download one shard's snapshot; once more if somebody took it away or wrote over it meanwhile.

    Raises:
        NotFound, Refused, Unreachable, ServerFailed: the server has no such shard, or did not do it.
        Damaged: what came is not what the server said, twice.
        ConfigInvalid: not enough room.
    """
    file = scratch / f"shard-{source.shard_id}.snapshot"
    server, shard_id = source.server, source.shard_id
    for last in (False, True):
        snapshot = await create_shard_snapshot(
            server,
            source.collection,
            shard_id,
            timeout_s=timeout_s,
            before_asking=lambda there: journal.asking(shard_id, server.url, there),
        )
        await journal.note(shard_id, snapshot.name, server.url)
        require_room(scratch, 2 * snapshot.size, f"the snapshot of {source}")
        try:
            got = await download_shard_snapshot(
                server, source.collection, shard_id, snapshot, file, limits, on_progress
            )
        except (NotFound, Damaged):
            if last:
                raise
            await _forget(server, source.collection, shard_id, snapshot)
            continue
        return FetchedShard(source, file, got.size, got.sha256, file, got.size, got.sha256, snapshot=snapshot)
    raise AssertionError("unreachable: the second attempt returns or raises")


async def fetch_changes(
    source: ShardSource,
    base: ShardPart,
    base_file: Path,
    scratch: Path,
    *,
    at_most: int,
    limits: TransferLimits,
    on_progress: Progress,
) -> FetchedShard:
    """Fetch what changed in a shard since its full snapshot `base_file`, and put both together.

    Nothing is made on the server. `base_file` is removed when it is not needed any more.

    Raises:
        NothingChanged: there is nothing to fetch.
        TooLarge: more than `at_most` bytes have changed.
        Damaged, Refused: the two do not go together.
        NotFound, Unreachable, ServerFailed: the server has no such shard there, or did not do it.
        ConfigInvalid: not enough room.
    """
    partial, whole = scratch / f"shard-{source.shard_id}.partial", scratch / f"shard-{source.shard_id}.snapshot"
    known = await asyncio.to_thread(base_manifest, base_file)
    got = await fetch_partial_snapshot(
        source.server,
        source.collection,
        source.shard_id,
        known,
        partial,
        limits,
        at_most=at_most,
        on_progress=on_progress,
    )
    if got is None:
        raise NothingChanged
    require_room(scratch, 2 * (base.size + got.size), f"the snapshot of {source}")
    merged = await asyncio.to_thread(merge_partial, base_file, partial, whole)
    await asyncio.to_thread(base_file.unlink)
    return FetchedShard(source, whole, merged.size, merged.sha256, partial, got.size, got.sha256, base=base)


async def forget(fetched: Mapping[int, FetchedShard]) -> None:
    """Remove the servers' copies. The backup stands whether or not this works; what stays is swept up later."""
    for shard_id, shard in fetched.items():
        if shard.snapshot is not None:
            await _forget(shard.source.server, shard.source.collection, shard_id, shard.snapshot)


async def _forget(server: VectorServer, collection: str, shard_id: int, snapshot: ShardSnapshot) -> None:
    with suppress(ReanimateError):
        await delete_shard_snapshot(server, collection, shard_id, snapshot.name)
