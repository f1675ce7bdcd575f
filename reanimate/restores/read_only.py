"""Load a backup into a server that takes no writes: the next part is fetched while one is loaded, nothing is mended."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import ShardPart, VectorManifest
from reanimate.backups.materialise import Materialised, materialise
from reanimate.backups.parts import OtherVectors
from reanimate.errors import Damaged, NotFound, ReanimateError, Refused, ServerFailed
from reanimate.restores.making import make_collection, plan_target
from reanimate.vector.layout import wait_until_active
from reanimate.vector.server import VectorServer
from reanimate.vector.transfers import TransferLimits, upload_shard_snapshot

__all__ = ["BadPart", "Parts", "fetching", "fitted", "load"]

Progress = Callable[[str, int, int], None]

_ACTIVE_S = 600.0
_NO_ROOM = re.compile(r"no space left|not enough (disk )?space|disk (is )?full", re.IGNORECASE)


class BadPart(Damaged):
    """A part is missing, is not what the manifest says, or cannot be loaded: the backup is not right."""

    def __init__(self, check: str, error: ReanimateError) -> None:
        super().__init__(error.args[0], hint=error.hint)
        self.check = check
        """Which check of a proof that is."""


@dataclass(frozen=True)
class _Ready:
    part: ShardPart
    file: Path
    made: Materialised


class Parts:
    """The parts of a backup, one after the other; the next is fetched meanwhile."""

    def __init__(self, queue: "asyncio.Queue[_Ready | BaseException]", count: int) -> None:
        self._queue = queue
        self.count = count

    async def next(self) -> _Ready:
        """Return the next part as a file, whole and checked.

        Raises:
            BadPart: it is not right.
            Unreachable, ConfigInvalid: it cannot be had now.
        """
        found = await self._queue.get()
        if isinstance(found, BaseException):
            raise found
        return found


@asynccontextmanager
async def fetching(
    catalog: Catalog, manifest: VectorManifest, folder: Path, progress: Progress
) -> AsyncIterator[Parts]:
    """Begin to fetch the parts into `folder`."""
    queue: asyncio.Queue[_Ready | BaseException] = asyncio.Queue(maxsize=1)

    def report(done: int, total: int) -> None:
        progress("download", done, total)

    async def fetch() -> None:
        try:
            for part in manifest.parts:
                file = folder / f"shard-{part.shard_id}.snapshot"
                await queue.put(_Ready(part, file, await materialise(catalog, manifest, part, file, report)))
        except OtherVectors as error:
            await queue.put(BadPart("dimensions", error))
        except (Damaged, NotFound) as error:
            await queue.put(BadPart("parts", error))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where the part is waited for
            await queue.put(error)

    task = asyncio.create_task(fetch())
    try:
        yield Parts(queue, len(manifest.parts))
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def fitted(manifest: VectorManifest, *, flat: bool) -> VectorManifest:
    """Return the manifest in the form in which a server can take it that serves nobody's writes.

    Strict mode would forbid a proof's own questions. `flat` is for the engine of our own: shards that are chosen by key
    become shards without one. Their points are the same.
    """
    config = {name: value for name, value in manifest.config.items() if name != "strict_mode_config"}
    if not flat:
        return manifest.model_copy(update={"config": config})
    params = {name: value for name, value in config["params"].items() if name != "sharding_method"}
    params |= {"shard_number": len(manifest.parts), "replication_factor": 1, "write_consistency_factor": 1}
    parts = tuple(
        part.model_copy(update={"shard_id": at, "shard_key": None, "peer_id": None})
        for at, part in enumerate(manifest.parts)
    )
    return manifest.model_copy(update={"config": {**config, "params": params}, "parts": parts, "shard_keys": []})


async def load(
    server: VectorServer, name: str, manifest: VectorManifest, parts: Parts, progress: Progress, *, flat: bool
) -> None:
    """Make the collection `name` and load the parts into it as they come; see `fitted`.

    Raises:
        BadPart: a part is not right, or the server cannot load it.
        Refused: the collection cannot be made on this server, which tells nothing about the backup.
        Unreachable, ServerFailed, ConfigInvalid: nothing is known.
    """
    wanted = fitted(manifest, flat=flat)
    progress("create", 0, 1)
    assignments, layout = await make_collection(server, name, wanted, await plan_target(server, wanted))
    places = {goes.source.shard_id: goes for goes in assignments}
    progress("create", 1, 1)
    for at, part in enumerate(wanted.parts):
        ready = await parts.next()
        assert ready.part.blob == part.blob  # both go through the parts of one manifest in their order
        goes = places[part.shard_id]
        progress("load", at, len(wanted.parts))
        try:
            await upload_shard_snapshot(
                layout.peers.servers[goes.peer_id], name, goes.shard_id, ready.file, ready.made.sha256, TransferLimits()
            )
        except (ServerFailed, Refused) as error:
            if _NO_ROOM.search(str(error)):
                raise  # the server's disk is full, which is no fault of the backup
            raise BadPart("loads", error) from error
        await asyncio.to_thread(ready.file.unlink)
    progress("load", len(wanted.parts), len(wanted.parts))
    if not flat:
        await wait_until_active(server, name, timeout_s=_ACTIVE_S)
