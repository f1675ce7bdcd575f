"""What a backup leaves behind when it is cut: noted while it runs, swept up by a later one of the same collection."""

import json
import logging
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

import obstore
from obstore.exceptions import BaseError

from reanimate.backups.blobs import ObjectStore, read_object, remove_objects
from reanimate.backups.catalog import MANIFEST, Catalog, backup_prefix
from reanimate.errors import ReanimateError, Unreachable
from reanimate.vector.server import VectorServer
from reanimate.vector.snapshots import delete_shard_snapshot

__all__ = ["ABANDONED_AFTER", "Unfinished", "sweep"]

log = logging.getLogger(__name__)

NOTE = "unfinished.json"
ABANDONED_AFTER = timedelta(hours=6)
"""A backup that began longer ago is not running any more; a younger one may be, in another process."""


class Unfinished:
    """The note of one running backup: which snapshots it has made on the server."""

    def __init__(self, store: ObjectStore, prefix: str, target: str, collection: str, began: datetime) -> None:
        self._store = store
        self._key = f"{prefix}/{NOTE}"
        self._note: dict[str, Any] = {
            "target": target,
            "collection": collection,
            "began": began.isoformat(),
            "snapshots": [],
        }

    async def note(self, shard_id: int, name: str, url: str) -> None:
        """Note a snapshot before anything is done with it; it is only at the peer that made it, at `url`.

        Raises:
            Unreachable: the store cannot be written, so that a backup would fail anyway.
        """
        self._note["snapshots"].append([shard_id, name, url])
        try:
            await obstore.put_async(self._store, self._key, json.dumps(self._note).encode())
        except (BaseError, OSError) as error:
            raise Unreachable(
                f"writing {self._key}: {error}", hint="see whether the blob store is reachable and has room"
            ) from error

    async def done(self) -> None:
        """Forget the note: the backup is published and the server's copies are gone."""
        try:
            await remove_objects(self._store, [self._key])
        except Unreachable as error:
            log.warning("the note of a finished backup stays: %s", error)


async def sweep(server: VectorServer, catalog: Catalog, collection: str, now: datetime) -> list[str]:
    """Remove what abandoned backups of this collection left, on the server and in the store; return their ids.

    Published parts are never touched. Never raises: a backup must not fail over old crumbs.
    """
    swept = []
    try:
        keys = catalog.keys(str(PurePosixPath(backup_prefix(collection, "x")).parent))
        for key in keys:
            if PurePosixPath(key).name == NOTE and await _sweep_one(server, catalog, key, keys, now):
                swept.append(PurePosixPath(key).parent.name)
    except (ReanimateError, ValueError, KeyError) as error:
        log.warning("sweeping up after abandoned backups of %s: %s", collection, error)
    return swept


async def _sweep_one(server: VectorServer, catalog: Catalog, key: str, keys: list[str], now: datetime) -> bool:
    note = json.loads(await read_object(catalog.store, key))
    if note["target"] != server.name or now - datetime.fromisoformat(note["began"]) < ABANDONED_AFTER:
        return False
    peers = {peer.url: peer for peer in server.peer_servers()}
    for shard_id, name, *at in note["snapshots"]:
        # Our key goes to no URL that somebody may have written into a note.
        peer = peers.get(at[0], server) if at else server
        await delete_shard_snapshot(peer, note["collection"], shard_id, name)
    folder = str(PurePosixPath(key).parent)
    published = f"{folder}/{MANIFEST}" in keys
    crumbs = [] if published else [other for other in keys if other.startswith(f"{folder}/") and other != key]
    await remove_objects(catalog.store, [*crumbs, key])
    return True
