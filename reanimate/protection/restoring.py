"""A restore as commands run it: alone, on record, with what the agent wrote meanwhile counted and, on request, kept."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.backups.manifest import VectorManifest
from reanimate.backups.use import in_use
from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.errors import Damaged, NotFound, ReanimateError, Refused
from reanimate.protection.backups import restoring
from reanimate.protection.restore_plans import Planned, plan_for
from reanimate.restores import record
from reanimate.restores.aliases import AliasSwitch
from reanimate.restores.carrying import Carried, Carry, carry_over
from reanimate.restores.restore import Progress, Restored, RestoreOptions, restore_and_switch
from reanimate.restores.switched import SwitchNote, keep_switch
from reanimate.switches.gateways import acknowledged_writes
from reanimate.vector.server import VectorServer

__all__ = ["Done", "run_restore", "write_down"]

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Done:
    """A restore that is live, and what it leaves behind."""

    planned: Planned
    restored: Restored
    took_s: float
    old: tuple[str, ...]
    """Collections that were live before."""
    keep_until: datetime
    report: dict[str, Any]
    """writes_since and writes_during, by name, None when not known; carried and carried_late, None when not asked;
    totals, the writes acknowledged by the name they were sent to, at the end."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "plan": self.planned.plan.to_json(),
            "name": self.restored.name,
            "verification": self.restored.verification.to_json(),
            "switch": self.restored.switch.to_json(),
            "took_s": self.took_s,
            "old": list(self.old),
            "keep_until": self.keep_until.isoformat(),
            **{name: value for name, value in self.report.items() if name != "totals"},
        }


async def run_restore(
    services: Services,
    planned: Planned,
    *,
    trigger: str,
    carry: Carry | None = None,
    on_progress: Progress | None = None,
) -> Done:
    """Do what was planned: restore beside the live collection, verify, switch; the old one is kept.

    A copy that turns out damaged is passed over for another repository's copy of the same backup. Where the record is
    away it goes on without it: a restore may be the last hope. With `carry`, points that the live collection has more
    are written into the restored one before the switch, and what came in between right after it.

    Raises:
        Busy: a restore of the same collection goes on, or a backup that does not give way.
        ReanimateError: as `restore_and_switch`; then the aliases are as they were, and the new collection is gone.
    """
    async with restoring(services, planned.plan.target, planned.manifest.collection):
        while True:
            try:
                return await _attempt(services, planned, trigger, carry, on_progress)
            except (Damaged, NotFound) as error:
                planned = await _elsewhere(services, planned, error)


async def _elsewhere(services: Services, planned: Planned, error: ReanimateError) -> Planned:
    """Plan the same backup from another repository; without one, the error stands."""
    plan = planned.plan
    tried = {**(planned.wish.passed_over or {}), (plan.repository, plan.backup_id): str(error.args[0])}
    wish = replace(planned.wish, backup_id=plan.backup_id, passed_over=tried)
    try:
        again = await plan_for(services, wish, target=plan.target, repository=planned.only)
    except (NotFound, Refused):
        better = "; ".join(f"{one.id} ({one.repository})" for one in plan.others[:3] if one.points is not None)
        hint = f"live data is untouched; other backups: {better} (--backup ID)" if better else error.hint
        raise type(error)(error.args[0], hint=hint) from error
    log.warning(
        "%s from %s cannot be used, %s has it too: %s", plan.backup_id, plan.repository, again.plan.repository, error
    )
    return again


