"""Snapshots taken in: checked before the engine sees them, opened beside the old data, then put in its place."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

from reanimate.standby.collection import Collection
from reanimate.standby.config_defaults import check_collection_name, named_vectors, sparse_names
from reanimate.standby.errors import ApiError, internal, not_implemented, wrong_input
from reanimate.standby.server import StandbyServer
from reanimate.standby.shard_client import ShardClient
from reanimate.standby.storage import CollectionState, Storage
from reanimate.standby.tars import unpack_archive
from reanimate.standby.wal import drop_applied_log
from reanimate.vector.archive import ArchiveDamaged, ArchiveFacts, ArchiveKind, inspect_archive

__all__ = ["check_checksum", "restore_collection", "restore_shard"]

Json = dict[str, Any]

_HEX_LENGTH = 64


def check_checksum(given: str | None, actual: str | None) -> None:
    """Compare a checksum that was sent with the file's own; before the upload, only its form.

    Raises:
        ApiError: 422, it is no SHA-256; 400, it is another one. The words are a server's, which swaps the two.
    """
    if given is None:
        return
    if len(given) != _HEX_LENGTH or not all(char in "0123456789abcdefABCDEF" for char in given):
        raise ApiError(
            422,
            "Validation error in query parameters: [checksum: Validation error: invalid_sha256_hash "
            f'[{{"length": Number({len(given)}), "expected_length": Number({_HEX_LENGTH}), '
            f'"value": String("{given}")}}]]',
        )
    if actual is not None and given.lower() != actual:
        raise ApiError(400, f"Checksum mismatch: expected {actual}, actual {given}")


async def restore_shard(collection: Collection, shard: int, path: Path) -> None:
    """Put a shard snapshot in the place of a shard.

    Raises:
        ApiError: 404 for an unknown shard, 400 for other vectors, 500 for a file that is not whole or cannot be
            opened. The old shard is untouched then.
    """
    collection.shard(shard)
    facts = await _inspected(path, "shard")
    if facts.partial:
        raise wrong_input(
            f"invalid shard snapshot: segment {facts.segments[0]} contains segment manifest; "
            "ensure you are not recovering partial snapshot on shard snapshot endpoint"
        )
    _check_shape(facts, collection.config)
    fresh = await _opened_beside(collection.storage, collection.name, collection.config, {shard: None}, path)
    await collection.replace(fresh, collection.config)


async def restore_collection(server: StandbyServer, name: str, path: Path) -> None:
    """Put a collection snapshot in the place of a collection, or make the collection from it.

    Raises:
        ApiError: 400 when the collection has other vectors, 500 for a file that is not whole or cannot be opened.
    """
    check_collection_name(name, new=server.find(name) is None)
    facts = await _inspected(path, "collection")
    config = {key: value for key, value in (facts.collection_config or {}).items() if key != "uuid"}
    _check_own_config(facts, config)
    existing = server.find(name)
    if existing is not None:
        await existing.opened.wait()
        _check_compatible(existing, config)
        shards: dict[int, int | None] = {shard: shard for shard in facts.shards}
        fresh = await _opened_beside(existing.storage, existing.name, existing.config, shards, path)
        await existing.replace(fresh, existing.config)
        return
    async with server.changing:
        server.refuse_taken(name)
        await _make_collection(server, name, config, {shard: shard for shard in facts.shards}, path)


async def _make_collection(
    server: StandbyServer, name: str, config: Json, shards: dict[int, int | None], path: Path
) -> None:
    storage = server.storage
    try:
        fresh = await _opened_beside(storage, name, config, shards, path)
        live = {shard: client.directory.name for shard, client in fresh.items()}
        collection = Collection(storage, name, CollectionState(config, live))
        await asyncio.to_thread(storage.save_collection, name, collection.state)
    except BaseException:
        await asyncio.to_thread(storage.discard, storage.collection(name))
        raise
    collection.adopt(fresh)
    server.collections[name] = collection


async def _inspected(path: Path, kind: ArchiveKind) -> ArchiveFacts:
    try:
        facts = await asyncio.to_thread(inspect_archive, path, kind)
    except ArchiveDamaged as error:
        raise as_api_error(error, path) from error
    if facts.rocksdb_relics:
        raise internal(
            "the snapshot is from a server before 1.16: "
            f"{facts.rocksdb_relics[0]} needs RocksDB, which is not supported"
        )
    return facts


def as_api_error(error: ArchiveDamaged, path: Path) -> ApiError:
    """Say what is wrong with an archive in a server's words, as far as it has any."""
    if error.reason == "not_a_tar":
        return internal("File IO error: Malformed tar archive, reached unknown entry")
    if error.reason == "truncated":
        return internal(f"File IO error: failed to unpack `{path.name}`: {error}")
    if error.reason == "wrong_kind":
        return internal(f"Can't restore snapshot in local mode with missing data at shard: {path.name}: {error}")
    return internal(f"the snapshot cannot be used: {error}")


