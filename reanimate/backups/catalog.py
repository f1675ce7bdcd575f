"""Which backups exist: those whose manifest is in the store, and no others.

{root}/{subject}/{id}/shard-0.snapshot     parts, first
{root}/{subject}/{id}/manifest.json        last, created once: from here on the backup exists
{root}/{subject}/{id}/unfinished.json      while it is being taken; what to sweep up if nobody finishes it
{root}/{subject}/{id}/pinned-….json        marks: what has been said of it since

`root` is `backups` for vector collections; every kind of backup has its own.
"""

import asyncio
import hashlib
import logging
import re
import secrets
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, TypeVar, cast

import obstore
from obstore.exceptions import BaseError

from reanimate.backups.keyring import Keyring
from reanimate.backups.manifest import Link, Manifest, VectorManifest
from reanimate.backups.marks import Mark, newest, parse_mark
from reanimate.backups.memory import Memory
from reanimate.backups.published import DamagedBackup, Listing, Published, doubted, seen_of
from reanimate.backups.signature import open_signed, sign
from reanimate.errors import ConfigInvalid, Damaged, NotFound
from reanimate.storage.blobs import ObjectStore, create_object
from reanimate.storage.transport import told

__all__ = [
    "MANIFEST",
    "ROOTS",
    "Catalog",
    "DamagedBackup",
    "Listing",
    "Published",
    "backup_prefix",
    "new_backup_id",
]

log = logging.getLogger(__name__)

ROOTS = ("backups", "dumps", "configs")
"""The folders of all kinds of backups."""
MANIFEST = "manifest.json"

_PLAIN = re.compile(r"[A-Za-z0-9_.-]")
_LONGEST_FOLDER = 120
_LONGEST_SLUG = 40

M = TypeVar("M", bound=Manifest)

# `Catalog.list` hides the builtin inside the class.
Manifests: TypeAlias = list[VectorManifest]
Keys: TypeAlias = list[str]


@dataclass(frozen=True)
class _Stored:
    """A manifest as it was read: the document that was signed, and the hash of the stored bytes."""

    document: dict[str, Any]
    sha256: str


