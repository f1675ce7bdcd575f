"""Shards brought here from where they are: a full snapshot, or what changed since one put on top of it."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from reanimate.backups.manifest import ShardPart
from reanimate.backups.scratch import require_room
from reanimate.backups.unfinished import Unfinished
from reanimate.errors import Damaged, NotFound, ReanimateError, Refused, ServerFailed
from reanimate.vector.calm import is_optimizing, wait_until_calm
from reanimate.vector.layout import Replica
from reanimate.vector.partial import base_manifest, inspect_partial, merge_partial, numbers_of, require_same_history
from reanimate.vector.partial_transfers import fetch_partial_snapshot, partial_manifest
from reanimate.vector.server import VectorServer
from reanimate.vector.slimming import slim_partial
from reanimate.vector.snapshots import ShardSnapshot, create_shard_snapshot, delete_shard_snapshot
from reanimate.vector.transfers import TransferLimits, download_shard_snapshot

__all__ = ["FetchedShard", "NothingChanged", "Patience", "ShardSource", "fetch_changes", "fetch_full", "forget"]

Progress = Callable[[int, int], None]


class NothingChanged(Exception):
    """The server says that a shard is as it was."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for what. Seconds."""

    snapshot_s: float = 3600.0
    calm_s: float = 120.0
    """For a moment in which the server rewrites no segments."""
    transfer: TransferLimits = field(default_factory=TransferLimits)


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
    calm: bool
    """Whether the server was not rewriting segments: else points that had been deleted may be in it."""
    whole: Path
    whole_size: int
    whole_sha256: str
    stored: Path
    stored_size: int
    stored_sha256: str
    numbers: dict[str, list[int]] | None = None
    """How the server numbered the changes of each segment just before; None where it does not tell."""
    base: ShardPart | None = None
    """The part of the full backup that `stored` goes on top of."""
    snapshot: ShardSnapshot | None = None
    """What was made for it on the server and must be removed there."""


async def fetch_full(
    source: ShardSource, scratch: Path, journal: Unfinished, patience: Patience, on_progress: Progress
) -> FetchedShard:
    """Create and download one shard's snapshot; once more if somebody took it away or wrote over it meanwhile.

    One that the server made while it was rewriting segments is made again, as long as there is time for that.

    Raises:
        NotFound, Refused, Unreachable, ServerFailed: the server has no such shard, or did not do it.
        Damaged: what came is not what the server said, twice.
        ConfigInvalid: not enough room.
    """
    file = scratch / f"shard-{source.shard_id}.snapshot"
    for last in (False, True):
        moment = _Moment(source, patience.calm_s)
        while True:
            numbers = await moment.begin()
            snapshot = await _create(source, journal, patience.snapshot_s)
            if await moment.was_good() or moment.over:
                break
            await _forget(source, snapshot)
        require_room(scratch, 2 * snapshot.size, f"the snapshot of {source}")
        try:
            got = await download_shard_snapshot(
                source.server, source.collection, source.shard_id, snapshot, file, patience.transfer, on_progress
            )
        except (NotFound, Damaged):
            if last:
                raise
            await _forget(source, snapshot)
            continue
        return FetchedShard(
            source=source,
            calm=moment.good,
            whole=file,
            whole_size=got.size,
            whole_sha256=got.sha256,
            stored=file,
            stored_size=got.size,
            stored_sha256=got.sha256,
            numbers=numbers,
            snapshot=snapshot,
        )
    raise AssertionError("unreachable: the second attempt returns or raises")


