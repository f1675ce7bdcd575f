"""The shards of a backup on their way into the repository, while the engine still reads them back."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from reanimate.backups.catalog import Catalog
from reanimate.backups.fetching import FetchedShard
from reanimate.backups.manifest import ShardPart, Whole
from reanimate.backups.stored_parts import store_part
from reanimate.errors import Damaged, ReanimateError
from reanimate.storage.blobs import remove_objects

__all__ = ["removed_beside", "stored_beside"]

Progress = Callable[[str, int, int], None]


@asynccontextmanager
async def stored_beside(
    catalog: Catalog, prefix: str, shards: Iterable[FetchedShard], progress: Progress
) -> AsyncIterator[asyncio.Task[list[ShardPart]]]:
    """Store the shards while the block runs; what it yields has the parts, in the order of the shards, when it is done.

    When the block fails, or the storing, nothing of it stays in the store; after a kill, `unfinished.sweep` sees to it.

    Raises:
        Damaged: a file changed on our own disk since it was downloaded and checked.
        Unreachable, Refused: the store could not be written.
    """
    wanted = sorted(shards, key=lambda shard: shard.source.shard_id)
    storing = asyncio.create_task(_store_all(catalog, prefix, wanted, progress))
    try:
        yield storing
        await storing
    except BaseException:
        storing.cancel()
        await asyncio.wait([storing])
        with suppress(ReanimateError):
            await remove_objects(catalog.store, [_key(prefix, shard) for shard in wanted])
        raise


@asynccontextmanager
async def removed_beside(folder: Path) -> AsyncIterator[None]:
    """Remove a folder with many files while the block runs."""
    removing = asyncio.create_task(asyncio.to_thread(shutil.rmtree, folder, True))
    try:
        yield
    finally:
        await removing


async def _store_all(
    catalog: Catalog, prefix: str, shards: Iterable[FetchedShard], progress: Progress
) -> list[ShardPart]:
    # One after the other: each is read, hashed, compressed and sent by threads of its own already.
    return [await _store(catalog, _key(prefix, shard), shard, progress) for shard in shards]


async def _store(catalog: Catalog, key: str, shard: FetchedShard, progress: Progress) -> ShardPart:
    """Store one part, and see that what was sent is what was downloaded and checked.

    Raises:
        Damaged: the file changed on our own disk in between.
    """
    replica = shard.source.replica
    part = await store_part(
        catalog, key, shard.stored, "vectors", on_progress=lambda done, total: progress("store", done, total)
    )
    if part.sha256 != shard.stored_sha256:
        raise Damaged(
            f"storing {key}: the file changed on this machine's disk ({shard.stored_sha256} became {part.sha256})"
        )
    whole = None
    if shard.base is not None:
        whole = Whole(size=shard.whole_size, sha256=shard.whole_sha256, base_sha256=shard.base.sha256)
    return ShardPart(
        **part.model_dump(),
        shard_id=replica.shard_id,
        shard_key=replica.shard_key,
        peer_id=replica.peer_id,
        numbers=shard.numbers,
        whole=whole,
    )


def _key(prefix: str, shard: FetchedShard) -> str:
    return f"{prefix}/{shard.stored.name}"
