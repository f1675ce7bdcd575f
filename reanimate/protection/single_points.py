"""Single points out of a backup into the live collection, for the one document that somebody deleted."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from reanimate.backups.manifest import ShardPart
from reanimate.backups.scratch import scratch_folder
from reanimate.backups.use import in_use
from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.errors import NotFound, VerificationFailed
from reanimate.proofs.own_server import own_server
from reanimate.protection.restore_plans import Planned
from reanimate.restores.points import Comparison, Source, Undo, Written, compare, undo_points, write_points
from reanimate.restores.read_only import fetching, load
from reanimate.restores.restore import Progress, new_collection_name
from reanimate.restores.verification import Depth, verify
from reanimate.vector.server import Json, VectorServer

__all__ = ["Recovered", "recover_points", "undo_recovery"]


@dataclass(frozen=True)
class Recovered:
    """The selected points held against the live collection, and what was written of them; None with a dry run."""

    planned: Planned
    compared: Comparison
    written: Written | None


async def recover_points(
    services: Services,
    planned: Planned,
    collection: str,
    only: Json | None,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    on_progress: Progress | None = None,
) -> Recovered:
    """Load the planned backup into a scratch server, compare, and write what is missing, or differs if `overwrite`.

    Raises:
        NotFound: there is no live collection; the backup's parts are not there.
        Damaged, VerificationFailed: the backup is not what its manifest says; nothing was written.
        Refused, Unreachable, ServerFailed: as `compare` and `write_points`.
    """
    plan, manifest, catalog = planned.plan, planned.manifest, planned.repository.catalog
    live = services.vector(plan.target)
    try:
        await live.info(collection)
    except NotFound as error:
        raise NotFound(
            error.args[0], hint="it is gone altogether: `reanimate restore run` brings the whole collection back"
        ) from None
    async with (
        in_use(catalog, manifest, f"points being restored to {plan.target}"),
        scratch_folder(catalog.scratch, "points") as folder,
        own_server("points", folder / "server", services.http) as backup,
    ):
        sources = await _loaded(planned, backup, folder, on_progress or _silent)
        compared = await compare(sources, live, collection, only, on_progress)
        if dry_run:
            return Recovered(planned, compared, None)
        file = _undo_file(services.settings.home, collection, utcnow())
        written = await write_points(live, collection, compared, file, overwrite=overwrite, on_progress=on_progress)
    return Recovered(planned, compared, written)


async def undo_recovery(services: Services, file: Path, target: str, *, dry_run: bool = False) -> tuple[str, Undo]:
    """Undo the writing of points by the file that it kept; return the collection's name and what was done.

    Raises:
        NotFound, InputInvalid, VerificationFailed, Refused, Unreachable, ServerFailed: as `undo_points`.
    """
    return await undo_points(services.vector(target), file, dry_run=dry_run)


def _undo_file(home: Path, collection: str, now: datetime) -> Path:
    return home / "restores" / f"points-{quote(collection, safe='')}-{now:%Y%m%dT%H%M%S%f}Z.jsonl"


async def _loaded(planned: Planned, backup: VectorServer, folder: Path, progress: Progress) -> list[Source]:
    """Load the backup, each shard key into a collection of its own: that is where its points have to go back to.

    Raises:
        Damaged, VerificationFailed: it is not what its manifest says.
        Refused, Unreachable, ServerFailed, ConfigInvalid: it could not be loaded.
    """
    manifest, catalog = planned.manifest, planned.repository.catalog
    name = new_collection_name(manifest.collection, utcnow())
    by_key: dict[str | int | None, list[ShardPart]] = {}
    for part in manifest.parts:
        by_key.setdefault(part.shard_key, []).append(part)
    sources = []
    for at, (key, parts) in enumerate(by_key.items()):
        some = manifest.model_copy(update={"parts": tuple(parts)})
        source = Source(backup, f"{name}-{at}", key)
        async with fetching(catalog, some, folder, progress) as fetched:
            await load(backup, source.name, some, fetched, progress, flat=True)
        sources.append(source)
    if not manifest.shard_keys:
        (await verify(backup, sources[0].name, manifest, depth=Depth.QUICK)).require("an engine of our own")
    found = sum([await backup.count(source.name) for source in sources])
    if found != manifest.exact_count:
        raise VerificationFailed(f"backup {manifest.id} holds {found} points, its manifest says {manifest.exact_count}")
    return sources


def _silent(stage: str, done: int, total: int) -> None:
    """Report to nobody."""
