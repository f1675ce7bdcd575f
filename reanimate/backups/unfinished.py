"""What a backup leaves behind when it is cut: noted while it runs, swept up by a later one from the same server."""

import asyncio
import json
import logging
import re
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import obstore
from obstore.exceptions import BaseError

from reanimate.backups.catalog import MANIFEST, ROOTS, Catalog, backup_prefix
from reanimate.clock import utcnow
from reanimate.errors import NotFound, ReanimateError, Unreachable
from reanimate.storage.blobs import ObjectStore, read_object, remove_objects
from reanimate.storage.transport import sweep_staging
from reanimate.vector.server import VectorServer
from reanimate.vector.snapshots import delete_shard_snapshot, list_shard_snapshots

__all__ = ["ABANDONED_AFTER", "Unfinished", "sweep"]

log = logging.getLogger(__name__)

NOTE = "unfinished.json"
ABANDONED_AFTER = timedelta(hours=6)
"""A backup that began longer ago is not running any more; a younger one may be, in a process on another machine."""

_ORPHAN_WITHIN = timedelta(seconds=20)
"""A server names a snapshot when it begins it: one that is older or younger than our asking by more is not ours."""

_MOMENT = re.compile(r"-(\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d)\.snapshot$")


class Unfinished:
    """The note of one running backup: whose it is, and which snapshots it makes on which peers."""

    def __init__(self, store: ObjectStore, prefix: str, target: str, collection: str, began: datetime) -> None:
        self._store = store
        self._key = f"{prefix}/{NOTE}"
        self._note: dict[str, Any] = {
            "target": target,
            "collection": collection,
            "began": began.isoformat(),
            "owner": _this_process(),
            "asked": [],
            "snapshots": [],
        }

    async def begin(self) -> None:
        """Write the note, before anything is put beside it.

        Raises:
            Unreachable: the store cannot be written, so that a backup would fail anyway.
        """
        await self._write()

    async def asking(self, shard_id: int, url: str, there: list[str]) -> None:
        """Note that a snapshot is about to be asked for at a peer, where those `there` are already.

        Raises:
            Unreachable: the store cannot be written.
        """
        self._note["asked"].append([shard_id, url, there, utcnow().isoformat()])
        await self._write()

    async def note(self, shard_id: int, name: str, url: str) -> None:
        """Note a snapshot before anything is done with it; it is only at the peer that made it, at `url`.

        Raises:
            Unreachable: the store cannot be written.
        """
        self._note["snapshots"].append([shard_id, name, url])
        self._note["asked"] = [one for one in self._note["asked"] if one[:2] != [shard_id, url]]
        await self._write()

    async def done(self) -> None:
        """Forget the note: the backup is published and the server's copies are gone."""
        try:
            await remove_objects(self._store, [self._key])
        except Unreachable as error:
            log.warning("the note of a finished backup stays: %s", error)

    async def _write(self) -> None:
        try:
            await obstore.put_async(self._store, self._key, json.dumps(self._note).encode())
        except (BaseError, OSError) as error:
            raise Unreachable(
                f"writing {self._key}: {error}", hint="see whether the blob store is reachable and has room"
            ) from error


async def sweep(
    server: VectorServer, catalog: Catalog, collection: str, now: datetime, *, all_made: bool = False
) -> list[str]:
    """Remove what abandoned backups from this server left, on it and in the store; return their ids.

    Of every collection: one from which a restore has moved the alias away may never be backed up again. Abandoned are
    those whose process on this machine is gone, and those that began long ago. Published parts are never touched.
    `all_made`: the server makes one snapshot of a shard after the other and has made a later one of each of
    `collection`, so what a killed process had asked for of it is there, or never will be. Never raises: no backup must
    fail over old crumbs.
    """
    swept = []
    ours = f"{PurePosixPath(backup_prefix(collection, 'x')).parent}/"
    try:
        keys = catalog.keys(ROOTS[0])
        for key in keys:
            made = all_made and key.startswith(ours)
            if PurePosixPath(key).name == NOTE and await _sweep_one(server, catalog, key, keys, now, made):
                swept.append(PurePosixPath(key).parent.name)
        await asyncio.to_thread(sweep_staging, catalog.store, now - ABANDONED_AFTER)
    except (ReanimateError, ValueError, KeyError, TypeError) as error:
        log.warning("sweeping up after abandoned backups of %s: %s", collection, error)
    return swept


async def _sweep_one(
    server: VectorServer, catalog: Catalog, key: str, keys: list[str], now: datetime, all_made: bool
) -> bool:
    note = json.loads(await read_object(catalog.store, key))
    old = now - datetime.fromisoformat(note["began"]) >= ABANDONED_AFTER
    if note["target"] != server.name or not (old or _is_gone(note.get("owner"))):
        return False
    peers = {peer.url: peer for peer in server.peer_servers()}
    for shard_id, name, *at in note["snapshots"]:
        # Our key goes to no URL that somebody may have written into a note.
        peer = peers.get(at[0], server) if at else server
        await delete_shard_snapshot(peer, note["collection"], shard_id, name)
    found = [
        await _delete_orphan(peers.get(url, server), note["collection"], shard_id, there, datetime.fromisoformat(asked))
        for shard_id, url, there, asked in note.get("asked", [])
    ]
    folder = str(PurePosixPath(key).parent)
    published = f"{folder}/{MANIFEST}" in keys
    crumbs = [] if published else [other for other in keys if other.startswith(f"{folder}/") and other != key]
    await asyncio.to_thread(sweep_staging, catalog.store, utcnow(), folder)
    settled = old or all_made or all(found)  # else a server may be making one still: the note stays for the next sweep
    await remove_objects(catalog.store, [*crumbs, key] if settled else crumbs)
    return settled


async def _delete_orphan(
    server: VectorServer, collection: str, shard_id: int, there: list[str], asked: datetime
) -> bool:
    """Delete the snapshot that a server went on making for somebody who was killed; say whether that is settled.

    When it is not plain which one that is, none is deleted.
    """
    try:
        listed = await list_shard_snapshots(server, collection, shard_id)
    except NotFound:
        return True
    new = [one.name for one in listed if one.name not in there and _made_at(one.name, asked)]
    if len(new) == 1:
        await delete_shard_snapshot(server, collection, shard_id, new[0])
    elif new:
        log.warning("one of the snapshots %s of %s on %s was left by a killed backup", new, collection, server.url)
    return bool(new)


def _made_at(name: str, asked: datetime) -> bool:
    found = _MOMENT.search(name)
    made = datetime.strptime(found[1], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC) if found else None
    return made is not None and abs(made - asked) <= _ORPHAN_WITHIN


def _this_process() -> dict[str, Any]:
    pid = Path("/proc/self").resolve().name if Path("/proc/self").exists() else ""
    return {"host": _host(), "pid": pid, "started": _started(pid)}


def _is_gone(owner: dict[str, Any] | None) -> bool:
    """Say whether a process of this machine does not run any more; of others nothing is known."""
    if not owner or owner["host"] != _host() or not owner["started"]:
        return False
    return _started(str(owner["pid"])) != str(owner["started"])


def _host() -> str:
    """Name this machine and this start of it: process ids begin anew with each."""
    try:
        return f"{socket.gethostname()}/{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    except OSError:
        return ""


def _started(pid: str) -> str:
    """Return when a process started, in the kernel's ticks; nothing when there is none, or no way to know."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
