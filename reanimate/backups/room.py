"""Room for a backup on its way, looked for before the first snapshot is made: here, and there as far as it says."""

import asyncio
import logging
from pathlib import Path

from reanimate.backups.bringing import Source
from reanimate.backups.catalog import Catalog
from reanimate.backups.scratch import require_room
from reanimate.errors import ConfigInvalid, ReanimateError
from reanimate.vector.server import VectorServer

__all__ = ["expected_size", "require_room_for"]

log = logging.getLogger(__name__)

_COPIES_HERE = 2
"""Every shard as it came, and as the engine unpacks it to read it back."""


async def require_room_for(source: Source, catalog: Catalog, scratch: Path) -> None:
    """See that all shards fit on this machine, and on the servers as far as those tell.

    Raises:
        ConfigInvalid: they do not.
        Unreachable: the repository could not be read.
    """
    size = await expected_size(source, catalog)
    if size is None:
        log.info("how large a backup of %s will be is not known before its snapshot is made", source.collection)
        return
    require_room(scratch, _COPIES_HERE * size, f"a backup of {source.collection!r}")
    for peer_id in sorted({replica.peer_id for replica in source.replicas.values()}):
        server = source.layout.peers.servers[peer_id]
        whole = await _disk_of(server)
        if whole is not None and whole < size:
            raise ConfigInvalid(
                f"a snapshot of {source.collection!r} takes about {size / 1e6:.0f} MB, and all the disk of "
                f"{server.url} has {whole / 1e6:.0f} MB",
                hint="give the server room for snapshots (storage.snapshots_path, storage.temp_path)",
            )
    log.info(
        "a snapshot of %s takes about %d MB on the server, which does not tell how much is free there",
        source.collection,
        size // 1_000_000,
    )


async def expected_size(source: Source, catalog: Catalog) -> int | None:
    """Say about how many bytes the snapshots of all shards have: as the newest backup, else what the servers hold."""
    listing = await asyncio.to_thread(catalog.listing, source.collection)
    for backup in listing.manifests:
        if backup.collection == source.collection and backup.exact_count:
            whole = sum(part.whole_size for part in backup.parts)
            return int(whole * max(1.0, source.info.get("points_count", 0) / backup.exact_count))
    held = await asyncio.gather(
        *(
            _held(source.layout.peers.servers[peer_id], source.collection)
            for peer_id in {replica.peer_id for replica in source.replicas.values()}
        )
    )
    known = [size for size in held if size is not None]
    return sum(known) if known and len(known) == len(held) else None


async def _held(server: VectorServer, collection: str) -> int | None:
    """Return how much disk one peer uses for a collection; None where it does not tell (before 1.18)."""
    doing = f"asking how large {collection!r} is"
    try:
        answer = await server.request("GET", server.path(collection, "memory"), doing=doing, timeout_s=10.0)
        return int(server.result(answer, doing)["total"]["disk_bytes"])
    except (ReanimateError, KeyError, TypeError, ValueError):
        return None


async def _disk_of(server: VectorServer) -> int | None:
    """Return the size of a server's disk, which is all that it tells of it; None where not even that."""
    doing = "asking for the size of the disk"
    try:
        answer = await server.request("GET", "/telemetry", doing=doing, timeout_s=10.0, params={"details_level": 1})
        return int(server.result(answer, doing)["app"]["system"]["disk_size"]) * 1024
    except (ReanimateError, KeyError, TypeError, ValueError):
        return None
