"""Partial snapshots of a shard: which files are newer than what the other side has, and those files packed.

The rules are a server's: a file is sent when the other side does not have it or has an older one; the state of a
segment always is. Files that the engine does not number count as changed whenever their segment did.
"""

import asyncio
from pathlib import Path
from typing import Any

import orjson

from reanimate.errors import Damaged, Refused
from reanimate.standby.collection import Collection
from reanimate.standby.errors import format_error, wrong_input
from reanimate.standby.restores import as_api_error, restore_shard
from reanimate.standby.snapshots import pack_whole_shard
from reanimate.standby.tars import TarWriter, pack_end, segment_files
from reanimate.vector.partial import SEGMENT_MANIFEST, merge_partial
from reanimate.vector.tar_walk import ArchiveDamaged

__all__ = ["check_manifest", "create_partial", "newer_files", "recover_partial", "shard_manifest"]

Json = dict[str, Any]


async def shard_manifest(collection: Collection, shard: int) -> Json:
    """Return segment -> version and files of one shard.

    Raises:
        ApiError: 404, no such shard.
    """
    async with collection.held([shard]):
        return await _flushed_manifest(collection, shard)


async def _flushed_manifest(collection: Collection, shard: int) -> Json:
    manifest: Json = await collection.shard(shard).call("manifest")
    return await asyncio.to_thread(_with_unnumbered, collection.shard(shard).directory, manifest)


async def create_partial(collection: Collection, shard: int, base: Json) -> tuple[Path, int] | None:
    """Pack what is newer than `base` into a scratch file; None when nothing is.

    Writes wait meanwhile, reads do not. Everything acknowledged before is in it.
    """
    scratch = collection.storage.scratch()
    async with collection.held([shard]) as versions:
        current = await _flushed_manifest(collection, shard)
        if current == base:
            return None
        size = await asyncio.to_thread(_write, scratch, collection, shard, versions[shard], base, current)
    return scratch, size


async def recover_partial(collection: Collection, shard: int, path: Path) -> None:
    """Put a partial snapshot on top of what a shard holds.

    Raises:
        ApiError: 400 when the two do not belong together, 500 for a file that is not whole. The shard stays as it was.
    """
    storage = collection.storage
    whole, merged = storage.scratch(), storage.scratch()
    try:
        await pack_whole_shard(collection, shard, whole)
        await asyncio.to_thread(merge_partial, whole, path, merged)
        await restore_shard(collection, shard, merged)
    except ArchiveDamaged as error:
        raise as_api_error(error, path) from error
    except (Damaged, Refused) as error:
        raise wrong_input(f"invalid partial snapshot: {error}") from error
    finally:
        for file in (whole, merged):
            await asyncio.to_thread(file.unlink, True)


def check_manifest(body: Json) -> Json:
    """See that what was sent is a manifest.

    Raises:
        ApiError: 400, as a server says it.
    """
    for one in body.values():
        if not isinstance(one, dict):
            raise format_error("invalid type, expected struct SegmentManifest")
        for name in ("segment_id", "segment_version", "file_versions"):
            if name not in one:
                raise format_error(f"missing field `{name}`")
    return body


def newer_files(had: Json | None, now: Json) -> set[str]:
    """Return the files of a segment that the other side lacks or has an older version of.

    At number 0 nobody can tell `empty` from `after the first operation`, so such files are always sent.
    """
    if had is None:
        return set(now["file_versions"])
    changed = set()
    for name in now["file_versions"]:
        old, new = _version(had, name), _version(now, name)
        if old is None or new is None or old < new or old == new == 0:
            changed.add(name)
    return changed


def _version(segment: Json, name: str) -> int | None:
    if name not in segment["file_versions"]:
        return None
    found = segment["file_versions"][name]
    return int(segment["segment_version"] if found is None else found)


def _with_unnumbered(directory: Path, manifest: Json) -> Json:
    """Add the files that lie in a segment and that the engine does not name."""
    for segment, one in manifest.items():
        base = directory / "segments" / segment
        for path in segment_files(base):
            name = path.relative_to(base).as_posix()
            if path.is_file() and name not in ("segment.json", "version.info"):
                one["file_versions"].setdefault(name, None)
    return manifest


def _write(path: Path, collection: Collection, shard: int, version: int, base: Json, current: Json) -> int:
    directory = collection.shards[shard].directory
    try:
        with path.open("xb") as file:
            writer = TarWriter(file)
            for segment, now in sorted(current.items()):
                prefix = f"segments/{segment}/files"
                writer.add_bytes(f"{prefix}/{SEGMENT_MANIFEST}", orjson.dumps(now))
                changed = newer_files(base.get(segment), now)
                for source in segment_files(directory / "segments" / segment):
                    name = source.relative_to(directory / "segments" / segment).as_posix()
                    if source.is_file() and (name in changed or name in ("segment.json", "version.info")):
                        writer.add_file(f"{prefix}/{name}", source)
            pack_end(writer, version, collection.storage.peer_id)
            writer.finish()
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return writer.size
