"""Restore a backup into a new collection beside the live one. Nothing live is ever written to.

The whole way is `plan_restore`, `restore`, `verify`, `switch_aliases`; the old collection is kept.
`restore_and_switch` walks it; an incident's steps call the pieces, so that each can be resumed.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import VectorManifest, restore_name
from reanimate.backups.scratch import scratch_folder
from reanimate.errors import InputInvalid, NotFound, ReanimateError, Refused, ServerFailed
from reanimate.restores.aliases import AliasSwitch, plan_switch, switch_aliases, undo_switch
from reanimate.restores.loading import Loading, staged
from reanimate.restores.making import plan_target
from reanimate.restores.plan import RestorePlan, plan_restore, version_problem
from reanimate.restores.verification import DEEP_UP_TO, Verification, verify
from reanimate.vector.config import index_schema, payload_schema, schema_differences
from reanimate.vector.layout import wait_until_active
from reanimate.vector.placement import CreationPlan
from reanimate.vector.server import VectorServer
from reanimate.vector.transfers import TransferLimits

__all__ = [
    "AliasSwitch",
    "RestoreOptions",
    "RestorePlan",
    "Restored",
    "Verification",
    "discard",
    "new_collection_name",
    "plan_restore",
    "plan_switch",
    "restore",
    "restore_and_switch",
    "switch_aliases",
    "undo_switch",
    "verify",
]

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with the stage, how much of it is done, and the total: bytes, or steps where there are no bytes."""

_OURS = re.compile(r".-[rs]\d{14}(-\d+)?$")
_CLEANUP_S = 30.0


@dataclass(frozen=True)
class RestoreOptions:
    """How patient a restore is. Seconds."""

    transfer: TransferLimits = field(default_factory=TransferLimits)
    green_timeout_s: float = 20.0
    """How long the new collection may optimize before it is used as it is (yellow answers fully, only slower)."""
    parallel: int = 2
    """How many shards are brought and uploaded at once."""
    deep_up_to: int = DEEP_UP_TO
    """Up to this many points every id is compared."""
    replicas_timeout_s: float = 600.0
    """How long the other replicas of a cluster may take to copy what was uploaded to one holder of each shard."""


@dataclass(frozen=True)
class Restored:
    """What a whole restore did."""

    name: str
    verification: Verification
    switch: AliasSwitch


def new_collection_name(collection: str, now: datetime) -> str:
    """Return the name that a restore begun now goes to. Keep it before acting: a repeated restore takes the same."""
    return restore_name(collection, now)


async def restore(
    server: VectorServer,
    catalog: Catalog,
    manifest: VectorManifest,
    name: str,
    on_progress: Progress | None = None,
    *,
    options: RestoreOptions | None = None,
) -> None:
    """Make the collection `name`, which must be one of `new_collection_name`, and load the backup into it.

    Safe to repeat after a kill: what an earlier attempt left under this name is deleted first. On any failure the new
    collection is deleted again and seen to be gone. Stages of progress: create, download, upload, settle.

    Raises:
        InputInvalid: the name is not one that a restore gives, so it may belong to somebody.
        Refused: an alias points at that name (it is live), a version or a config that cannot be restored here.
        NotFound, Damaged: a part is missing in the store or is not what the manifest says; the server never saw it.
        Unreachable, ServerFailed: the server or the store failed. The message names the stage.
    """
    options = options or RestoreOptions()
    # All that can be known before anything is made: what has no place is a refusal, never a 200 with fewer points.
    plan = await plan_target(server, manifest)
    await _require_free(server, name, manifest)
    try:
        async with scratch_folder(catalog.scratch, "restore") as scratch:
            await _load(server, catalog, manifest, name, plan, scratch, options, on_progress or _silent)
    except BaseException:
        # Also when cancelled: a half-filled collection must not be left to be found.
        await _give_up(server, name)
        raise


async def _require_free(server: VectorServer, name: str, manifest: VectorManifest) -> None:
    """See that the name is ours to fill; what a cut attempt left is deleted.

    Raises:
        InputInvalid, Refused: see `restore`.
    """
    if not _OURS.search(name):
        raise InputInvalid(
            f"restoring backup {manifest.id} into {name!r}: a restore only goes to a new name of its own",
            hint=f"for example {manifest.collection}-r20261123013000",
        )
    identity = await server.version()
    if problem := version_problem(manifest.server, identity):
        raise Refused(f"backup {manifest.id} cannot be restored on {server.name}: it was {problem}")
    aliases = await server.aliases()
    if holders := sorted(alias for alias, collection in aliases.items() if name in (alias, collection)):
        raise Refused(
            f"restoring backup {manifest.id} into {name!r} on {server.name}: it is live, "
            f"reached through {', '.join(holders)}",
            hint="a restore never writes into a live collection; take a new name",
        )
    if name in await server.collections():
        await server.delete_collection(name)


async def _load(
    server: VectorServer,
    catalog: Catalog,
    manifest: VectorManifest,
    name: str,
    plan: CreationPlan,
    scratch: Path,
    options: RestoreOptions,
    progress: Progress,
) -> None:
    about = f"restoring backup {manifest.id} into {name!r} on {server.name}"
    loading = Loading(
        server,
        catalog,
        manifest,
        name,
        scratch,
        limits=options.transfer,
        parallel=options.parallel,
        progress=progress,
    )
    await loading.load(plan)
    progress("settle", 0, 1)
    await staged(about, "settle", _settle(server, name, manifest, options))
    progress("settle", 1, 1)


