"""Copies of backups in other repositories, as schedules and commands make them: several at once, bases first."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reanimate.backups.copying import Copied, copy_backup, sweep_copies, to_copy
from reanimate.backups.manifest import Manifest
from reanimate.backups.published import Published
from reanimate.backups.recovery_points import carry_points
from reanimate.backups.repositories import Repository, named
from reanimate.clock import utcnow
from reanimate.errors import InputInvalid, ReanimateError

__all__ = ["Copies", "copy_backups", "due_for_copying"]

Progress = Callable[[str, int, int], None]
"""Called with the id of the backup, the bytes done and the bytes in all."""


@dataclass(frozen=True)
class Copies:
    """What came of copying."""

    copied: tuple[Copied, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    """Why, by id."""


def due_for_copying(source: Repository, to: Repository, now: datetime) -> list[str]:
    """Return the full backups that the other repository should have and may lack: those that its rule would keep.

    An older one may have been there and been deleted by that rule; it is not brought again each night. Versions of
    configuration are never deleted by it.

    Raises:
        Unreachable: the repository could not be read.
    """
    since = now - timedelta(days=to.settings.retention.days)
    found = [one for one in source.catalog.published(Manifest) if not one.deleted and one.manifest.base is None]
    return [one.manifest.id for one in found if one.manifest.taken_at > since or one.manifest.kind == "config"]


async def copy_backups(
    repositories: Mapping[str, Repository],
    backup_ids: Collection[str] | None = None,
    *,
    to: str,
    source: str | None = None,
    parallel: int = 2,
    on_progress: Progress | None = None,
) -> Copies:
    """Copy backups (None: all that the other repository lacks) with what they build on. One that fails stops no other.

    Recovery points come along once all of their members are there.

    Raises:
        NotFound: no repository or no backup has that name.
        InputInvalid: both repositories are the same.
        Damaged, Refused: a backup that is named cannot be copied.
        Unreachable: a repository could not be read.
    """
    origin, goal = named(repositories, source), named(repositories, to)
    if origin.name == goal.name:
        raise InputInvalid(f"copying from {origin.name} to itself", hint="name another repository with --from or --to")
    wanted = await asyncio.to_thread(to_copy, origin.catalog, goal.catalog, backup_ids)
    await sweep_copies(goal.catalog, utcnow(), keep=[one.manifest.id for one in wanted])
    slots = asyncio.Semaphore(parallel)
    running: dict[str, asyncio.Task[Copied]] = {}

    async def copy(one: Published[Manifest]) -> Copied:
        if base := running.get(one.manifest.base or ""):
            await base
        async with slots:
            return await copy_backup(
                origin.catalog,
                goal.catalog,
                one,
                (lambda done, total: on_progress(one.manifest.id, done, total)) if on_progress else None,
            )

    try:
        for one in wanted:
            running[one.manifest.id] = asyncio.create_task(copy(one))
        await asyncio.gather(*running.values(), return_exceptions=True)
    except asyncio.CancelledError:
        for task in running.values():
            task.cancel()
        await asyncio.gather(*running.values(), return_exceptions=True)
        raise
    await carry_points(origin.catalog, goal.catalog)
    return _outcome(running)


def _outcome(tasks: Mapping[str, "asyncio.Task[Copied]"]) -> Copies:
    failed = {}
    for backup_id, task in tasks.items():
        error = task.exception()
        if error is not None and not isinstance(error, ReanimateError):
            raise error
        if error is not None:
            failed[backup_id] = str(error)
    return Copies(tuple(task.result() for name, task in tasks.items() if name not in failed), failed)
