"""Snapshot files of collections and shards: made, listed, found, deleted."""

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from reanimate.clock import utcnow
from reanimate.standby.collection import Collection
from reanimate.standby.errors import not_found
from reanimate.standby.storage import Storage
from reanimate.standby.tars import TarWriter, pack_shard

__all__ = [
    "create_snapshot",
    "delete_snapshot",
    "keep_upload",
    "list_snapshots",
    "pack_whole_shard",
    "snapshot_file",
    "stream_name",
]

Json = dict[str, Any]

_SUFFIX = ".snapshot"
_FORMAT_VERSION = b"0.4.2"
"""Of the files in a collection snapshot; the same since 2024, it is not the server's version."""


async def create_snapshot(collection: Collection, shard: int | None = None) -> Json:
    """Make a snapshot of one shard, or of the whole collection, and describe it.

    Writes wait while the files are read, reads do not. Everything acknowledged before is in it.

    Raises:
        ApiError: 404, no such shard.
        OSError: no room.
    """
    storage = collection.storage
    shards = sorted(collection.shards) if shard is None else [shard]
    directory = storage.snapshots(collection.name, shard)
    scratch = storage.scratch()
    async with collection.held(shards) as versions:
        schema = await _payload_schema(collection) if shard is None else {}
        checksum = await asyncio.to_thread(_write, scratch, collection, versions, shard is None, schema)
    path = await asyncio.to_thread(_publish, scratch, directory, _stem(collection, shard), checksum)
    return _describe(path)


async def pack_whole_shard(collection: Collection, shard: int, path: Path) -> None:
    """Write a snapshot of one shard to `path`, which nobody lists.

    Raises:
        ApiError: 404, no such shard.
        OSError: no room.
    """
    async with collection.held([shard]) as versions:
        await asyncio.to_thread(_write, path, collection, versions, False, {})


async def _payload_schema(collection: Collection) -> Json:
    """Say the payload indexes as `payload_index.json` holds them."""
    schema = (await collection.info())["payload_schema"]
    return {name: index.get("params", index["data_type"]) for name, index in schema.items()}


def _write(path: Path, collection: Collection, versions: dict[int, int], whole: bool, schema: Json) -> str:
    """Write the archive and return its SHA-256."""
    peer_id = collection.storage.peer_id
    try:
        with path.open("xb") as file:
            writer = TarWriter(file)
            for shard, version in versions.items():
                source = collection.shards[shard].directory
                pack_shard(writer, source, version, peer_id, f"{shard}/" if whole else "")
            if whole:
                writer.add_bytes("version.info", _FORMAT_VERSION)
                writer.add_bytes("config.json", orjson.dumps({**collection.config, "uuid": None}))
                writer.add_bytes("shard_key_mapping.json", b"[]")
                writer.add_bytes("payload_index.json", orjson.dumps({"schema": schema}))
            writer.finish()
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return writer.sha256


def _stem(collection: Collection, shard: int | None) -> str:
    return (
        f"{collection.name}-shard-{shard}" if shard is not None else f"{collection.name}-{collection.storage.peer_id}"
    )


def stream_name(collection: Collection, shard: int) -> str:
    """Name a snapshot that is sent and not kept."""
    return _named(_stem(collection, shard), utcnow())


def _named(stem: str, moment: datetime) -> str:
    return f"{stem}-{moment:%Y-%m-%d-%H-%M-%S}{_SUFFIX}"


def _publish(scratch: Path, directory: Path, stem: str, checksum: str) -> Path:
    """Move the file to a name that no other has. Names count seconds; a second one in a second takes the next."""
    directory.mkdir(parents=True, exist_ok=True)
    moment = utcnow()
    while True:
        path = directory / _named(stem, moment)
        moment += timedelta(seconds=1)
        if path.exists():
            continue
        try:
            with _checksum_file(path).open("x") as file:  # whoever makes this file has the name
                file.write(checksum)
        except FileExistsError:
            continue
        scratch.rename(path)
        return path


def _checksum_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.checksum")


def _describe(path: Path) -> Json:
    stat = path.stat()
    created = datetime.fromtimestamp(int(stat.st_mtime), tz=utcnow().tzinfo).replace(tzinfo=None)
    described: Json = {"name": path.name, "creation_time": created.isoformat(), "size": stat.st_size}
    checksum = _checksum_file(path)
    if checksum.exists():
        described["checksum"] = checksum.read_text()
    return described


def list_snapshots(storage: Storage, name: str, shard: int | None = None) -> list[Json]:
    """Describe the snapshots of a collection, or of one of its shards."""
    return [_describe(path) for path in sorted(_files(storage.snapshots(name, shard)))]


def _files(directory: Path) -> Iterable[Path]:
    return directory.glob(f"*{_SUFFIX}") if directory.exists() else ()


def snapshot_file(storage: Storage, collection: str, shard: int | None, name: str) -> Path:
    """Return the path of a snapshot.

    Raises:
        ApiError: 404, there is none of this name.
    """
    path = storage.snapshots(collection, shard) / name
    if path.name != name or not path.is_file() or path.suffix == ".checksum":
        raise not_found(f"Snapshot {name} not found")
    return path


def keep_upload(scratch: Path, directory: Path, name: str | None) -> None:
    """Put an uploaded file among the snapshots, under the name it was sent with when that can be one."""
    if name is None or name.startswith(".") or not name.endswith(_SUFFIX):
        name = f"{scratch.name}{_SUFFIX}"
    directory.mkdir(parents=True, exist_ok=True)
    delete_snapshot(directory / name)
    scratch.rename(directory / name)


def delete_snapshot(path: Path) -> None:
    path.unlink(missing_ok=True)
    _checksum_file(path).unlink(missing_ok=True)
