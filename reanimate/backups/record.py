"""Taking backups as the record knows them: which collections, and a row for each that tells how it went."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert

from reanimate.backups.backup import BackupOptions, Progress, take_backup
from reanimate.backups.catalog import MANIFEST, backup_prefix, new_backup_id
from reanimate.backups.manifest import Manifest
from reanimate.backups.unfinished import ABANDONED_AFTER
from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.db.tables import Backup
from reanimate.incidents.impact import gateway_figures

__all__ = ["back_up", "names_to_back_up"]


async def names_to_back_up(
    services: Services, target: str, *, named: Sequence[str] = (), everything: bool = False
) -> list[str]:
    """Return the collections to back up: those `named`, else those of the settings, else all that the target has.

    `everything` passes over the settings.

    Raises:
        Unreachable, ServerFailed: the target does not answer.
        ConfigInvalid: no target has that name.
    """
    chosen = named or (() if everything else services.settings.vector.collections)
    return list(chosen) or sorted(await services.vector(target).collections())


async def back_up(
    services: Services, collection: str, *, target: str, trigger: str, on_progress: Progress | None = None
) -> Manifest:
    """Take a backup of one collection and keep a row about it, whatever becomes of it.

    Raises:
        see `take_backup`.
    """
    began = utcnow()
    backup_id = new_backup_id(collection, began)
    await _begin(services, backup_id, collection, target, trigger, began)
    try:
        manifest = await take_backup(
            services.vector(target),
            collection,
            services.catalog,
            BackupOptions.from_settings(services.settings.backups),
            totals=await _acknowledged(services, began),
            backup_id=backup_id,
            on_progress=on_progress,
        )
    except BaseException as error:
        await _end(services, backup_id, state="failed", error=str(error) or type(error).__name__)
        raise
    await _end(
        services,
        backup_id,
        state="published",
        subject=manifest.collection,
        manifest_key=f"{backup_prefix(manifest.collection, manifest.id)}/{MANIFEST}",
        size_bytes=sum(part.size for part in manifest.parts),
        exact_count=manifest.exact_count,
    )
    return manifest


async def _begin(
    services: Services, backup_id: str, collection: str, target: str, trigger: str, began: datetime
) -> None:
    row = {"id": backup_id, "subject": collection, "target": target, "state": "running", "trigger": trigger}
    left_by_a_kill = (
        update(Backup)
        .where(Backup.subject == collection, Backup.state == "running", Backup.started_at < began - ABANDONED_AFTER)
        .values(state="failed", ended_at=began, error="cut off: its process died")
    )
    async with services.sessions.begin() as session:
        await session.execute(left_by_a_kill)
        await session.execute(insert(Backup).values(kind="qdrant", started_at=began, **row))


async def _end(services: Services, backup_id: str, **values: str | int | None) -> None:
    async with services.sessions.begin() as session:
        await session.execute(update(Backup).where(Backup.id == backup_id).values(ended_at=utcnow(), **values))


async def _acknowledged(services: Services, now: datetime) -> dict[str, int]:
    """Return how many writes the gateways have ever acknowledged, by collection, as far as they answer."""
    totals: Counter[str] = Counter()
    for figures in (await gateway_figures(services, now)).values():
        totals.update(figures.get("totals", {}).get("writes_acknowledged", {}))
    return dict(totals)
