"""Take a backup: snapshot every shard, fetch, check, read back, store, publish; only then remove it from the server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from reanimate import __version__
from reanimate.backups.blobs import store_file
from reanimate.backups.catalog import Catalog, backup_prefix, new_backup_id
from reanimate.backups.comparison import count_points
from reanimate.backups.facts import SnapshotFacts, read_facts
from reanimate.backups.manifest import LiveCounts, Server, ShardPart, VectorManifest
from reanimate.backups.parts import check_part
from reanimate.backups.scratch import require_room, scratch_folder
from reanimate.backups.unfinished import Unfinished, sweep
from reanimate.clock import utcnow
from reanimate.config import BackupSettings
from reanimate.errors import Damaged, NotFound, ReanimateError, Refused
from reanimate.vector.config import Json, payload_schema, refuse_custom_sharding
from reanimate.vector.server import VectorServer
from reanimate.vector.snapshots import ShardSnapshot, create_shard_snapshot, delete_shard_snapshot
from reanimate.vector.transfers import TransferLimits, download_shard_snapshot

__all__ = ["BackupOptions", "Progress", "count_warnings", "take_backup"]

Progress = Callable[[str, int, int], None]
"""Called with the stage, how much of it is done, and the total: bytes, or steps where there are no bytes."""


@dataclass(frozen=True)
class BackupOptions:
    """How a backup is taken."""

    sentinels: int = 20
    golden_queries: int = 5
    snapshot_timeout_s: float = 3600.0
    reader_timeout_s: float = 1800.0
    transfer: TransferLimits = field(default_factory=TransferLimits)

    @classmethod
    def from_settings(cls, settings: BackupSettings) -> "BackupOptions":
        return cls(settings.sentinels, settings.golden_queries, settings.snapshot_timeout_s)


@dataclass(frozen=True)
class _Source:
    """What is being backed up, as found before the first snapshot."""

    collection: str
    asked_as: str
    aliases: list[str]
    shard_ids: list[int]
    info: Json
    server: Server


@dataclass(frozen=True)
class _Fetched:
    """One shard's snapshot on our disk."""

    shard_id: int
    snapshot: ShardSnapshot
    file: Path
    sha256: str


async def take_backup(
    server: VectorServer,
    collection: str,
    catalog: Catalog,
    options: BackupOptions | None = None,
    *,
    totals: Mapping[str, int] | None = None,
    backup_id: str | None = None,
    on_progress: Progress | None = None,
) -> VectorManifest:
    """Back up a collection, or the one behind an alias, and return the manifest that was published.

    Nothing is listed before the manifest is written, which comes last. `totals` are the writes that gateways have
    acknowledged, by collection. Stages of progress: snapshot, download, check, store.

    Raises:
        NotFound: no such collection or alias.
        Refused: custom shard keys, shards on other peers of a cluster, or a key without the right.
        Damaged: what was fetched is not whole, cannot be read back, or does not hold what the collection does.
        Unreachable, ServerFailed: the server or the store did not answer.
        ConfigInvalid: not enough room for the files on their way.
    """
    options = options or BackupOptions()
    progress = on_progress or _silent
    source = await _look(server, collection)
    taken_at = utcnow()
    backup_id = backup_id or new_backup_id(source.collection, taken_at)
    prefix = backup_prefix(source.collection, backup_id)
    await sweep(server, catalog, source.collection, taken_at)
    journal = Unfinished(catalog.store, prefix, server.name, source.collection, taken_at)
    async with scratch_folder(catalog.scratch, "backup") as scratch:
        before, exact = await count_points(server, source.collection)
        fetched = await _fetch_all(server, source, scratch, journal, options, progress)
        after, _ = await count_points(server, source.collection)
        progress("check", 0, 1)
        facts = await _check(fetched, source, scratch, backup_id, options)
        warnings = count_warnings(source.collection, before if exact else None, after if exact else None, facts.count)
        progress("check", 1, 1)
        parts = [await _store(catalog, prefix, shard, progress) for shard in fetched]
    manifest = _describe(source, server.name, backup_id, taken_at, facts, LiveCounts(before=before, after=after), parts)
    manifest = manifest.model_copy(
        update={"gateway_totals": dict(totals) if totals is not None else None, "warnings": warnings}
    )
    await catalog.publish(manifest)
    for shard in fetched:
        await _forget(server, source.collection, shard)
    await journal.done()
    return manifest


