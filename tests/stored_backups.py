"""Small published backups for tests of storage: made of any bytes, without a server."""

from datetime import timedelta
from typing import Any

from manifests import TAKEN, manifest

from reanimate.backups.catalog import Catalog, backup_prefix
from reanimate.backups.manifest import ShardPart, VectorManifest
from reanimate.backups.published import Published
from reanimate.backups.stored_parts import store_part

__all__ = ["publish_small"]


async def publish_small(
    catalog: Catalog, hours: int, *shards: bytes, collection: str = "kb", **changes: Any
) -> Published[VectorManifest]:
    """Publish a backup taken so many hours after TAKEN, with a part for each of the shards, packed and sealed."""
    backup_id = f"{TAKEN + timedelta(hours=hours):%Y%m%dT%H%M%SZ}-{collection}-{hours:04x}"
    catalog.scratch.mkdir(parents=True, exist_ok=True)
    parts = []
    for shard_id, content in enumerate(shards):
        file = catalog.scratch / f"{backup_id}-{shard_id}"
        file.write_bytes(content)
        key = f"{backup_prefix(collection, backup_id)}/shard-{shard_id}.snapshot"
        part = await store_part(catalog, key, file, "vectors")
        parts.append(ShardPart(**part.model_dump(), shard_id=shard_id))
        file.unlink()
    fields = {"id": backup_id, "collection": collection, "subject": collection, "asked_as": collection, **changes}
    return await catalog.publish(manifest(**fields, parts=parts, taken_at=TAKEN + timedelta(hours=hours)))
