"""The shards of a backup on their way into a new collection, some at once: brought while it is made, then uploaded."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import ShardPart, VectorManifest
from reanimate.backups.materialise import materialise
from reanimate.backups.sums import Sums
from reanimate.errors import ReanimateError, Refused
from reanimate.restores.making import make_collection
from reanimate.vector.layout import Layout
from reanimate.vector.placement import Assignment, CreationPlan
from reanimate.vector.server import VectorServer
from reanimate.vector.transfers import TransferLimits, upload_shard_snapshot

__all__ = ["Loading", "staged"]

Progress = Callable[[str, int, int], None]

T = TypeVar("T")


async def staged(about: str, stage: str, work: Awaitable[T]) -> T:
    """Do one stage; an error of it says which."""
    try:
        return await work
    except ReanimateError as error:
        hint = error.hint or "live data is untouched; the new collection is deleted again"
        kind = next(kind for kind in type(error).__mro__ if kind.__module__ == ReanimateError.__module__)
        raise kind(f"{about} failed at {stage}: {error.args[0]}", hint=hint) from error


class Loading:
    """One backup being loaded into one collection. No file is uploaded before it is whole, and checked."""

    def __init__(
        self,
        server: VectorServer,
        catalog: Catalog,
        manifest: VectorManifest,
        name: str,
        scratch: Path,
        *,
        limits: TransferLimits,
        parallel: int,
        progress: Progress,
    ) -> None:
        self._server = server
        self._catalog = catalog
        self._manifest = manifest
        self._name = name
        self._scratch = scratch
        self._limits = limits
        self._at_once = asyncio.Semaphore(parallel)
        self._progress = progress
        self._brought, self._sent = Sums(progress, "download"), Sums(progress, "upload")
        self._about = f"restoring backup {manifest.id} into {name!r} on {server.name}"
        self._made = asyncio.Event()
        self._places: dict[int, Assignment] = {}
        self._layout: Layout | None = None

    async def load(self, plan: CreationPlan) -> None:
        """Make the collection and load every shard; the first failure ends everything that is still under way."""
        await _all_or_first_failure(self._make(plan), *(self._load(part) for part in self._manifest.parts))

    async def _make(self, plan: CreationPlan) -> None:
        self._progress("create", 0, 1)
        assignments, self._layout = await staged(self._about, "create", self._made_anew(plan))
        self._places = {goes.source.shard_id: goes for goes in assignments}
        self._made.set()
        self._progress("create", 1, 1)

    async def _made_anew(self, plan: CreationPlan) -> tuple[list[Assignment], Layout]:
        """Make the collection. The name was free, but a server may still be making what a killed attempt asked for."""
        try:
            return await make_collection(self._server, self._name, self._manifest, plan)
        except Refused:
            if self._name not in await self._server.collections():
                raise
        await self._server.delete_collection(self._name)
        return await make_collection(self._server, self._name, self._manifest, plan)

    async def _load(self, part: ShardPart) -> None:
        async with self._at_once:
            file = self._scratch / f"shard-{part.shard_id}.snapshot"
            bringing = materialise(self._catalog, self._manifest, part, file, self._brought.of(part.shard_id))
            brought = await staged(self._about, "download", bringing)
            await self._made.wait()
            assert self._layout is not None
            goes = self._places[part.shard_id]
            holder = self._layout.peers.servers[goes.peer_id]
            uploading = upload_shard_snapshot(
                holder, self._name, goes.shard_id, file, brought.sha256, self._limits, self._sent.of(part.shard_id)
            )
            await staged(self._about, "upload", uploading)
            await asyncio.to_thread(file.unlink)


async def _all_or_first_failure(*work: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