class Catalog:
    """The published backups of a store. Reads manifests only, each once: a published manifest never changes.

    `listing`, `list`, `published`, `newest`, `get`, `find` and `at` block; call them through `asyncio.to_thread` from a
    loop that must not wait. Without a keyring nothing that others have signed is trusted.
    """

    def __init__(
        self,
        store: ObjectStore,
        scratch: Path | None = None,
        keyring: Keyring | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.store = store
        self.scratch = scratch or Path(tempfile.gettempdir())
        """Where files stay for a moment on their way between a server and the store."""
        self.keyring = keyring or Keyring.ephemeral()
        self.memory = memory or Memory()
        self._read: dict[tuple[str, str], _Stored | DamagedBackup] = {}
        self._manifests: dict[tuple[str, str, type[Manifest]], Manifest] = {}

    # -- reading ---------------------------------------------------------------------------------------------------

    def listing(self, collection: str | None = None) -> Listing:
        """Return every vector backup, of one collection or alias if named. Damaged ones are told, never raised.

        Those that are marked as deleted are told apart.

        Raises:
            Unreachable: the store could not be read.
        """
        found, damaged = self._entries(VectorManifest)
        kept = [one for one in found if collection is None or one.manifest.answers_to(collection)]
        return Listing(
            tuple(one for one in kept if not one.deleted),
            tuple(damaged),
            tuple(one for one in kept if one.deleted),
        )

    def published(self, kind: type[M]) -> tuple[Published[M], ...]:
        """Return every usable backup of a kind, newest first, deleted ones too; `Manifest` means all kinds.

        Raises:
            Unreachable: the store could not be read.
        """
        return tuple(self._entries(kind)[0])

    def damaged(self, kind: type[Manifest] = Manifest) -> tuple[DamagedBackup, ...]:
        """Return the backups of a kind that cannot be used, and why.

        Raises:
            Unreachable: the store could not be read.
        """
        return tuple(self._entries(kind)[1])

    def list(self, collection: str | None = None) -> Manifests:
        """Return the manifests of all vector backups, newest first.

        Raises:
            Unreachable: the store could not be read.
        """
        return [*self.listing(collection).manifests]

    def newest(self, collection: str) -> VectorManifest | None:
        """Return the newest backup that holds points, else the newest of all, else None.

        Raises:
            Unreachable: the store could not be read.
        """
        manifests = self.list(collection)
        return next((manifest for manifest in manifests if manifest.exact_count), manifests[0] if manifests else None)

    def get(self, backup_id: str) -> VectorManifest:
        """Return the manifest of one vector backup.

        Raises:
            NotFound: no published backup has that id.
            Damaged: it cannot be used.
            Unreachable: the store could not be read.
        """
        return self.find(backup_id, VectorManifest).manifest

    def find(self, backup_id: str, kind: type[M]) -> Published[M]:
        """Return one backup by its id, also one that is marked as deleted.

        Raises:
            NotFound: no published backup of that kind has that id.
            Damaged: it cannot be used.
            Unreachable: the store could not be read.
        """
        found, damaged = self._entries(kind)
        for one in damaged:
            if one.id == backup_id:
                raise Damaged(one.reason)
        for entry in found:
            if entry.manifest.id == backup_id:
                return entry
        raise NotFound(
            f"no published backup is called {backup_id!r}", hint="`reanimate backup list` shows those there are"
        )

    def at(self, key: str, kind: type[M]) -> Published[M]:
        """Return one backup by the key of its manifest: one object is read, nothing is listed, so without its marks.

        Raises:
            NotFound: there is none.
            Damaged: it cannot be used.
            Unreachable: the store could not be read.
        """
        try:
            version = obstore.head(self.store, key)
        except FileNotFoundError:
            raise NotFound(f"no manifest is at {key}") from None
        except (BaseError, OSError) as error:
            raise told(error, f"looking for {key}") from error
        entry = self._entry(kind, key, f"{version['last_modified']}:{version['size']}", {})
        if isinstance(entry, DamagedBackup):
            raise Damaged(entry.reason)
        return entry

    def keys(self, under: str) -> Keys:
        """Return every key below a prefix.

        Raises:
            Unreachable: the store could not be read.
        """
        return [*self._objects(under)]

    def sizes(self, under: str) -> dict[str, int]:
        """Return the size of every object below a prefix, by key.

        Raises:
            Unreachable: the store could not be read.
        """
        return {key: int(version.rpartition(":")[2]) for key, version in self._objects(under).items()}

    # -- writing ---------------------------------------------------------------------------------------------------

    async def publish(self, manifest: M) -> Published[M]:
        """Sign and write the manifest, linked to the one before it, which makes the backup exist.

        Raises:
            Refused: a backup of that id is published already.
            Unreachable: the store could not be written.
        """
        linked = manifest.model_copy(update={"previous": await asyncio.to_thread(self._before, manifest)})
        content = sign(linked.to_bytes(), self.keyring)
        key = f"{backup_prefix(manifest.subject, manifest.id, _root(type(manifest)))}/{MANIFEST}"
        await create_object(self.store, key, content)
        published = Published(linked, key, hashlib.sha256(content).hexdigest())
        self.memory.note([seen_of(published)])
        return published

    def _before(self, manifest: M) -> Link | None:
        """Return the newest other backup of the same subject."""
        for entry in self._entries(type(manifest))[0]:
            other = entry.manifest
            if other.subject == manifest.subject and other.id != manifest.id and other.taken_at <= manifest.taken_at:
                return Link(id=other.id, sha256=entry.sha256)
        return None

    # -- the store -------------------------------------------------------------------------------------------------

    def _entries(self, kind: type[M]) -> tuple[Sequence[Published[M]], Sequence[DamagedBackup]]:
        """Return what is usable, newest first, and what is not."""
        found: dict[str, Published[M]] = {}
        damaged: list[DamagedBackup] = []
        # Before the store is listed: what another process publishes meanwhile must not look as if it had vanished.
        memory = self.memory.recall()
        for root in ROOTS if kind.ROOT is None else (kind.ROOT,):
            objects = self._objects(root)
            marks = _by_folder(objects)
            for key, version in objects.items():
                if PurePosixPath(key).name != MANIFEST:
                    continue
                entry = self._entry(kind, key, version, marks)
                if isinstance(entry, DamagedBackup):
                    damaged.append(entry)
                else:
                    found[key] = entry
        remembered = [seen for seen in memory if kind.ROOT in (None, PurePosixPath(seen.key).parts[0])]
        if any(seen.key not in found for seen in remembered):
            forgotten = {*memory} - {*self.memory.recall()}  # removed on purpose while we were looking
            remembered = [seen for seen in remembered if seen not in forgotten]
        damaged += doubted(found, damaged, remembered)
        unusable = {one.key for one in damaged}
        usable = [entry for key, entry in found.items() if key not in unusable]
        usable.sort(key=lambda entry: (entry.manifest.taken_at, entry.manifest.id), reverse=True)
        try:
            self.memory.note([seen_of(entry) for entry in usable])
        except ConfigInvalid as error:  # a full disk must not hide the backups
            log.warning("%s", error)
        return usable, damaged

    def _entry(
        self, kind: type[M], key: str, version: str, marks: Mapping[str, tuple[Mark, ...]]
    ) -> Published[M] | DamagedBackup:
        stored = self._document(key, version)
        if isinstance(stored, DamagedBackup):
            return stored
        folder = PurePosixPath(key).parent
        try:
            manifest = self._manifest(kind, key, version, stored)
        except Damaged as error:
            return DamagedBackup(folder.name, key, str(error))
        if f"{backup_prefix(manifest.subject, manifest.id, folder.parts[0])}/{MANIFEST}" != key:
            return DamagedBackup(folder.name, key, f"the manifest {key} is that of another backup, {manifest.id}")
        beside = marks.get(str(folder), ())
        if damage := newest(beside, "damaged"):
            return DamagedBackup(
                folder.name, key, f"a part was not what the manifest says when it was read {damage.at}"
            )
        return Published(manifest, key, stored.sha256, beside)

    def _manifest(self, kind: type[M], key: str, version: str, stored: _Stored) -> M:
        """Return the manifest as its kind; asked for as any kind, those of vectors come as what they are too.

        Raises:
            Damaged: it is no manifest of that kind.
        """
        as_kind: type[Manifest] = kind
        if kind is Manifest and PurePosixPath(key).parts[0] == VectorManifest.ROOT:
            as_kind = VectorManifest
        if (key, version, as_kind) not in self._manifests:
            self._manifests[key, version, as_kind] = as_kind.from_document(stored.document, where=key)
        return cast(M, self._manifests[key, version, as_kind])

    def _document(self, key: str, version: str) -> _Stored | DamagedBackup:
        if (key, version) not in self._read:
            self._read[key, version] = self._read_document(key)
        return self._read[key, version]

    def _read_document(self, key: str) -> _Stored | DamagedBackup:
        try:
            content = bytes(obstore.get(self.store, key).bytes())
            document = open_signed(content, self.keyring, where=f"the manifest {key}")
        except Damaged as error:
            return DamagedBackup(PurePosixPath(key).parent.name, key, str(error))
        except (BaseError, OSError) as error:
            raise told(error, f"reading {key}") from error
        return _Stored(document, hashlib.sha256(content).hexdigest())

    def _objects(self, under: str) -> dict[str, str]:
        """Return key -> version of everything below a prefix."""
        try:
            pages = [*obstore.list(self.store, prefix=under)]
        except FileNotFoundError:
            return {}
        except (BaseError, OSError) as error:
            raise told(error, "listing the backups") from error
        return {meta["path"]: f"{meta['last_modified']}:{meta['size']}" for page in pages for meta in page}


def _by_folder(keys: Iterable[str]) -> dict[str, tuple[Mark, ...]]:
    folders: dict[str, list[Mark]] = {}
    for key in keys:
        if mark := parse_mark(key):
            folders.setdefault(str(PurePosixPath(key).parent), []).append(mark)
    return {folder: tuple(marks) for folder, marks in folders.items()}


def _root(kind: type[Manifest]) -> str:
    assert kind.ROOT is not None  # only manifests of one kind are published
    return kind.ROOT


def backup_prefix(subject: str, backup_id: str, root: str = "backups") -> str:
    """Return the folder of one backup. Names of subjects may hold anything; keys stay plain."""
    return f"{root}/{_folder(subject)}/{backup_id}"


def new_backup_id(subject: str, now: datetime) -> str:
    """Return an id that sorts by time and names the subject: `20261123T013000Z-kb-1a2b`."""
    slug = re.sub(r"[^A-Za-z0-9_-]+", "_", subject)[:_LONGEST_SLUG]
    return f"{now:%Y%m%dT%H%M%SZ}-{slug}-{secrets.token_hex(2)}"


def _folder(subject: str) -> str:
    encoded = "".join(
        character if _PLAIN.fullmatch(character) and not (at == 0 and character == ".") else _escaped(character)
        for at, character in enumerate(subject)
    )
    if len(encoded) <= _LONGEST_FOLDER:
        return encoded
    return f"{encoded[:80]}={hashlib.sha256(subject.encode()).hexdigest()[:32]}"


def _escaped(character: str) -> str:
    return "".join(f"={byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
