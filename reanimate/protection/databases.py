"""Backups and restores of Postgres databases as schedules and commands run them: locked, marked, on record."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.backups import record
from reanimate.backups.catalog import Published, new_backup_id
from reanimate.backups.repositories import Repository, named
from reanimate.backups.use import in_use
from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.config import RECORD_NAME
from reanimate.db.tables import Restore
from reanimate.dumps.backup import take_dump
from reanimate.dumps.databases import database_names, login_of
from reanimate.dumps.dump import Progress
from reanimate.dumps.live import look_at_live
from reanimate.dumps.login import Login
from reanimate.dumps.manifest import PostgresManifest
from reanimate.dumps.plan import DatabasePlan, plan_database_restore
from reanimate.dumps.programs import find_programs
from reanimate.dumps.proof import fetched
from reanimate.dumps.rename import Renamed, give_back, take_name
from reanimate.dumps.restore import Beside, restore_beside
from reanimate.errors import ConfigInvalid, NotFound
from reanimate.protection.locks import Purpose, database, exclusively

__all__ = [
    "back_up_database",
    "databases_to_back_up",
    "login_to",
    "plan_database",
    "restore_database",
    "switch_database",
    "undo_database",
]

log = logging.getLogger(__name__)


def databases_to_back_up(services: Services, named_: Sequence[str] = ()) -> list[str]:
    """Return the databases to back up by their names in the settings: those named, else all.

    Raises:
        ConfigInvalid: no database has such a name.
    """
    for name in named_:
        login_to(services, name)
    return list(dict.fromkeys(named_)) or database_names(services.settings)


def login_to(services: Services, name: str) -> Login:
    """Return how to reach a database by its name in the settings.

    Raises:
        ConfigInvalid: there is none of that name, or its URL is not usable.
    """
    return login_of(name, services.settings, services.addresses, services.secrets)


async def back_up_database(
    services: Services,
    name: str,
    *,
    trigger: str,
    recovery_point: str | None = None,
    on_progress: Progress | None = None,
) -> Published[PostgresManifest]:
    """Back up one database into the first repository, with its row in the record.

    A record that cannot be written is logged; the backup goes on, for it may be the last one possible.

    Raises:
        Busy: a restore of it is running, or wants to.
        ReanimateError: as `take_dump`.
    """
    login = login_to(services, name)
    backup_id = new_backup_id(name, utcnow())
    settings = services.settings
    async with exclusively(services.engine, settings.home, database(name), Purpose.BACKUP):
        await _note(
            services,
            lambda session: record.started(
                session, backup_id, subject=name, target=login.where, trigger=trigger, now=utcnow(), kind="postgres"
            ),
        )
        try:
            published = await take_dump(
                login,
                name,
                services.catalog,
                await find_programs(settings.database.pg_bin),
                backup_id=backup_id,
                recovery_point=recovery_point,
                hash_limit=settings.postgres.hash_limit_mb << 20,
                on_progress=on_progress,
            )
        except BaseException as error:
            failure = error
            await _note(services, lambda session: record.failed(session, backup_id, failure, now=utcnow()))
            raise
        repository = next(iter(services.repositories))
        await _note(services, lambda session: record.published(session, published, repository=repository, now=utcnow()))
    return published


async def plan_database(
    services: Services,
    name: str,
    login: Login,
    *,
    backup_id: str | None = None,
    at: datetime | None = None,
    newest_proven: bool = False,
    repository: str | None = None,
) -> tuple[DatabasePlan, PostgresManifest, Repository]:
    """Choose what to restore and say what a restore would do. Touches nothing. `login`: where it would go.

    Raises:
        NotFound: there is nothing to choose from, or no such repository.
        Refused: the backup asked for cannot be restored there.
        Unreachable: the server or the repository does not answer.
    """
    place = named(services.repositories, repository)
    published = await asyncio.to_thread(place.catalog.published, PostgresManifest)
    plan = plan_database_restore(
        published,
        await look_at_live(login),
        name=name,
        now=utcnow(),
        backup_id=backup_id,
        at=at,
        newest_proven=newest_proven,
        damaged=await asyncio.to_thread(place.catalog.damaged, PostgresManifest),
        is_record=name == RECORD_NAME,
        took_last_s=await _took_last(services, name),
    )
    manifest = next(one.manifest for one in published if one.manifest.id == plan.backup_id)
    return plan, manifest, place


async def restore_database(
    services: Services,
    plan: DatabasePlan,
    manifest: PostgresManifest,
    place: Repository,
    login: Login,
    *,
    make_roles: bool = False,
    on_progress: Progress | None = None,
) -> Beside:
    """Restore beside the live database and verify there; no name changes. Stages: download, restore, analyze, verify.

    Raises:
        ReanimateError: as `fetched` and `restore_beside`; the live database is untouched and the new one is gone.
    """
    began, failure, name = utcnow(), None, plan.new_name
    async with exclusively(services.engine, services.settings.home, database(plan.name), Purpose.RESTORE):
        try:
            async with (
                in_use(place.catalog, manifest, f"restore of database {plan.name}"),
                fetched(place.catalog, manifest, on_progress) as dump,
            ):
                beside = await restore_beside(
                    login,
                    dump,
                    await find_programs(services.settings.database.pg_bin),
                    plan.made_at,
                    make_roles=make_roles,
                    on_progress=on_progress,
                )
            name = beside.name
            return beside
        except BaseException as error:
            failure = str(error) or type(error).__name__
            raise
        finally:
            ended = utcnow()
            row = Restore(
                kind="postgres",
                subject=plan.name,
                repository=place.name,
                backup_id=manifest.id,
                target=login.where,
                new_name=name,
                state="failed" if failure else "done",
                started_at=began,
                ended_at=ended,
                took_s=(ended - began).total_seconds(),
                size_bytes=manifest.size_bytes,
                error=failure,
            )
            await _note(services, lambda session: _add(session, row))


async def switch_database(
    services: Services,
    name: str,
    login: Login,
    restored: str,
    *,
    now: datetime | None = None,
    end_sessions: bool = False,
) -> Renamed:
    """Let a restored database take the live one's name. `now` is in the name of the one that is kept.

    Raises:
        ReanimateError: as `take_name`; nothing was changed then.
    """
    async with _to_rename(services, name):
        return await take_name(login, restored, now or utcnow(), end_sessions=end_sessions)


async def undo_database(services: Services, name: str, login: Login, *, end_sessions: bool = False) -> Renamed:
    """Give the name back to the database that had it before the last switch.

    Raises:
        ReanimateError: as `give_back`; nothing was changed then.
    """
    async with _to_rename(services, name):
        return await give_back(login, utcnow(), end_sessions=end_sessions)


@asynccontextmanager
async def _to_rename(services: Services, name: str) -> AsyncIterator[None]:
    """Have a database to oneself while names change; a backup that is running gives way.

    Of our own record only our sessions are closed: a lock in it would be one more, and in the way.
    """
    if name == RECORD_NAME:
        await services.engine.dispose()
        yield
        return
    async with exclusively(services.engine, services.settings.home, database(name), Purpose.RESTORE):
        yield


async def _took_last(services: Services, name: str) -> float | None:
    newest = (
        select(Restore.took_s)
        .where(Restore.kind == "postgres", Restore.subject == name, Restore.state == "done")
        .order_by(Restore.started_at.desc())
        .limit(1)
    )
    try:
        async with services.sessions() as session:
            return await session.scalar(newest)
    except (SQLAlchemyError, OSError) as error:
        log.warning("how long the last restore took is not known, the record is away: %s", error)
        return None


async def _add(session: AsyncSession, row: Restore) -> None:
    session.add(row)


async def _note(services: Services, write: Callable[[AsyncSession], Awaitable[None]]) -> None:
    try:
        async with services.sessions() as session, session.begin():
            await write(session)
    except (SQLAlchemyError, OSError, NotFound, ConfigInvalid) as error:
        log.warning("the record of a backup or restore of a database could not be written: %s", error)
