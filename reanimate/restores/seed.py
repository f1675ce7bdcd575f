"""Keep a replica loaded with the newest backup, so that reads have somewhere to go when the primary dies."""

import re

from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import VectorManifest, base_name, seed_name
from reanimate.restores.aliases import switch_aliases
from reanimate.restores.restore import Progress, Restored, RestoreOptions, discard, restore_and_switch
from reanimate.restores.verification import Verification, verify
from reanimate.vector.server import VectorServer

__all__ = ["Seeded", "seed"]

Seeded = Restored
"""What seeding left on the replica: the copy's name, its verification, the switch."""


async def seed(
    replica: VectorServer,
    catalog: Catalog,
    manifest: VectorManifest,
    on_progress: Progress | None = None,
    *,
    options: RestoreOptions | None = None,
) -> Seeded:
    """Load a backup into a replica under a name of its own and switch the replica's aliases to it.

    Does nothing when this backup is there already and verified. Copies of earlier backups that nothing points at any
    more are deleted, but the one before: a replica must not fill up night by night. Never call it with the server that
    the backup was taken from: its aliases would leave the live collection.

    Raises:
        VerificationFailed, Damaged, Refused, Unreachable, ServerFailed: as `restore_and_switch`; the replica's aliases
            are then as they were.
    """
    taken = set(await replica.collections())
    live = set((await replica.aliases()).values())
    name = seed_name(manifest.collection, manifest.taken_at)
    if name in taken and (found := await _good(replica, name, manifest)):
        switch = await switch_aliases(replica, manifest, name)
        return Seeded(name, found, switch)
    # A live copy that is not right any more is never written to: another name, beside it.
    at = 2
    while name in live:
        name = f"{seed_name(manifest.collection, manifest.taken_at)}-{at}"
        at += 1
    seeded = await restore_and_switch(replica, catalog, manifest, name, on_progress, options=options)
    await _discard_older(replica, manifest, name)
    return seeded


async def _good(replica: VectorServer, name: str, manifest: VectorManifest) -> Verification | None:
    verification = await verify(replica, name, manifest)
    return verification if verification.passed else None


async def _discard_older(replica: VectorServer, manifest: VectorManifest, newest: str) -> None:
    """Delete all copies made by seeding, but the newest, the one before it and those that are in use."""
    pattern = re.compile(re.escape(base_name(manifest.collection)) + r"-s\d{14}(-\d+)?")
    live = set((await replica.aliases()).values())
    copies = sorted(name for name in await replica.collections() if pattern.fullmatch(name) and name != newest)
    for name in copies[:-1]:
        if name not in live:
            await discard(replica, name)
