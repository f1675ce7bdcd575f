"""Take a backup: fetch every shard, check, read back, store, publish; only then remove it from the servers."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from reanimate import __version__
from reanimate.backups.bringing import Brought, Source, bring, look
from reanimate.backups.catalog import Catalog, backup_prefix, new_backup_id
from reanimate.backups.changes import NoBase
from reanimate.backups.comparison import count_points
from reanimate.backups.facts import FactsReader, SnapshotFacts, facts_reader
from reanimate.backups.fetching import FetchedShard, Patience, forget
from reanimate.backups.liveness import Witness, count_warnings
from reanimate.backups.manifest import Embedding, LiveCounts, ShardKeys, ShardPart, VectorManifest
from reanimate.backups.names import model_of
from reanimate.backups.parts import check_part
from reanimate.backups.room import require_room_for
from reanimate.backups.scratch import scratch_folder
from reanimate.backups.storing import removed_beside, stored_beside
from reanimate.backups.unfinished import Unfinished, sweep
from reanimate.clock import utcnow
from reanimate.config import BackupSettings
from reanimate.errors import Damaged, NotFound, Refused
from reanimate.vector.config import dense_vectors, payload_schema
from reanimate.vector.server import VectorServer
from reanimate.vector.transfers import TransferLimits

__all__ = ["BackupOptions", "Progress", "count_warnings", "take_backup"]

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with the stage, how much of it is done, and the total: bytes, or steps where there are no bytes."""


@dataclass(frozen=True)
class BackupOptions:
    """How a backup is taken."""

    sentinels: int = 20
    golden_queries: int = 20
    snapshot_timeout_s: float = 3600.0
    reader_timeout_s: float = 1800.0
    calm_timeout_s: float = 120.0
    """How long to wait for a moment in which the server rewrites no segments; see `vector.calm`."""
    transfer: TransferLimits = field(default_factory=TransferLimits)
    partial_share: float = 0.5
    """Changes only are taken as long as they are smaller than this share of the full backup."""
    parallel: int = 2
    """How many shards are fetched at once."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Collection, alias or glob -> the embedding model that makes its vectors."""

    @property
    def patience(self) -> Patience:
        return Patience(self.snapshot_timeout_s, self.calm_timeout_s, self.transfer)

    @classmethod
    def from_settings(cls, settings: BackupSettings, models: Mapping[str, str] | None = None) -> "BackupOptions":
        return cls(
            settings.sentinels,
            settings.golden_queries,
            settings.snapshot_timeout_s,
            partial_share=settings.partial_share,
            parallel=settings.parallel,
            models=models or {},
        )


async def take_backup(
    server: VectorServer,
    collection: str,
    catalog: Catalog,
    options: BackupOptions | None = None,
    *,
    partial: bool = False,
    totals: Mapping[str, int] | None = None,
    backup_id: str | None = None,
    recovery_point: str | None = None,
    on_progress: Progress | None = None,
) -> VectorManifest:
    """Back up a collection, or the one behind an alias, and return the manifest that was published.

    Every shard is taken once, from a healthy replica at its own peer. With `partial`, only what has changed since the
    newest full backup is stored, when that is little enough and can be told; else a full one is taken, and its manifest
    says why. Nothing is listed before the manifest is written, which comes last. `totals` are the writes that gateways
    have acknowledged, by collection. Stages of progress: snapshot, download, check, store.

    Raises:
        NotFound: no such collection or alias.
        Refused: a shard without a healthy replica that can be reached, or a key without the right.
        Damaged: what was fetched is not whole, cannot be read back, or does not hold what the collection does.
        Unreachable, ServerFailed: the server or the store did not answer.
        ConfigInvalid: not enough room for the files on their way.
    """
    options = options or BackupOptions()
    source = await look(server, collection)
    taken_at = utcnow()
    backup_id = backup_id or new_backup_id(source.collection, taken_at)
    await sweep(server, catalog, source.collection, taken_at)
    taking = _Taking(source, catalog, options, backup_id, taken_at, on_progress or _silent)
    reason: str | None = None
    if partial:
        try:
            return await taking.take(totals, recovery_point, changes_only=True)
        except NoBase as why:
            reason = str(why)
        except (Damaged, Refused, NotFound) as error:
            reason = str(error)
        log.info("%s is backed up in full: %s", source.collection, reason)
    return await taking.take(totals, recovery_point, reason=reason)