async def _attempt(
    services: Services, planned: Planned, trigger: str, carry: Carry | None, on_progress: Progress | None
) -> Done:
    plan, manifest = planned.plan, planned.manifest
    server, catalog = services.vector(plan.target), planned.repository.catalog
    began, started_at = time.monotonic(), utcnow()
    row = await write_down(
        services,
        lambda session: record.started(
            session,
            manifest,
            repository=planned.repository.name,
            target=plan.target,
            new_name=plan.new_name,
            trigger=trigger,
            now=started_at,
        ),
    )
    walk = _Walk(server, manifest, plan.new_name, carry, on_progress)
    before = await acknowledged_writes(services)

    async def keep(switch: AliasSwitch) -> None:
        note = SwitchNote(
            plan.collection, plan.target, plan.new_name, plan.backup_id, utcnow().isoformat(), switch.to_json()
        )
        await asyncio.to_thread(keep_switch, services.settings.home, note)
        if row is not None:
            await write_down(services, lambda session: record.switching(session, row, switch))

    try:
        async with in_use(catalog, manifest, f"a restore to {plan.target} as {plan.new_name}"):
            restored = await restore_and_switch(
                server,
                catalog,
                manifest,
                plan.new_name,
                on_progress,
                options=RestoreOptions(deep_up_to=services.settings.restores.deep_up_to),
                keep=keep,
                before_switch=walk.first if carry else None,
            )
    except BaseException as error:
        failure = error
        if row is not None:
            await write_down(services, lambda session: record.failed(session, row, failure, now=utcnow()))
        raise
    took_s = round(time.monotonic() - began - walk.took_s, 2)
    if carry:
        await walk.second()
    totals = await acknowledged_writes(services)
    report = {
        "writes_since": plan.writes.by_name if plan.writes else None,
        "writes_during": _more(before, totals, manifest, restored.switch),
        "totals": totals,
        "carried": walk.found and walk.found.to_json(),
        "carried_late": walk.late and walk.late.to_json(),
    }
    keep_until = utcnow() + timedelta(hours=services.settings.restores.keep_old_h)
    if row is not None:
        await write_down(
            services,
            lambda session: record.finished(
                session, row, took_s=took_s, keep_until=keep_until, report=report, now=utcnow()
            ),
        )
    old = tuple(sorted({*restored.switch.before.values()} - {restored.name}))
    return Done(planned, restored, took_s, old, keep_until, report)


class _Walk:
    """Carries over what the live collection has more: all of it before the switch, the rest after it."""

    def __init__(
        self, server: VectorServer, manifest: VectorManifest, new: str, carry: Carry | None, progress: Progress | None
    ) -> None:
        self._server, self._manifest, self._new = server, manifest, new
        self._carry = carry or Carry()
        self._progress = progress
        self._seen: set[int | str] = set()
        self._old: str | None = None
        self.found: Carried | None = None
        self.late: Carried | None = None
        self.took_s = 0.0

    async def first(self) -> None:
        """Walk through both while nobody uses the new one."""
        began = time.monotonic()
        aliases = await self._server.aliases()
        live = [aliases[alias] for alias in self._manifest.aliases if alias in aliases] or [self._manifest.collection]
        if live[0] not in await self._server.collections():
            self.found = Carried()  # it was deleted: there is nothing to carry over
            return
        self._old = live[0]
        self.found = await self._look(late=False)
        self.took_s = time.monotonic() - began

    async def second(self) -> None:
        """Take what was written into the old one while the first walk was on its way."""
        if self._old is not None:
            self.late = await self._look(late=True)

    async def _look(self, *, late: bool) -> Carried:
        assert self._old is not None  # both callers have looked
        total = max([await self._server.count(name) for name in (self._old, self._new)])
        stage = "carry late" if late else "carry"

        def report(done: int) -> None:
            if self._progress:
                self._progress(stage, done, max(done, total))

        return await carry_over(
            self._server, self._old, self._new, self._carry, seen=self._seen, late=late, on_progress=report
        )


def _more(
    before: dict[str, int] | None, after: dict[str, int] | None, manifest: VectorManifest, switch: AliasSwitch
) -> dict[str, int] | None:
    """Return the writes that were acknowledged in between, by name; None when not every gateway said."""
    if before is None or after is None:
        return None
    names = {manifest.collection, *manifest.aliases, *switch.before.values()}
    found = {name: after.get(name, 0) - before.get(name, 0) for name in sorted(names)}
    return {name: count for name, count in found.items() if count > 0}


async def write_down(services: Services, write: Callable[[AsyncSession], Awaitable[T]]) -> T | None:
    """Write into the record; None while it is away, which is logged."""
    try:
        async with services.sessions() as session, session.begin():
            return await write(session)
    except (SQLAlchemyError, OSError) as error:
        log.warning("a restore could not be recorded: %s", str(error).partition("\n")[0])
        return None
