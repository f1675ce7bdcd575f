"""What must be in the vector stores, as the newest backups say; the catalog is re-read now and then and cached."""

import asyncio
import logging
import time
from collections.abc import Iterable

from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import Manifest, VectorManifest
from reanimate.backups.names import is_protected
from reanimate.errors import ReanimateError
from reanimate.watch.recovery_points import Protected, protected_in

__all__ = ["Expectations", "expected"]

log = logging.getLogger(__name__)

REFRESH_S = 30.0
LONGEST_WAIT_S = 2.0


def expected(manifests: Iterable[VectorManifest], protected: Iterable[str]) -> dict[str, VectorManifest]:
    """Pick what must be there now: the newest non-empty manifest for each name that readers use.

    An older backup of the same collection, or of one that the same alias led to, is history and expects nothing.

    Args:
        protected: collections or aliases to look after, by name or glob; empty means every one that has a backup.
    """
    wanted = tuple(protected)
    found: dict[str, VectorManifest] = {}
    for manifest in sorted(manifests, key=lambda one: one.taken_at, reverse=True):
        names = (manifest.collection, *manifest.aliases)
        history = any(newer.answers_to(name) for newer in found.values() for name in names)
        looked_after = is_protected(wanted, names) or any(manifest.answers_to(name) for name in wanted)
        if manifest.exact_count > 0 and looked_after and not history:
            found[manifest.entry_name] = manifest
    return found


class Expectations:
    """The cached answer of the catalog. A catalog that cannot be read keeps the last answer in force."""

    def __init__(self, catalog: Catalog, protected: tuple[str, ...]) -> None:
        self._catalog = catalog
        self._protected = protected
        self._underway: asyncio.Task[None] | None = None
        self.asked_at = float("-inf")
        """When the last reading began, in seconds of the monotonic clock."""
        self.current: dict[str, VectorManifest] = {}
        self.protected: tuple[Protected, ...] = ()
        """What there is of everything that is protected."""
        self.loaded = False
        """Whether the catalog was ever read."""
        self.error: str | None = None

    async def refresh(self, *, if_older_than_s: float = 0.0) -> None:
        """Read the catalog, unless that was done lately; failures are logged and shown, never raised.

        Waits for two seconds at most: a blob store that hangs must not keep anybody from probing.
        """
        if self._underway is None or self._underway.done():
            if time.monotonic() - self.asked_at < if_older_than_s:
                return
            self.asked_at = time.monotonic()
            self._underway = asyncio.create_task(self._read())
        await asyncio.wait({self._underway}, timeout=LONGEST_WAIT_S)

    async def refresh_forever(self) -> None:
        """Read the catalog now and every 30 s, until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_S)

    async def _read(self) -> None:
        try:
            published = await asyncio.to_thread(self._catalog.published, Manifest)
        except (ReanimateError, OSError) as error:
            if str(error) != self.error:
                log.warning("the catalog of backups cannot be read, the last known one is used: %s", error)
            self.error = str(error)
            return
        manifests = [one.manifest for one in published if isinstance(one.manifest, VectorManifest) and not one.deleted]
        self.current = expected(manifests, self._protected)
        self.protected = protected_in(published, self._protected)
        self.error, self.loaded = None, True
