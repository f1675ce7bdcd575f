"""A backup as schedules and commands take it: with its row in the record, which must not be what it fails over."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from reanimate.backups import record
from reanimate.backups.backup import BackupOptions, Progress, take_backup
from reanimate.backups.catalog import Catalog, new_backup_id
from reanimate.backups.manifest import VectorManifest
from reanimate.backups.names import match_names
from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.errors import NotFound, ReanimateError
from reanimate.protection import locks
from reanimate.restores.seed import seed
from reanimate.section import is_glob
from reanimate.switches.gateways import acknowledged_writes
from reanimate.vector.server import VectorServer

__all__ = ["back_up", "names_to_back_up", "restoring", "seed_replicas", "take_recorded_backup"]

log = logging.getLogger(__name__)

_FULL_WAITS_S = 1800.0
_PARTIAL_WAITS_S = 60.0


async def names_to_back_up(
    services: Services, target: str, *, named: Sequence[str] = (), everything: bool = False
) -> list[str]:
    """Return the collections to back up: those `named`, else those of the settings, else all that the target has.

    Names are exact or globs, see `match_names`. `everything` passes over the settings.

    Raises:
        NotFound: a glob matches nothing.
        Unreachable, ServerFailed: the target does not answer.
        ConfigInvalid: no target has that name.
    """
    chosen = named or (() if everything else services.settings.vector.collections)
    server = services.vector(target)
    if not chosen:
        return sorted(await server.collections())
    if not any(is_glob(name) for name in chosen):
        return list(dict.fromkeys(chosen))
    return match_names(chosen, await server.collections(), await server.aliases())


async def back_up(
    services: Services,
    collection: str,
    *,
    target: str,
    trigger: str,
    partial: bool = False,
    recovery_point: str | None = None,
    on_progress: Progress | None = None,
) -> VectorManifest:
    """Back up one collection of a target, with its row in the record and the gateways' write counts in the manifest.

    `partial` asks for what changed since the newest full backup only, where that is worth it. It does not wait long
    for another backup of the same collection: that one is as good.

    Raises:
        Busy: another backup or a restore of the collection is running; or a restore wanted to, and this gave way.
        ReanimateError: as `take_backup`.
    """
    server = services.vector(target)
    thing = locks.collection(target, await _behind(server, collection))
    within_s = _PARTIAL_WAITS_S if partial else _FULL_WAITS_S
    async with locks.exclusively(
        services.engine, services.settings.home, thing, locks.Purpose.BACKUP, within_s=within_s
    ):
        return await take_recorded_backup(
            server,
            collection,
            services.catalog,
            services.sessions,
            BackupOptions.from_settings(services.settings.backups, services.settings.vector.models),
            trigger=trigger,
            partial=partial,
            recovery_point=recovery_point,
            repository=next(iter(services.repositories)),
            totals=await acknowledged_writes(services),
            on_progress=on_progress,
        )


def restoring(services: Services, target: str, collection: str) -> AbstractAsyncContextManager[None]:
    """Keep backups of a collection away for a block that restores it; one that is running gives way.

    Raises:
        Busy: another restore of it is running and does not end.
    """
    thing = locks.collection(target, collection)
    return locks.exclusively(services.engine, services.settings.home, thing, locks.Purpose.RESTORE)


async def _behind(server: VectorServer, name: str) -> str:
    """Return the collection behind a name; the name itself when the server does not say, the backup will tell why."""
    with suppress(ReanimateError):
        return (await server.aliases()).get(name, name)
    return name


async def seed_replicas(
    services: Services, manifest: VectorManifest, *, on_progress: Progress | None = None
) -> dict[str, str]:
    """Load a backup into every replica and verify it there; return replica → name of the copy.

    Raises:
        ReanimateError: as `seed`.
    """
    source = services.addresses.vector.get(manifest.target)
    copies = {}
    for replica in services.settings.vector.replicas:
        server = services.vector(replica.name)
        if server.url != source:
            copies[replica.name] = (await seed(server, services.catalog, manifest, on_progress)).name
    return copies


async def take_recorded_backup(
    server: VectorServer,
    collection: str,
    catalog: Catalog,
    sessions: async_sessionmaker[AsyncSession],
    options: BackupOptions | None = None,
    *,
    trigger: str,
    repository: str = "local",
    partial: bool = False,
    recovery_point: str | None = None,
    totals: Mapping[str, int] | None = None,
    on_progress: Progress | None = None,
) -> VectorManifest:
    """Take a backup and keep a row of it: running, then published or failed. `trigger` says who asked.

    A record that cannot be written is logged; the backup goes on, for it may be the last one possible.

    Raises:
        ReanimateError: as `take_backup`.
    """
    backup_id = new_backup_id(collection, utcnow())
    await _note(
        sessions,
        lambda session: record.started(
            session, backup_id, subject=collection, target=server.name, trigger=trigger, now=utcnow()
        ),
    )
    try:
        manifest = await take_backup(
            server,
            collection,
            catalog,
            options,
            partial=partial,
            totals=totals,
            backup_id=backup_id,
            recovery_point=recovery_point,
            on_progress=on_progress,
        )
    except BaseException as error:
        failure = error
        await _note(sessions, lambda session: record.failed(session, backup_id, failure, now=utcnow()))
        raise
    published = await asyncio.to_thread(catalog.find, backup_id, VectorManifest)
    await _note(sessions, lambda session: record.published(session, published, repository=repository, now=utcnow()))
    return manifest


async def _note(sessions: async_sessionmaker[AsyncSession], write: Callable[[AsyncSession], Awaitable[None]]) -> None:
    try:
        async with sessions() as session, session.begin():
            await write(session)
    except (SQLAlchemyError, OSError, NotFound) as error:
        log.warning("the record of a backup could not be written: %s", error)
