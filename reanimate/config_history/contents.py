"""Contents in a repository: each kept once, whichever files and versions have it.

configs/{set}/content/{sha256}-{4 hex}     packed like any part; never written over, so that its hashes stay true
"""

import asyncio
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

import obstore
from obstore.exceptions import BaseError

from reanimate.backups.catalog import Catalog, backup_prefix
from reanimate.backups.manifest import Part
from reanimate.backups.scratch import scratch_folder
from reanimate.backups.stored_parts import fetch_part, store_part
from reanimate.config_history.versions import ConfigManifest
from reanimate.errors import NotFound, Unreachable
from reanimate.storage.blobs import remove_objects

__all__ = ["Contents", "part_of"]

_LEFT_AFTER = timedelta(days=1)
"""A content that no manifest names and that is older was left by a keeping that was cut."""


class Contents:
    """The contents of one set."""

    def __init__(self, catalog: Catalog, name: str) -> None:
        self._catalog = catalog
        self._folder = backup_prefix(name, "content", ConfigManifest.ROOT)

    def known(self, manifests: Iterable[ConfigManifest]) -> dict[str, Part]:
        """Return SHA-256 → part of every content that need not be stored again.

        Once there are recipients, what was kept in the clear before is stored again, encrypted.
        """
        sealed = bool(self._catalog.keyring.recipients)
        return {
            part.sha256: part for manifest in manifests for part in manifest.parts if ("age" in part.packing) == sealed
        }

    async def keep(self, sha256: str, content: bytes) -> Part:
        """Store a content.

        Raises:
            Unreachable, Refused: the store could not be written.
            Damaged: it did not arrive as it was sent.
        """
        key = f"{self._folder}/{sha256}-{secrets.token_hex(2)}"
        async with scratch_folder(self._catalog.scratch, "config") as scratch:
            file = scratch / sha256
            await asyncio.to_thread(file.write_bytes, content)
            return await store_part(self._catalog, key, file, "text", name=sha256)

    async def fetch(self, part: Part) -> bytes:
        """Return a content, checked.

        Raises:
            NotFound, Damaged, Unreachable: it is not there, not what it was, or cannot be read.
        """
        async with scratch_folder(self._catalog.scratch, "config") as scratch:
            file = scratch / part.sha256
            await fetch_part(self._catalog, part, file)
            return await asyncio.to_thread(file.read_bytes)

    async def sweep(self, manifests: Iterable[ConfigManifest], now: datetime) -> int:
        """Remove contents that no manifest names any more or yet, and return how many. The very young ones stay.

        Raises:
            Unreachable: the store could not be read or written.
        """
        named = {part.blob for manifest in manifests for part in manifest.parts}
        found = await asyncio.to_thread(self._objects)
        left = [key for key, at in found.items() if key not in named and now - at > _LEFT_AFTER]
        await remove_objects(self._catalog.store, left)
        return len(left)

    def _objects(self) -> dict[str, datetime]:
        try:
            pages = [*obstore.list(self._catalog.store, prefix=self._folder)]
        except FileNotFoundError:
            return {}
        except (BaseError, OSError) as error:
            raise Unreachable(f"listing {self._folder}: {error}") from error
        return {meta["path"]: meta["last_modified"] for page in pages for meta in page}


def part_of(manifests: Iterable[ConfigManifest], sha256: str) -> Part:
    """Return the part that holds a content; the newest, should there be several.

    Raises:
        NotFound: no manifest names it.
    """
    for manifest in manifests:
        for part in manifest.parts:
            if part.sha256 == sha256:
                return part
    raise NotFound(f"the content {sha256[:10]} is in no manifest of the repository")