async def fetch_changes(
    source: ShardSource,
    base: ShardPart,
    base_file: Path,
    scratch: Path,
    patience: Patience,
    on_progress: Progress,
    *,
    at_most: int,
) -> FetchedShard:
    """Fetch what changed in a shard since its full snapshot `base_file`, keep what really did, and put both together.

    Nothing is made on the server. `base_file` is removed when it is not needed any more.

    Raises:
        NothingChanged: there is nothing to fetch.
        TooLarge: more than `at_most` bytes have changed.
        Damaged, Refused: the two do not go together.
        NotFound, Unreachable, ServerFailed: the server has no such shard there, or did not do it.
        ConfigInvalid: not enough room.
    """
    streamed, partial, whole = (
        scratch / f"shard-{source.shard_id}.{kind}" for kind in ("streamed", "partial", "snapshot")
    )
    known = await asyncio.to_thread(base_manifest, base_file)
    moment = _Moment(source, patience.calm_s)
    while True:
        await moment.begin()
        got = await fetch_partial_snapshot(
            source.server,
            source.collection,
            source.shard_id,
            known,
            streamed,
            patience.transfer,
            at_most=at_most,
            on_progress=on_progress,
        )
        if await moment.was_good() or moment.over:
            break
    if got is None:
        raise NothingChanged
    facts = await asyncio.to_thread(inspect_partial, streamed)
    require_same_history(base.numbers or {}, known, facts)
    require_room(scratch, 2 * base.size + 3 * got.size, f"the snapshot of {source}")
    slim = await asyncio.to_thread(slim_partial, base_file, streamed, facts, partial)
    await asyncio.to_thread(streamed.unlink)
    merged = await asyncio.to_thread(merge_partial, base_file, partial, whole)
    await asyncio.to_thread(base_file.unlink)
    return FetchedShard(
        source=source,
        calm=moment.good,
        whole=whole,
        whole_size=merged.size,
        whole_sha256=merged.sha256,
        stored=partial,
        stored_size=slim.size,
        stored_sha256=slim.sha256,
        base=base,
    )


class _Moment:
    """A moment in which no segment is being rewritten, looked for as long as there is time, and judged afterwards."""

    def __init__(self, source: ShardSource, patience_s: float) -> None:
        self._source = source
        self._deadline = asyncio.get_running_loop().time() + patience_s
        self._calm = False
        self._segments: set[str] = set()
        self.good = False

    @property
    def over(self) -> bool:
        """Say whether there is no time left to look for a better one."""
        return asyncio.get_running_loop().time() >= self._deadline

    async def begin(self) -> dict[str, list[int]] | None:
        """Wait for it; return how the server numbers the changes of each segment."""
        left = max(0.0, self._deadline - asyncio.get_running_loop().time())
        self._calm = await wait_until_calm(self._source.server, self._source.collection, timeout_s=left)
        numbers = await _numbers(self._source)
        self._segments = set(numbers or ())
        return numbers

    async def was_good(self) -> bool:
        """Say whether nothing was rewritten since: nothing is, and no segment of then is gone."""
        self.good = self._calm and not await is_optimizing(self._source.server, self._source.collection)
        if self.good and self._segments:
            self.good = self._segments <= set(await _numbers(self._source) or ())
        return self.good


async def _create(source: ShardSource, journal: Unfinished, timeout_s: float) -> ShardSnapshot:
    server, shard_id = source.server, source.shard_id
    snapshot = await create_shard_snapshot(
        server,
        source.collection,
        shard_id,
        timeout_s=timeout_s,
        before_asking=lambda there: journal.asking(shard_id, server.url, there),
    )
    await journal.note(shard_id, snapshot.name, server.url)
    return snapshot


async def _numbers(source: ShardSource) -> dict[str, list[int]] | None:
    try:
        return numbers_of(await partial_manifest(source.server, source.collection, source.shard_id))
    except (Refused, ServerFailed):
        return None  # an older server, which makes no partial snapshots either


async def forget(fetched: Iterable[FetchedShard]) -> None:
    """Remove the servers' copies. The backup stands whether or not this works; what stays is swept up later."""
    for shard in fetched:
        if shard.snapshot is not None:
            await _forget(shard.source, shard.snapshot)


async def _forget(source: ShardSource, snapshot: ShardSnapshot) -> None:
    with suppress(ReanimateError):
        await delete_shard_snapshot(source.server, source.collection, source.shard_id, snapshot.name)
