"""That a backup is being read: a mark that its reader renews, so that nobody deletes it meanwhile, and that expires."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import PurePosixPath

import obstore
from obstore.exceptions import BaseError

from reanimate.backups.catalog import MANIFEST, Catalog, backup_prefix
from reanimate.backups.manifest import Manifest
from reanimate.backups.marks import Mark, remove_mark, write_mark
from reanimate.clock import utcnow
from reanimate.errors import NotFound, Unreachable

__all__ = ["LEASE", "in_use", "is_in_use"]

log = logging.getLogger(__name__)

LEASE = timedelta(minutes=15)
"""A mark this old was left by a reader that died."""
_RENEW_S = LEASE.total_seconds() / 3


def is_in_use(marks: Iterable[Mark], now: datetime) -> bool:
    """Say whether somebody reads the backup that these marks are of."""
    return any(mark.what == "used" and mark.at > now - LEASE for mark in marks)


@asynccontextmanager
async def in_use(
    catalog: Catalog, manifest: Manifest, by: str, *, folder: str | None = None, renew_s: float = _RENEW_S
) -> AsyncIterator[None]:
    """Keep a backup, and the full one that it builds on, from being deleted for the block. `by` says who reads it.

    `folder` is where it lies, for whoever does not know its kind.

    Where marks cannot be written the block runs all the same: a restore may be the last hope.

    Raises:
        NotFound: it has been deleted.
    """
    root = PurePosixPath(folder).parts[0] if folder else manifest.ROOT or "backups"
    ids = [manifest.id, *filter(None, [getattr(manifest, "base", None)])]
    folders = [backup_prefix(manifest.subject, each, root) for each in ids]
    marks = await _renewed(catalog, folders, by, [])
    try:
        for folder in folders:  # after the mark: whoever deletes looks for marks after the manifest is gone
            await _must_exist(catalog, folder)
        renewing = asyncio.create_task(_keep_renewing(catalog, folders, by, marks, renew_s))
        try:
            yield
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing
    finally:
        for mark in marks:
            try:
                await remove_mark(catalog.store, mark)
            except Unreachable as error:
                log.warning("the mark of a reader that has ended stays until it expires: %s", error)


async def _keep_renewing(catalog: Catalog, folders: list[str], by: str, marks: list[Mark], renew_s: float) -> None:
    while True:
        await asyncio.sleep(renew_s)
        marks[:] = await _renewed(catalog, folders, by, marks)


async def _renewed(catalog: Catalog, folders: list[str], by: str, old: list[Mark]) -> list[Mark]:
    """Write new marks, then remove those that they replace; what cannot be written leaves the old ones in force."""
    now = utcnow()
    content = {"by": by, "until": (now + LEASE).isoformat()}
    new: list[Mark] = []
    try:
        for folder in folders:
            new.append(await write_mark(catalog.store, folder, "used", content, catalog.keyring, now=now))
        for mark in old:
            await remove_mark(catalog.store, mark)
    except Unreachable as error:
        log.warning("%s reads a backup, and cannot say so beside it: %s", by, error)
        return [*old, *new]
    return new


async def _must_exist(catalog: Catalog, folder: str) -> None:
    try:
        await obstore.head_async(catalog.store, f"{folder}/{MANIFEST}")
    except FileNotFoundError:
        raise NotFound(f"{folder} has been deleted", hint="`reanimate backup list` shows those there are") from None
    except (BaseError, OSError) as error:
        log.warning("whether %s is still there cannot be seen: %s", folder, error)