async def _look(server: VectorServer, asked: str) -> _Source:
    """Find out what the name means and whether it can be backed up from here.

    Raises:
        NotFound, Refused: see `take_backup`.
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
    refuse_custom_sharding(info["config"])
    shards = await server.shards(collection)
    if elsewhere := [place.shard_id for place in shards if not place.local]:
        raise Refused(
            f"backing up {collection!r}: shards {elsewhere} are on other peers of the cluster, not on {server.name}",
            hint="collections spread over a cluster are not supported yet; use the server's own backup for now",
        )
    return _Source(
        collection=collection,
        asked_as=asked,
        aliases=sorted(alias for alias, owner in aliases.items() if owner == collection),
        shard_ids=[place.shard_id for place in shards],
        info=info,
        server=Server(title=identity.title, version=identity.version),
    )


async def _fetch_all(
    server: VectorServer,
    source: _Source,
    scratch: Path,
    journal: Unfinished,
    options: BackupOptions,
    progress: Progress,
) -> list[_Fetched]:
    fetched = []
    for at, shard_id in enumerate(source.shard_ids):
        progress("snapshot", at, len(source.shard_ids))
        fetched.append(await _fetch(server, source.collection, shard_id, scratch, journal, options, progress))
    progress("snapshot", len(source.shard_ids), len(source.shard_ids))
    return fetched


async def _fetch(
    server: VectorServer,
    collection: str,
    shard_id: int,
    scratch: Path,
    journal: Unfinished,
    options: BackupOptions,
    progress: Progress,
) -> _Fetched:
    """Create and download one shard's snapshot; once more if somebody took it away or wrote over it meanwhile."""
    file = scratch / f"shard-{shard_id}.snapshot"
    for last in (False, True):
        snapshot = await create_shard_snapshot(server, collection, shard_id, timeout_s=options.snapshot_timeout_s)
        await journal.note(shard_id, snapshot.name)
        require_room(scratch, 2 * snapshot.size, f"the snapshot of {collection!r} shard {shard_id}")
        try:
            received = await download_shard_snapshot(
                server,
                collection,
                shard_id,
                snapshot,
                file,
                options.transfer,
                lambda done, total: progress("download", done, total),
            )
        except (NotFound, Damaged):
            if last:
                raise
            continue
        return _Fetched(shard_id, snapshot, file, received.sha256)
    raise AssertionError("unreachable: the second attempt returns or raises")


async def _check(
    fetched: list[_Fetched], source: _Source, scratch: Path, salt: str, options: BackupOptions
) -> SnapshotFacts:
    """Look at the archives without the engine, then have the engine read them back.

    Raises:
        Damaged: cut, not a snapshot, of another vector config, or unreadable.
    """
    for shard in fetched:
        what = f"the snapshot of {source.collection!r} shard {shard.shard_id}"
        await check_part(shard.file, source.info["config"], what)
    return await read_facts(
        {shard.shard_id: shard.file for shard in fetched},
        scratch / "unpacked",
        config=source.info["config"],
        salt=salt,
        sentinels=options.sentinels,
        golden=options.golden_queries,
        timeout_s=options.reader_timeout_s,
    )


def count_warnings(collection: str, before: int | None, after: int | None, found: int) -> list[str]:
    """Hold the snapshot's count against the exact live counts before and after it (None: not known exactly).

    Raises:
        Damaged: the live count stood still and the snapshot has another, or it is empty and the collection is not.
    """
    if before is None or after is None:
        return ["the live collection could not be counted exactly (strict mode); the snapshot's own count stands"]
    if before == after != found:
        raise Damaged(
            f"the snapshot of {collection!r} holds {found} points, the collection {before}",
            hint="nothing was published; take another backup, and look at the server's log",
        )
    if found == 0 and 0 not in (before, after):
        raise Damaged(f"the snapshot of {collection!r} is empty, the collection holds {after} points")
    if found == 0:
        return ["the collection was empty; a restore prefers an older backup that holds points"]
    return []


async def _store(catalog: Catalog, prefix: str, shard: _Fetched, progress: Progress) -> ShardPart:
    """Store one part, and see that what was sent is what was downloaded and checked.

    Raises:
        Damaged: the file changed on our own disk in between.
    """
    key = f"{prefix}/shard-{shard.shard_id}.snapshot"
    sent = await store_file(catalog.store, key, shard.file, lambda done, total: progress("store", done, total))
    if sent != shard.sha256:
        raise Damaged(f"storing {key}: the file changed on this machine's disk ({shard.sha256} became {sent})")
    size = shard.file.stat().st_size
    return ShardPart.model_validate({"shard_id": shard.shard_id, "blob": key, "size": size, "sha256": shard.sha256})


def _describe(
    source: _Source,
    target: str,
    backup_id: str,
    taken_at: datetime,
    facts: SnapshotFacts,
    live: LiveCounts,
    parts: list[ShardPart],
) -> VectorManifest:
    return VectorManifest(
        id=backup_id,
        subject=source.collection,
        collection=source.collection,
        asked_as=source.asked_as,
        aliases=source.aliases,
        target=target,
        server=source.server,
        tool_version=__version__,
        taken_at=taken_at,
        config=source.info["config"],
        payload_schema=payload_schema(source.info),
        exact_count=facts.count,
        ids_sha256=facts.ids_sha256,
        live=live,
        parts=parts,
        sentinels=facts.sentinels,
        golden=facts.golden,
    )


async def _forget(server: VectorServer, collection: str, shard: _Fetched) -> None:
    """Remove the server's copy. The backup stands whether or not this works; what stays is swept up later."""
    try:
        await delete_shard_snapshot(server, collection, shard.shard_id, shard.snapshot.name)
    except ReanimateError:
        return


def _silent(stage: str, done: int, total: int) -> None:
    """Report to nobody."""