@dataclass(frozen=True)
class _Taking:
    """One backup being taken."""

    source: Source
    catalog: Catalog
    options: BackupOptions
    backup_id: str
    taken_at: datetime
    progress: Progress

    async def take(
        self,
        totals: Mapping[str, int] | None,
        recovery_point: str | None,
        *,
        changes_only: bool = False,
        reason: str | None = None,
    ) -> VectorManifest:
        source, catalog = self.source, self.catalog
        prefix = backup_prefix(source.collection, self.backup_id)
        journal = Unfinished(catalog.store, prefix, source.server.name, source.collection, self.taken_at)
        await journal.begin()
        async with scratch_folder(catalog.scratch, "backup") as scratch, facts_reader() as reader:
            if not changes_only:
                await require_room_for(source, catalog, scratch)
            witness, (before, exact) = await asyncio.gather(
                Witness.before(source), count_points(source.server, source.collection)
            )
            brought = await bring(source, catalog, scratch, journal, self.options, self.progress, changes_only)
            after, _ = await count_points(source.server, source.collection)
            self.progress("check", 0, 1)
            async with stored_beside(catalog, prefix, brought.shards.values(), self.progress) as storing:
                facts = await self._check(reader, brought.shards, scratch)
                counts = (before, after) if exact else (None, None)
                warnings = await witness.compare(source, facts, *counts, calm=brought.calm)
                self.progress("check", 1, 1)
            parts = storing.result()
            async with removed_beside(scratch):
                live = LiveCounts(before=before, after=after)
                manifest = self._describe(brought, facts, live, parts).model_copy(
                    update={
                        "gateway_totals": dict(totals) if totals is not None else None,
                        "recovery_point": recovery_point,
                        "warnings": warnings,
                        "instead_of_partial": reason,
                    }
                )
                published = await catalog.publish(manifest)
                await forget(brought.shards.values())
                await journal.done()
                await sweep(source.server, catalog, source.collection, utcnow(), all_made=not changes_only)
        return published.manifest

    async def _check(self, reader: FactsReader, shards: Mapping[int, FetchedShard], scratch: Path) -> SnapshotFacts:
        """Look at the archives without the engine, then have the engine read them back.

        Raises:
            Damaged: cut, not a snapshot, of another vector config, or unreadable.
        """
        config = self.source.info["config"]
        for shard in shards.values():
            await check_part(shard.whole, config, f"the snapshot of {shard.source}")
        return await reader.read(
            {shard_id: shard.whole for shard_id, shard in shards.items()},
            scratch / "unpacked",
            config=config,
            salt=self.backup_id,
            sentinels=self.options.sentinels,
            golden=self.options.golden_queries,
            timeout_s=self.options.reader_timeout_s,
        )

    def _describe(
        self, brought: Brought, facts: SnapshotFacts, live: LiveCounts, parts: list[ShardPart]
    ) -> VectorManifest:
        source = self.source
        return VectorManifest(
            id=self.backup_id,
            subject=source.collection,
            collection=source.collection,
            asked_as=source.asked_as,
            aliases=source.aliases,
            target=source.server.name,
            server=source.identity,
            tool_version=__version__,
            taken_at=self.taken_at,
            config=source.info["config"],
            payload_schema=payload_schema(source.info),
            shard_keys=[
                ShardKeys(key=group.key, shards=len(group.shard_ids), replicas=group.replicas)
                for group in source.layout.shard_keys
            ],
            embedding=self._embedding(),
            exact_count=facts.count,
            ids_sha256=facts.ids_sha256,
            live=live,
            parts=tuple(parts),
            base=brought.base_id,
            sentinels=facts.sentinels,
            golden=facts.golden,
            index_recall=facts.index_recall,
        )

    def _embedding(self) -> Embedding | None:
        model = model_of(self.options.models, [self.source.collection, self.source.asked_as, *self.source.aliases])
        dense = dense_vectors(self.source.info["config"])
        return Embedding(model=model, dimension=int(next(iter(dense.values()))["size"])) if model and dense else None


def _silent(stage: str, done: int, total: int) -> None:
    """Report to nobody."""