def _check_shape(facts: ArchiveFacts, config: Json) -> None:
    """A server takes a shard of another dimension with 200 and serves it; here it is refused."""
    wanted = named_vectors(config)
    if set(facts.vectors) != set(wanted) or set(facts.sparse_vectors) != sparse_names(config):
        found = sorted({*facts.vectors, *facts.sparse_vectors})
        raise wrong_input(
            "Vectors configuration is not compatible: the collection has vectors "
            f"{sorted({*wanted, *sparse_names(config)})}, the snapshot {found}"
        )
    for name, shape in facts.vectors.items():
        for what in ("size", "distance"):
            mine, other = wanted[name][what], dict(shape)[what]
            if mine != other:
                raise wrong_input(
                    f"Vectors configuration is not compatible: origin vector {name} {what}: {mine}, "
                    f"while other vector {what}: {other}"
                )


def _check_own_config(facts: ArchiveFacts, config: Json) -> None:
    try:
        if config["params"].get("sharding_method") == "custom":
            raise not_implemented("custom sharding")
        _check_shape(facts, config)
        complete = len(facts.shards) == config["params"]["shard_number"]
    except (KeyError, TypeError, AttributeError) as error:
        raise internal(f"the snapshot's config.json is not a collection's config: {error!r}") from None
    if not complete:
        raise internal(f"the snapshot holds shards {list(facts.shards)} of {config['params']['shard_number']}")


def _check_compatible(existing: Collection, config: Json) -> None:
    mine, other = existing.config["params"], config["params"]
    for what, words in (
        ("vectors", ("Collection vectors", "Snapshot Vectors")),
        ("shard_number", ("Collection shard number", "Snapshot shard number")),
    ):
        if mine[what] != other[what]:
            raise wrong_input(
                "Snapshot is not compatible with existing collection: "
                f"{words[0]}: {mine[what]} {words[1]}: {other[what]}"
            )


async def _opened_beside(
    storage: Storage, name: str, config: Json, shards: dict[int, int | None], path: Path
) -> dict[int, ShardClient]:
    """Unpack a snapshot and open its shards in processes of their own, beside what is served.

    `shards` says below which directory of the archive each shard is; nothing means the whole archive.
    """
    scratch = storage.scratch()
    fresh: dict[int, ShardClient] = {}
    try:
        for shard in shards:
            fresh[shard] = ShardClient(storage.shard(name, storage.new_shard_directory(shard)), config)
            await fresh[shard].prepare()
        await asyncio.to_thread(unpack_archive, path, scratch)
        for shard, inside in shards.items():
            source = scratch if inside is None else scratch / str(inside)
            await asyncio.to_thread(_place, source, fresh[shard].directory)
        for client in fresh.values():
            await client.load()
            await client.call("probe")
    except BaseException as error:
        for client in fresh.values():
            await client.close()
            await asyncio.to_thread(storage.discard, client.directory)
        if isinstance(error, ArchiveDamaged):
            raise as_api_error(error, path) from error
        if isinstance(error, ApiError):
            raise internal(f"the snapshot cannot be opened: {error.text}") from error
        raise
    finally:
        await asyncio.to_thread(shutil.rmtree, scratch, True)
    return fresh


def _place(source: Path, target: Path) -> None:
    """Move an unpacked shard to where it will live, with a log that goes on after it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    try:
        drop_applied_log(target)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise internal(f"the snapshot's log or segments cannot be read: {error!r}") from error
