"""Clearing up after restores: what killed ones left, and what was live before, once nobody needs it."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.backups.manifest import base_name
from reanimate.bootstrap import Services
from reanimate.db.tables import Incident, Restore
from reanimate.errors import Busy, NotFound, Unreachable
from reanimate.incidents.lifecycle import OPEN_STATES
from reanimate.protection.locks import Purpose, collection, exclusively
from reanimate.restores import record
from reanimate.restores.leftovers import Fate, Known, Leftover, Old, judge_leftovers, judge_old
from reanimate.switches.gateways import acknowledged_writes
from reanimate.vector.server import VectorServer

__all__ = ["clear_leftovers", "forget_old", "leftovers", "restored_targets"]


async def leftovers(services: Services, target: str) -> list[Leftover]:
    """Return the collections on a target that restores have begun and nobody uses.

    Raises:
        Unreachable, ServerFailed: the record, without which nobody knows, or the target does not answer.
    """
    server = services.vector(target)
    names, aliases = await server.collections(), await server.aliases()
    return judge_leftovers(names, aliases, await _known(services, target))


async def clear_leftovers(
    services: Services, target: str, *, named: Collection[str] = (), dry_run: bool = False
) -> list[Leftover]:
    """Remove what killed and failed restores have left, and of what nobody knows, the `named`; return what went.

    Raises:
        NotFound: one of the named is no leftover.
        Busy: a restore of the same collection has just begun.
        Unreachable, ServerFailed: the target did not answer, or did not do it; done again, the rest goes.
    """
    found = await leftovers(services, target)
    if strange := sorted({*named} - {one.name for one in found}):
        raise NotFound(
            f"{', '.join(strange)} on {target} is not what a restore has left: it is live, kept, or not there",
            hint="`reanimate restore sweep --dry-run` shows what there is",
        )
    going = [one for one in found if one.removable or one.name in named]
    if dry_run:
        return going
    server = services.vector(target)
    for one in going:
        await _remove(services, server, one.name)
        async with services.sessions.begin() as session:
            await session.execute(
                update(Restore)
                .where(Restore.target == target, Restore.new_name == one.name, Restore.state == "running")
                .values(state="failed", error="it was cut off; what it left was removed")
            )
    return going


async def restored_targets(services: Services) -> list[str]:
    """Return the vector targets on which a restore has left what was live before.

    Raises:
        SQLAlchemyError: the record is away.
    """
    waiting = select(Restore.target).where(
        Restore.kind == "vector", Restore.switch.is_not(None), Restore.removed_at.is_(None)
    )
    async with services.sessions() as session:
        found = {*await session.scalars(waiting)}
    return [target.name for target in services.settings.vector.targets if target.name in found]


async def forget_old(
    services: Services, target: str, *, now: datetime, dry_run: bool = False, at_once: bool = False
) -> list[Old]:
    """Remove what was live before restores, in two steps: announced at one look, gone at a later one.

    Raises:
        Unreachable, ServerFailed: the record or the target did not answer; done again, the rest goes.
    """
    server = services.vector(target)
    names, aliases = await server.collections(), await server.aliases()
    found = judge_old(
        names,
        aliases,
        await _known(services, target),
        backed_up=await asyncio.to_thread(_backed_up, services),
        totals=await acknowledged_writes(services),
        keep=timedelta(hours=services.settings.restores.keep_old_h),
        now=now,
        at_once=at_once,
    )
    if dry_run:
        return found
    done = []
    for old in found:
        done.append(await _forget(services, server, old, now))
    return done


async def _forget(services: Services, server: VectorServer, old: Old, now: datetime) -> Old:
    if old.fate is Fate.ANNOUNCED:
        async with services.sessions.begin() as session:
            await session.execute(update(Restore).where(Restore.id == old.row_id).values(doomed_at=now))
    if old.fate is Fate.REMOVED:
        try:
            await _remove(services, server, old.name)
        except Busy as error:
            return replace(old, fate=Fate.KEPT, why=str(error))
        async with services.sessions.begin() as session:
            await session.execute(update(Restore).where(Restore.id == old.row_id).values(removed_at=now))
    return old


async def _remove(services: Services, server: VectorServer, name: str) -> None:
    """Delete a collection that nothing points at, while nobody works on it, and see that it is gone.

    Raises:
        Busy: somebody does, or an alias points at it now.
    """
    thing = collection(server.name, name)
    async with exclusively(services.engine, services.settings.home, thing, Purpose.BACKUP, within_s=2.0):
        if name in (await server.aliases()).values():
            raise Busy(f"{name} on {server.name} is live now: an alias points at it")
        await server.delete_collection(name)


async def _known(services: Services, target: str) -> list[Known]:
    """Return every restore to a target that the record knows.

    Raises:
        Unreachable: the record is away.
    """
    try:
        async with services.sessions() as session:
            rows = await record.rows_of(session, target)
            running = [row for row in rows if row.state == "running"]
            open_incidents = await _open(session, running)
    except (SQLAlchemyError, OSError) as error:
        why = str(error).partition("\n")[0]
        raise Unreachable(
            f"looking up the restores to {target}: the record does not answer: {why}",
            hint="without it nobody knows what is whose; `reanimate up` starts it",
        ) from error
    held = {row.id for row in running if await _is_held(services, target, row.new_name)}
    return [_as_known(row, row.id in held or row.trigger in open_incidents) for row in rows]


def _as_known(row: Restore, owner_lives: bool) -> Known:
    switch = row.switch or {}
    return Known(
        row.id,
        row.subject,
        row.new_name,
        row.state,
        row.started_at,
        owner_lives,
        switch.get("before"),
        switch.get("after"),
        row.keep_until,
        row.doomed_at,
        row.removed_at,
        (row.report or {}).get("totals"),
    )


async def _open(session: AsyncSession, running: Sequence[Restore]) -> set[str]:
    """Return the triggers, `incident:ID`, of those whose incident is not over: its next step may need them."""
    ids = [row.trigger.removeprefix("incident:") for row in running if row.trigger.startswith("incident:")]
    if not ids:
        return set()
    found = await session.scalars(select(Incident.id).where(Incident.id.in_(ids), Incident.state.in_(OPEN_STATES)))
    return {f"incident:{incident_id}" for incident_id in found}


async def _is_held(services: Services, target: str, name: str) -> bool:
    """Say whether somebody works on this collection now, on whatever machine. Nobody gives way to the question."""
    try:
        thing = collection(target, name)
        async with exclusively(services.engine, services.settings.home, thing, Purpose.BACKUP, within_s=0.0):
            return False
    except Busy:
        return True


def _backed_up(services: Services) -> set[str]:
    """Return the collections of which some repository has a backup with points that can be used."""
    return {
        base_name(manifest.collection)
        for repository in services.repositories.values()
        for manifest in repository.catalog.list()
        if manifest.exact_count
    }
