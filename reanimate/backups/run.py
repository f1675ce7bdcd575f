"""A backup as schedules and commands take it: with its row in the record, which must not be what it fails over."""

import logging
from collections.abc import Awaitable, Callable, Mapping

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from reanimate.backups import record
from reanimate.backups.backup import BackupOptions, Progress, take_backup
from reanimate.backups.catalog import Catalog, new_backup_id
from reanimate.backups.manifest import Manifest
from reanimate.clock import utcnow
from reanimate.errors import NotFound
from reanimate.vector.server import VectorServer

__all__ = ["take_recorded_backup"]

log = logging.getLogger(__name__)


async def take_recorded_backup(
    server: VectorServer,
    collection: str,
    catalog: Catalog,
    sessions: async_sessionmaker[AsyncSession],
    options: BackupOptions | None = None,
    *,
    trigger: str,
    totals: Mapping[str, int] | None = None,
    on_progress: Progress | None = None,
) -> Manifest:
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
            server, collection, catalog, options, totals=totals, backup_id=backup_id, on_progress=on_progress
        )
    except BaseException as error:
        failure = error
        await _note(sessions, lambda session: record.failed(session, backup_id, failure, now=utcnow()))
        raise
    await _note(sessions, lambda session: record.published(session, manifest, now=utcnow()))
    return manifest


async def _note(sessions: async_sessionmaker[AsyncSession], write: Callable[[AsyncSession], Awaitable[None]]) -> None:
    try:
        async with sessions() as session, session.begin():
            await write(session)
    except (SQLAlchemyError, OSError, NotFound) as error:
        log.warning("the record of a backup could not be written: %s", error)
