"""Load a backup into an offline standby: beside the copy that it serves, verified, and only then in its place."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from reanimate.backups.catalog import Catalog, Published
from reanimate.backups.manifest import VectorManifest, base_name, seed_name
from reanimate.backups.scratch import scratch_folder
from reanimate.backups.use import in_use
from reanimate.clock import utcnow
from reanimate.errors import ReanimateError, Refused, ServerFailed
from reanimate.restores.read_only import fetching, fitted, load
from reanimate.restores.restore import Progress, discard
from reanimate.restores.verification import Verification, verify
from reanimate.restores.versions import engine_problem
from reanimate.vector.held import HeldCopy, held_copies, note_held
from reanimate.vector.server import Json, VectorServer

__all__ = ["Refreshed", "alias_actions", "refresh"]


@dataclass(frozen=True)
class Refreshed:
    """What an offline standby serves now of one collection."""

    standby: str
    name: str
    backup_id: str
    collection: str
    taken_at: datetime
    points: int
    loaded: bool
    """False when this backup was there already, and right."""
    verification: Verification

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, but for the time."""
        return asdict(self)


async def refresh(
    standby: VectorServer,
    catalog: Catalog,
    backup: Published[VectorManifest],
    on_progress: Progress | None = None,
) -> Refreshed:
    """Make an offline standby serve a backup. Until the new copy is verified, and if it is not right, the old stays.

    The copy before is kept, older ones are deleted, and so is what a killed refresh has left. One at a time for each
    collection: that is the caller's to see to. Stages of progress: download, create, load, verify and switch.

    Raises:
        VerificationFailed, Damaged, Refused, Unreachable, ServerFailed: as `load` and `verify`; the standby serves what
            it served.
    """
    manifest = backup.manifest
    copies = await _swept(standby, manifest, await held_copies(standby))
    for copy in (one for one in copies if one.backup_id == manifest.id):
        found = await verify(standby, copy.name, fitted(manifest, flat=True))
        if found.passed:
            await _switch(standby, manifest, copy.name, copies)
            return _refreshed(standby, copy.name, manifest, found, loaded=False)
    name = _free_name(manifest, await standby.collections())
    progress = on_progress or _silent
    if problem := engine_problem(manifest.server):
        raise Refused(f"backup {manifest.id} cannot be loaded into {standby.name}: it was {problem}")
    try:
        async with (
            in_use(catalog, manifest, f"a load into {standby.name}"),
            scratch_folder(catalog.scratch, "restore") as folder,
            fetching(catalog, manifest, folder, progress) as parts,
        ):
            await load(standby, name, manifest, parts, progress, flat=True)
        progress("verify", 0, 1)
        found = await verify(standby, name, fitted(manifest, flat=True))
        found.require(standby.name)
        progress("verify", 1, 1)
        progress("switch", 0, 1)
        await note_held(
            standby,
            name,
            backup_id=manifest.id,
            collection=manifest.collection,
            taken_at=manifest.taken_at,
            loaded_at=utcnow(),
            points=manifest.exact_count,
            manifest_sha256=backup.sha256,
        )
        await _switch(standby, manifest, name, copies)
        progress("switch", 1, 1)
    except BaseException:
        with suppress(ReanimateError):  # the failure itself is what is told; a later refresh sweeps up
            await discard(standby, name)
        raise
    await _discard_older(standby, manifest, name)
    return _refreshed(standby, name, manifest, found, loaded=True)


def alias_actions(
    manifest: VectorManifest, name: str, aliases: Mapping[str, str], copies: Sequence[HeldCopy]
) -> list[Json]:
    """Say what must change for clients to find a copy by every name that its collection had.

    An alias that has meanwhile moved to another collection stays there: what that one's copy holds is newer. One that
    the collection had in an earlier backup and has no more is taken away, so that nobody reads the old copy by it.
    """
    held = {copy.name: copy for copy in copies}
    own = [copy.name for copy in copies if _is_of(copy.name, manifest)]
    wanted = [
        alias
        for alias in dict.fromkeys((*manifest.aliases, manifest.collection))
        if not _newer(alias, aliases, held, manifest)
    ]
    away = [alias for alias, at in aliases.items() if at in own and alias not in wanted]
    moved = [alias for alias in wanted if alias in aliases and aliases[alias] != name]
    actions: list[Json] = [{"delete_alias": {"alias_name": alias}} for alias in (*away, *moved)]
    for alias in wanted:
        if aliases.get(alias) != name:
            actions.append({"create_alias": {"collection_name": name, "alias_name": alias}})
    return actions


def _newer(alias: str, aliases: Mapping[str, str], held: Mapping[str, HeldCopy], manifest: VectorManifest) -> bool:
    """Say whether an alias leads to a newer copy of another collection."""
    holder = held.get(aliases.get(alias, ""))
    if holder is None or holder.taken_at is None or _is_of(holder.name, manifest):
        return False
    return holder.taken_at > manifest.taken_at


async def _switch(standby: VectorServer, manifest: VectorManifest, name: str, copies: Sequence[HeldCopy]) -> None:
    """Move the aliases, all in one call, and read them back.

    Raises:
        ServerFailed: the standby said yes, and they are not so.
    """
    if actions := alias_actions(manifest, name, await standby.aliases(), copies):
        await standby.update_aliases(actions)
    if left := alias_actions(manifest, name, await standby.aliases(), copies):
        raise ServerFailed(f"switching aliases on {standby.name}: it said yes, and {len(left)} are not so")


async def _swept(standby: VectorServer, manifest: VectorManifest, copies: list[HeldCopy]) -> list[HeldCopy]:
    """Delete what a killed refresh of this collection left, and return the rest."""
    kept = []
    for copy in copies:
        if copy.backup_id is None and _is_of(copy.name, manifest):
            await discard(standby, copy.name)
        else:
            kept.append(copy)
    return kept


async def _discard_older(standby: VectorServer, manifest: VectorManifest, newest: str) -> None:
    """Delete the copies of this collection, but the newest, the one loaded before it and those that are in use."""
    live = set((await standby.aliases()).values())
    others = [copy for copy in await held_copies(standby) if _is_of(copy.name, manifest) and copy.name != newest]
    others.sort(key=lambda copy: (copy.loaded_at is not None, copy.loaded_at, copy.name), reverse=True)
    for copy in others[1:]:
        if copy.name not in live:
            await discard(standby, copy.name)


def _is_of(name: str, manifest: VectorManifest) -> bool:
    """Say whether a collection of the standby is a copy of the manifest's collection, of whatever age."""
    return re.fullmatch(re.escape(base_name(manifest.collection)) + r"-s\d{14}(-\d+)?", name) is not None


def _free_name(manifest: VectorManifest, taken: Sequence[str]) -> str:
    first = name = seed_name(manifest.collection, manifest.taken_at)
    number = 1
    while name in taken:
        number += 1
        name = f"{first}-{number}"
    return name


def _refreshed(
    standby: VectorServer, name: str, manifest: VectorManifest, found: Verification, *, loaded: bool
) -> Refreshed:
    return Refreshed(
        standby=standby.name,
        name=name,
        backup_id=manifest.id,
        collection=manifest.collection,
        taken_at=manifest.taken_at,
        points=manifest.exact_count,
        loaded=loaded,
        verification=found,
    )


def _silent(stage: str, done: int, total: int) -> None:
    """Report to nobody."""