async def _settle(server: VectorServer, name: str, manifest: VectorManifest, options: RestoreOptions) -> None:
    """Wait until all replicas are active and every peer is green, and see that the payload indexes came along.

    A peer that is dead does not keep the data away: its replicas are missing, and that is told.

    Raises:
        ServerFailed: a replica does not become active, or the collection is red, or asleep for good.
    """
    layout = await wait_until_active(server, name, timeout_s=options.replicas_timeout_s, without_silent=True)
    if missing := layout.problems_of_silent:
        log.warning(
            "%s on %s is whole, with fewer replicas than it should have: %s", name, server.name, "; ".join(missing)
        )
    found = payload_schema(await server.info(name))
    for field_name, row in manifest.payload_schema.items():
        if schema_differences({field_name: row}, found):
            await server.create_index(name, field_name, index_schema(row))
    for peer in layout.peers.servers.values():
        await _until_green(peer, name, options)


async def _until_green(server: VectorServer, name: str, options: RestoreOptions) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + options.green_timeout_s
    woken = False
    while (status := (await server.info(name))["status"]) != "green":
        if status == "red":
            raise ServerFailed(f"the collection {name!r} is red: the server could not load it")
        if status == "grey" and not woken:
            await server.patch_collection(name, {"optimizers_config": {}})
            woken = True
        if loop.time() > deadline:
            if status == "yellow":
                return
            raise ServerFailed(f"the collection {name!r} is still {status} after {options.green_timeout_s:.0f} s")
        await asyncio.sleep(0.1)


async def _give_up(server: VectorServer, name: str) -> None:
    """Delete what was begun, whatever it takes within half a minute; the failure itself is the caller's to raise."""
    try:
        async with asyncio.timeout(_CLEANUP_S):
            await asyncio.shield(asyncio.ensure_future(_delete_until_gone(server, name)))
    except (ReanimateError, TimeoutError) as error:
        log.warning("%s on %s could not be removed after a failed restore: %s", name, server.name, error)


async def _delete_until_gone(server: VectorServer, name: str) -> None:
    for _ in range(4):
        with suppress(ReanimateError):
            return await server.delete_collection(name)
        await asyncio.sleep(0.5)
    return await server.delete_collection(name)


async def discard(server: VectorServer, name: str) -> None:
    """Delete a restored collection that is not wanted after all, and see that it is gone.

    Raises:
        InputInvalid: the name is not one that a restore gives.
        Refused: an alias points at it: it is live.
    """
    if not _OURS.search(name):
        raise InputInvalid(f"discarding {name!r} on {server.name}: it is not a restored collection's name")
    if name in (await server.aliases()).values():
        raise Refused(f"discarding {name!r} on {server.name}: it is live, an alias points at it")
    await server.delete_collection(name)


async def restore_and_switch(
    server: VectorServer,
    catalog: Catalog,
    manifest: VectorManifest,
    name: str,
    on_progress: Progress | None = None,
    *,
    options: RestoreOptions | None = None,
    keep: Callable[[AliasSwitch], Awaitable[None]] | None = None,
    before_switch: Callable[[], Awaitable[None]] | None = None,
) -> Restored:
    """Restore, verify, and only then switch the aliases. `keep` is given the switch before it is made.

    `before_switch` is called when the collection is verified and nobody uses it yet. On any failure the aliases are as
    they were and the new collection is gone. Stages: those of `restore`, then verify and switch.

    Raises:
        VerificationFailed: what was restored is not what was backed up.
        ReanimateError: as `restore` and `switch_aliases`.
    """
    progress = on_progress or _silent
    await restore(server, catalog, manifest, name, on_progress, options=options)
    about = f"restoring backup {manifest.id} into {name!r} on {server.name}"
    switch: AliasSwitch | None = None
    try:
        progress("verify", 0, 1)
        looking = verify(server, name, manifest, deep_up_to=(options or RestoreOptions()).deep_up_to)
        verification = await staged(about, "verify", looking)
        verification.require(server.name)
        progress("verify", 1, 1)
        if before_switch:
            await staged(about, "carry", before_switch())
        progress("switch", 0, 1)
        switch = await staged(about, "switch", plan_switch(server, manifest, name))
        if keep:
            await keep(switch)
        await staged(about, "switch", switch_aliases(server, manifest, name, switch))
        progress("switch", 1, 1)
    except BaseException:
        if switch is not None:
            with suppress(ReanimateError):
                await undo_switch(server, switch)
        if await _is_unused(server, name):
            await _give_up(server, name)
        raise
    return Restored(name, verification, switch)


async def _is_unused(server: VectorServer, name: str) -> bool:
    """Say whether nothing points at the collection. When the server does not answer it may be in use, and is kept."""
    try:
        return name not in (await server.aliases()).values()
    except (ReanimateError, NotFound):
        return False


def _silent(stage: str, done: int, total: int) -> None:
    """Report to nobody."""
