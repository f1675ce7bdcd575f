"""Which backups exist: those whose manifest is in the store, and no others.

backups/{collection}/{id}/shard-0.snapshot     parts, first
backups/{collection}/{id}/manifest.json        last, created once: from here on the backup exists
backups/{collection}/{id}/unfinished.json      while it is being taken; what to sweep up if nobody finishes it
"""

import hashlib
import re
import secrets
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import obstore
from obstore.exceptions import BaseError

from reanimate.backups.blobs import ObjectStore, create_object
from reanimate.backups.manifest import Manifest
from reanimate.errors import Damaged, NotFound, Unreachable

__all__ = ["MANIFEST", "Catalog", "DamagedBackup", "Listing", "backup_prefix", "new_backup_id"]

ROOT = "backups"
MANIFEST = "manifest.json"

_PLAIN = re.compile(r"[A-Za-z0-9_.-]")
_LONGEST_FOLDER = 120
_LONGEST_SLUG = 40


# `Catalog.list` hides the builtin inside the class.
Manifests: TypeAlias = list[Manifest]
Keyed: TypeAlias = list[tuple[str, str]]
Keys: TypeAlias = list[str]


@dataclass(frozen=True)
class DamagedBackup:
    """A backup whose manifest cannot be used, and why."""

    id: str
    key: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """Everything that calls itself a backup: `manifests` newest first, and those that cannot be read."""

    manifests: tuple[Manifest, ...]
    damaged: tuple[DamagedBackup, ...]


class Catalog:
    """The published backups of a store. Reads manifests only, each once: a published manifest never changes.

    `list`, `newest` and `get` block; call them through `asyncio.to_thread` from a loop that must not wait.
    """

    def __init__(self, store: ObjectStore, scratch: Path | None = None) -> None:
        self.store = store
        self.scratch = scratch or Path(tempfile.gettempdir())
        """Where files stay for a moment on their way between a server and the store."""
        self._read: dict[tuple[str, str], Manifest | DamagedBackup] = {}

    def listing(self, collection: str | None = None) -> Listing:
        """Return every published backup, of one collection or alias if named. Damaged ones are told, never raised.

        Raises:
            Unreachable: the store could not be read.
        """
        entries = [self._entry(key, version) for key, version in self._manifest_keys()]
        manifests = [entry for entry in entries if isinstance(entry, Manifest)]
        wanted = [entry for entry in manifests if collection is None or entry.answers_to(collection)]
        return Listing(
            tuple(sorted(wanted, key=lambda manifest: (manifest.taken_at, manifest.id), reverse=True)),
            tuple(entry for entry in entries if isinstance(entry, DamagedBackup)),
        )

    def list(self, collection: str | None = None) -> Manifests:
        """Return the manifests of all published backups, newest first.

        Raises:
            Unreachable: the store could not be read.
        """
        return [*self.listing(collection).manifests]

    def newest(self, collection: str) -> Manifest | None:
        """Return the newest backup that holds points, else the newest of all, else None.

        Raises:
            Unreachable: the store could not be read.
        """
        manifests = self.list(collection)
        return next((manifest for manifest in manifests if manifest.exact_count), manifests[0] if manifests else None)

    def get(self, backup_id: str) -> Manifest:
        """Return one manifest by its id.

        Raises:
            NotFound: no published backup has that id.
            Damaged: its manifest cannot be read.
            Unreachable: the store could not be read.
        """
        for key, version in self._manifest_keys():
            if PurePosixPath(key).parent.name == backup_id:
                entry = self._entry(key, version)
                if isinstance(entry, DamagedBackup):
                    raise Damaged(entry.reason)
                return entry
        raise NotFound(
            f"no published backup is called {backup_id!r}", hint="`reanimate backup list` shows those there are"
        )

    async def publish(self, manifest: Manifest) -> str:
        """Write the manifest, which makes the backup exist, and return its key.

        Raises:
            Refused: a backup of that id is published already.
            Unreachable: the store could not be written.
        """
        key = f"{backup_prefix(manifest.collection, manifest.id)}/{MANIFEST}"
        await create_object(self.store, key, manifest.to_bytes())
        return key

    def keys(self, under: str) -> Keys:
        """Return every key below a prefix.

        Raises:
            Unreachable: the store could not be read.
        """
        return [key for key, _ in self._objects(under)]

    def _manifest_keys(self) -> Keyed:
        return [(key, version) for key, version in self._objects(ROOT) if PurePosixPath(key).name == MANIFEST]

    def _objects(self, under: str) -> Keyed:
        try:
            pages = [*obstore.list(self.store, prefix=under)]
        except FileNotFoundError:
            return []
        except (BaseError, OSError) as error:
            raise Unreachable(
                f"listing the backups: {error}", hint="see whether the blob store is reachable"
            ) from error
        return [(meta["path"], f"{meta['last_modified']}:{meta['size']}") for page in pages for meta in page]

    def _entry(self, key: str, version: str) -> Manifest | DamagedBackup:
        if (key, version) not in self._read:
            self._read[key, version] = self._read_entry(key)
        return self._read[key, version]

    def _read_entry(self, key: str) -> Manifest | DamagedBackup:
        backup_id = PurePosixPath(key).parent.name
        try:
            manifest = Manifest.from_bytes(bytes(obstore.get(self.store, key).bytes()), where=key)
        except Damaged as error:
            return DamagedBackup(backup_id, key, str(error))
        except (BaseError, OSError) as error:
            raise Unreachable(f"reading {key}: {error}", hint="see whether the blob store is reachable") from error
        if f"{backup_prefix(manifest.collection, manifest.id)}/{MANIFEST}" != key:
            return DamagedBackup(backup_id, key, f"the manifest {key} is that of another backup, {manifest.id}")
        return manifest


def backup_prefix(collection: str, backup_id: str) -> str:
    """Return the folder of one backup. Collection names may hold anything; keys stay plain."""
    return f"{ROOT}/{_folder(collection)}/{backup_id}"


def new_backup_id(collection: str, now: datetime) -> str:
    """Return an id that sorts by time and names the collection: `20261123T013000Z-kb-1a2b`."""
    slug = re.sub(r"[^A-Za-z0-9_-]+", "_", collection)[:_LONGEST_SLUG]
    return f"{now:%Y%m%dT%H%M%SZ}-{slug}-{secrets.token_hex(2)}"


def _folder(collection: str) -> str:
    encoded = "".join(
        character if _PLAIN.fullmatch(character) and not (at == 0 and character == ".") else _escaped(character)
        for at, character in enumerate(collection)
    )
    if len(encoded) <= _LONGEST_FOLDER:
        return encoded
    return f"{encoded[:80]}={hashlib.sha256(collection.encode()).hexdigest()[:32]}"


def _escaped(character: str) -> str:
    return "".join(f"={byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
