"""Take a recovery point: vectors, rows and configuration at nearly one moment, each a backup like any other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from reanimate import __version__
from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import Kind, Manifest, VectorManifest
from reanimate.backups.recovery_points import (
    DamagedPoint,
    Member,
    Missing,
    PointState,
    RecoveryPoint,
    list_points,
    member_of,
    new_point_id,
    publish_point,
    read_point,
    state_of,
)
from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.config_history.versions import ConfigManifest
from reanimate.dumps.manifest import PostgresManifest
from reanimate.errors import InputInvalid, NotFound, ReanimateError, ServerFailed
from reanimate.protection.backups import back_up, names_to_back_up
from reanimate.protection.configuration import history_of
from reanimate.protection.databases import back_up_database, databases_to_back_up

__all__ = ["Wanted", "group", "group_backups", "point_state", "point_states", "take_point", "wanted_of"]

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]

POSTGRES = "postgres:"
CONFIG = "config"


@dataclass(frozen=True)
class Wanted:
    """What a point is to be made of."""

    collections: tuple[str, ...]
    databases: tuple[str, ...]
    config: bool

    @property
    def empty(self) -> bool:
        return not (self.collections or self.databases or self.config)


async def wanted_of(
    services: Services, names: Sequence[str] = (), *, everything: bool = False, target: str = "primary"
) -> Wanted:
    """Return what is meant: collections by name or glob, databases as `postgres:name`, and `config`.

    Without names: the collections of the settings (with `everything`, or if none are named there, all), every database
    and the configuration.

    Raises:
        InputInvalid: nothing is left.
        NotFound, ConfigInvalid: a name means nothing.
        Unreachable, ServerFailed: the target does not answer.
    """
    databases = [name.removeprefix(POSTGRES) for name in names if name.startswith(POSTGRES)]
    collections = [name for name in names if not name.startswith(POSTGRES) and name != CONFIG]
    if names:
        found = await names_to_back_up(services, target, named=collections) if collections else []
        wanted = Wanted(
            tuple(found), tuple(databases_to_back_up(services, databases) if databases else ()), CONFIG in names
        )
    else:
        found = await names_to_back_up(services, target, everything=everything)
        settings = services.settings.configuration
        wanted = Wanted(tuple(found), tuple(databases_to_back_up(services)), bool(settings.files or settings.qdrant))
    if wanted.empty:
        raise InputInvalid("there is nothing to take a recovery point of", hint="name collections, files or databases")
    return wanted


async def take_point(
    services: Services,
    wanted: Wanted,
    *,
    target: str,
    trigger: str,
    partial: bool = False,
    on_progress: Progress | None = None,
) -> RecoveryPoint:
    """Take everything, `backups.parallel` at once, and publish the point that groups it, which comes last.

    What fails is named in the point, which is incomplete then; the rest is none the worse for it.

    Raises:
        ServerFailed: nothing at all could be taken; there is no point.
        Unreachable: the store could not be written; what was taken stands by itself.
    """
    began = utcnow()
    point_id = new_point_id(began)
    limit = asyncio.Semaphore(services.settings.backups.parallel)

    def report(label: str) -> Progress | None:
        return (lambda stage, done, total: on_progress(f"{label} {stage}", done, total)) if on_progress else None

    async def collection(name: str) -> Member:
        async with limit:
            manifest = await back_up(
                services,
                name,
                target=target,
                trigger=trigger,
                partial=partial,
                recovery_point=point_id,
                on_progress=report(name),
            )
        return member_of(await asyncio.to_thread(services.catalog.find, manifest.id, VectorManifest))

    async def database(name: str) -> Member:
        async with limit:
            return member_of(
                await back_up_database(
                    services, name, trigger=trigger, recovery_point=point_id, on_progress=report(name)
                )
            )

    jobs = [_attempt("config", _set_name(services), _configuration(services))] if wanted.config else []
    jobs += [_attempt("postgres", name, database(name)) for name in wanted.databases]
    jobs += [_attempt("vector", name, collection(name)) for name in wanted.collections]
    return await group(services.catalog, point_id, await asyncio.gather(*jobs))


async def group(catalog: Catalog, point_id: str, taken: Sequence[Member | Missing]) -> RecoveryPoint:
    """Publish a point over what was taken for it.

    Raises:
        ServerFailed: nothing was.
        Unreachable, Refused: the store could not be written.
    """
    point = RecoveryPoint(
        id=point_id,
        began_at=utcnow(),
        tool_version=__version__,
        members=tuple(one for one in taken if isinstance(one, Member)),
        missing=tuple(one for one in taken if isinstance(one, Missing)),
    )
    if not point.members:
        story = "; ".join(f"{one.label}: {one.reason}" for one in point.missing)
        raise ServerFailed(f"nothing of the recovery point could be taken: {story}")
    point = point.model_copy(update={"began_at": point.earliest})
    await publish_point(catalog, point)
    return point


async def group_backups(
    services: Services,
    point_id: str,
    *,
    collections: Mapping[str, str],
    databases: Mapping[str, str],
    config: tuple[str, datetime] | None,
    failed: Mapping[tuple[Kind, str], str],
) -> RecoveryPoint:
    """Publish a point over backups that were taken for it one by one: name → id, and why what failed is not in it.

    `config` is the manifest that was true, and when it was seen to be. Safe to repeat.

    Raises:
        NotFound, Damaged: one of the backups is not there, or cannot be used.
        ServerFailed: there are none.
        Unreachable: the store could not be read or written.
    """
    catalog = services.catalog
    with suppress(NotFound):
        return await asyncio.to_thread(read_point, catalog, point_id)
    taken: list[Member | Missing] = []
    if config is not None:
        manifest_id, seen_at = config
        found = await asyncio.to_thread(catalog.find, manifest_id, ConfigManifest)
        taken.append(member_of(found, seen_at=seen_at))
    taken += [member_of(await asyncio.to_thread(catalog.find, id_, PostgresManifest)) for id_ in databases.values()]
    taken += [member_of(await asyncio.to_thread(catalog.find, id_, VectorManifest)) for id_ in collections.values()]
    taken += [Missing(kind=kind, subject=subject, reason=reason) for (kind, subject), reason in failed.items()]
    return await group(catalog, point_id, taken)


async def point_states(catalog: Catalog) -> tuple[list[PointState], list[DamagedPoint]]:
    """Return every point with what its members are worth now, newest first, and those that cannot be used.

    Raises:
        Unreachable: the store could not be read.
    """
    points, damaged = await asyncio.to_thread(list_points, catalog)
    published = await asyncio.to_thread(catalog.published, Manifest)
    return [state_of(point, published) for point in points], damaged


async def point_state(catalog: Catalog, point_id: str) -> PointState:
    """Return one point with what its members are worth now.

    Raises:
        NotFound, Damaged, Unreachable: as `read_point`.
    """
    point = await asyncio.to_thread(read_point, catalog, point_id)
    return state_of(point, await asyncio.to_thread(catalog.published, Manifest))


async def _configuration(services: Services) -> Member:
    kept = await history_of(services).keep()
    if kept.manifest is None:
        raise NotFound("no file or setting that is named was found")
    one = await asyncio.to_thread(services.catalog.find, kept.manifest.id, ConfigManifest)
    return member_of(one, seen_at=kept.at)


async def _attempt(kind: Kind, subject: str, work: Awaitable[Member]) -> Member | Missing:
    try:
        return await work
    except (ReanimateError, SQLAlchemyError, OSError) as error:
        log.warning("the recovery point goes without %s %s: %s", kind, subject, error)
        return Missing(kind=kind, subject=subject, reason=str(error) or type(error).__name__)


def _set_name(services: Services) -> str:
    return services.settings.configuration.name or services.settings.agent.name
