"""All shards of a collection brought here: found, a healthy replica of each chosen, fetched several at once."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from reanimate.backups.catalog import Catalog
from reanimate.backups.changes import NoBase, newest_full, why_not_base
from reanimate.backups.fetching import FetchedShard, NothingChanged, Patience, ShardSource, fetch_changes, fetch_full
from reanimate.backups.manifest import Server, ShardPart
from reanimate.backups.materialise import fetch_bare
from reanimate.backups.scratch import require_room
from reanimate.backups.sums import Sums
from reanimate.backups.unfinished import Unfinished
from reanimate.errors import NotFound
from reanimate.vector.config import Json
from reanimate.vector.layout import Layout, Replica, choose_replicas, survey
from reanimate.vector.partial_transfers import TooLarge
from reanimate.vector.server import VectorServer

__all__ = ["Brought", "Source", "bring", "look"]

Progress = Callable[[str, int, int], None]

_SENT_AT_MOST = 2
"""Times the full snapshot: a server sends every file of a segment that was touched, most of them as they were."""
_SMALL = 64 << 20


class _Options(Protocol):
    """What is asked here of the options of a backup."""

    @property
    def patience(self) -> Patience: ...
    @property
    def partial_share(self) -> float: ...
    @property
    def parallel(self) -> int: ...


@dataclass(frozen=True)
class Source:
    """What is being backed up, as found before the first snapshot."""

    server: VectorServer
    collection: str
    asked_as: str
    aliases: list[str]
    layout: Layout
    replicas: Mapping[int, Replica]
    """The replica of every shard that it is taken from."""
    info: Json
    identity: Server

    def shard(self, replica: Replica) -> ShardSource:
        """Return where to fetch a replica."""
        return ShardSource(self.layout.peers.servers[replica.peer_id], self.collection, replica)


@dataclass(frozen=True)
class Brought:
    """All shards on our disk, and the full backup that they build on."""

    shards: Mapping[int, FetchedShard]
    base_id: str | None = None

    @property
    def calm(self) -> bool:
        """Say whether no server was rewriting segments while they were taken."""
        return all(shard.calm for shard in self.shards.values())


async def look(server: VectorServer, asked: str) -> Source:
    """Find out what the name means, where its shards are, and from where each can be taken.

    Raises:
        NotFound: no such collection or alias.
        Refused: a shard has no healthy replica that can be reached, or a configured URL is not one peer's own.
        Unreachable, ServerFailed: the server did not answer.
    """
    identity = await server.version()
    aliases = await server.aliases()
    collection = aliases.get(asked, asked)
    try:
        info = await server.info(collection)
    except NotFound:
        known = ", ".join(sorted({*await server.collections(), *aliases})) or "nothing"
        raise NotFound(
            f"backing up {asked!r}: {server.name} ({server.url}) has no such collection or alias",
            hint=f"it has {known}",
        ) from None
    layout = await survey(server, collection)
    return Source(
        server=server,
        collection=collection,
        asked_as=asked,
        aliases=sorted(alias for alias, owner in aliases.items() if owner == collection),
        layout=layout,
        replicas=choose_replicas(layout),
        info=info,
        identity=Server(title=identity.title, version=identity.version),
    )


async def bring(
    source: Source,
    catalog: Catalog,
    scratch: Path,
    journal: Unfinished,
    options: _Options,
    progress: Progress,
    changes_only: bool,
) -> Brought:
    """Fetch every shard, several at once.

    Raises:
        NoBase: changes only were asked for, and cannot be had; the text says why.
        ReanimateError: as `fetch_full` and `fetch_changes`.
    """
    if changes_only:
        return await _bring_changes(source, catalog, scratch, options, progress)
    return await _bring_full(source, scratch, journal, options, progress)


async def _bring_full(
    source: Source, scratch: Path, journal: Unfinished, options: _Options, progress: Progress
) -> Brought:
    sums = Sums(progress, "download")

    async def fetch(replica: Replica) -> FetchedShard:
        return await fetch_full(source.shard(replica), scratch, journal, options.patience, sums.of(replica.shard_id))

    return Brought(await _all(source.replicas, fetch, options.parallel, progress))


async def _bring_changes(
    source: Source, catalog: Catalog, scratch: Path, options: _Options, progress: Progress
) -> Brought:
    """Fetch what changed since the newest full backup, from the replicas that it was taken from.

    Raises:
        NoBase: it cannot be had, or is not little enough to be worth it.
    """
    listing = await asyncio.to_thread(catalog.listing, source.collection)
    base = newest_full(listing.manifests, source.collection, source.server.name)
    parts = {part.shard_id: part for part in base.parts}
    wanted = {shard_id: part.peer_id for shard_id, part in parts.items() if part.peer_id is not None}
    replicas = choose_replicas(source.layout, wanted)
    peers = {shard_id: replica.peer_id for shard_id, replica in replicas.items()}
    if why := why_not_base(base, source.identity, source.info["config"], peers):
        raise NoBase(f"{why} (the newest full backup is {base.id})")
    require_room(scratch, 3 * base.size_bytes, f"the full backup {base.id} and what changed since")
    sums = Sums(progress, "download")

    async def fetch(replica: Replica) -> FetchedShard:
        part = parts[replica.shard_id]
        return await _changes(catalog, source.shard(replica), part, scratch, options, sums)

    too_much = f"more than {options.partial_share:.0%} of the full backup {base.id} has changed"
    try:
        shards = await _all(replicas, fetch, options.parallel, progress)
    except TooLarge:
        raise NoBase(too_much) from None
    if sum(shard.stored_size for shard in shards.values()) > options.partial_share * base.size_bytes:
        raise NoBase(too_much)
    return Brought(shards, base.id)


async def _changes(
    catalog: Catalog,
    source: ShardSource,
    part: ShardPart,
    scratch: Path,
    options: _Options,
    sums: Sums,
) -> FetchedShard:
    base_file = scratch / f"shard-{part.shard_id}.base"
    try:
        await fetch_bare(catalog, part, base_file)
        return await fetch_changes(
            source,
            part,
            base_file,
            scratch,
            options.patience,
            sums.of(part.shard_id),
            at_most=_SENT_AT_MOST * part.size + _SMALL,
        )
    except NothingChanged:
        raise NoBase(f"the server does not say what changed in shard {part.shard_id}, only that nothing did") from None


async def _all(
    replicas: Mapping[int, Replica],
    fetch: Callable[[Replica], Awaitable[FetchedShard]],
    parallel: int,
    progress: Progress,
) -> dict[int, FetchedShard]:
    """Fetch all, so many at once; the first failure ends the others."""
    slots = asyncio.Semaphore(parallel)
    finished = 0

    async def one(replica: Replica) -> FetchedShard:
        nonlocal finished
        async with slots:
            fetched = await fetch(replica)
        finished += 1
        progress("snapshot", finished, len(replicas))
        return fetched

    progress("snapshot", 0, len(replicas))
    try:
        async with asyncio.TaskGroup() as group:
            tasks = {shard_id: group.create_task(one(replica)) for shard_id, replica in replicas.items()}
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return {shard_id: task.result() for shard_id, task in tasks.items()}
