"""Restore a recovery point as one: every member beside and verified first, then all put live together, or none.

Databases are renamed first, since only they can be refused for who is connected; then aliases, then files. A failure,
or a kill that a later call finds, puts back what was live already.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from reanimate.backups.repositories import named
from reanimate.backups.use import in_use
from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.config_history.whole import PreparedFiles, note_restored, prepare_files
from reanimate.dumps.rename import take_name
from reanimate.errors import ReanimateError
from reanimate.protection.databases import restore_database
from reanimate.protection.locks import Purpose, collection, exclusively
from reanimate.protection.point_journal import (
    CollectionStep,
    DatabaseStep,
    Journal,
    Stage,
    alone,
    last_done,
)
from reanimate.protection.point_plans import CollectionMember, DatabaseMember, PointPlan, plan_point
from reanimate.protection.point_undoing import abandon, note_of, put_back, settle
from reanimate.protection.restoring import write_down
from reanimate.restores import record
from reanimate.restores.aliases import AliasSwitch, plan_switch, switch_aliases
from reanimate.restores.restore import restore
from reanimate.restores.switched import keep_switch
from reanimate.restores.verification import verify

__all__ = ["PointRestored", "restore_point", "undo_point"]

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PointRestored:
    """What was restored and is live."""

    plan: PointPlan
    journal: Journal
    checks: int
    """How many were held against the manifests, and passed."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"plan": self.plan.to_json(), "restored": self.journal.model_dump(mode="json"), "checks": self.checks}


async def restore_point(
    services: Services,
    point_id: str,
    *,
    repository: str | None = None,
    end_sessions: bool = False,
    on_plan: Callable[[PointPlan], None] | None = None,
    on_progress: Progress | None = None,
) -> PointRestored:
    """Restore a point. Safe to call again after a kill: what that left half live is put back first.

    Raises:
        Refused: a member cannot be restored, or sessions are connected to a database; nothing is live.
        Busy: another restore of a point, or of one of its members, is running.
        VerificationFailed: what was restored is not what was backed up; nothing is live.
        ReanimateError: a server or the store failed; nothing is live, or the message says what could not be put back.
    """
    home = services.settings.home
    with alone(home):
        await settle(services)
        plan = await plan_point(services, point_id, repository=repository)
        plan.require()
        if on_plan:
            on_plan(plan)
        return await _Restore(services, plan, repository, end_sessions, on_progress or _silent).run()


async def undo_point(services: Services, point_id: str, *, end_sessions: bool = False) -> Journal:
    """Put back everything that the last restore of a point replaced. What it restored is kept beside.

    Raises:
        NotFound: no restore of it from this machine is live.
        Refused: sessions are connected to a database, or a later restore is in the way; the message says what is back.
        ReanimateError: a server failed; call it again.
    """
    home = services.settings.home
    with alone(home):
        settled = await settle(services)
        if cut := next((each for each in settled if each.point == point_id), None):
            return cut  # what is asked for has just been done
        journal = last_done(home, point_id)
        await put_back(services, journal, end_sessions=end_sessions)
        journal.save(home, Stage.UNDONE)
        return journal


class _Restore:
    """One restore of one point."""

    def __init__(
        self, services: Services, plan: PointPlan, repository: str | None, end_sessions: bool, progress: Progress
    ) -> None:
        self.services = services
        self.plan = plan
        self.place = named(services.repositories, repository)
        self.end_sessions = end_sessions
        self.progress = progress
        self.home = services.settings.home
        self.prepared: list[tuple[PreparedFiles, Any]] = []
        self.checks = 0
        self.journal = Journal(
            point=plan.id,
            began_at=utcnow(),
            collections=[
                CollectionStep(
                    collection=each.plan.collection,
                    target=each.plan.target,
                    backup_id=each.plan.backup_id,
                    new_name=each.plan.new_name,
                )
                for each in plan.collections
            ],
            databases=[
                DatabaseStep(
                    name=each.plan.name,
                    backup_id=each.plan.backup_id,
                    new_name=each.plan.new_name,
                    existed=each.plan.kept_name is not None,
                )
                for each in plan.databases
            ],
            paths=[step.version.subject for files in plan.files for step in files.plan.plans],
        )

    async def run(self) -> PointRestored:
        self.journal.save(self.home, Stage.BESIDE)
        async with AsyncExitStack() as stack:
            for each in self.plan.collections:
                thing = collection(each.plan.target, each.plan.collection)
                await stack.enter_async_context(exclusively(self.services.engine, self.home, thing, Purpose.RESTORE))
            try:
                await self._make_ready()
                await self._plan_switches()
                self.journal.save(self.home, Stage.SWITCHING)
                await self._switch()
            except BaseException as error:
                await self._give_up(error)
                raise
        self.journal.save(self.home, Stage.DONE)
        for step in self.journal.collections:
            keep_switch(self.home, note_of(step))
            await self._on_record(step)
        for files, history in self.prepared:
            # The versions say who restored them; that this cannot be said is no reason to undo.
            with suppress(ReanimateError):
                await note_restored(history, files.before, f"restored recovery point {self.plan.id}")
        return PointRestored(self.plan, self.journal, self.checks)

    async def _on_record(self, step: CollectionStep) -> None:
        """Note that a collection is live, how long it took, and until when what was live before is kept."""
        if (row := step.row) is None:
            return
        now = utcnow()
        took_s = round((now - self.journal.began_at).total_seconds(), 2)
        keep_until = now + timedelta(hours=self.services.settings.restores.keep_old_h)
        await write_down(
            self.services, partial(record.finished, row_id=row, took_s=took_s, keep_until=keep_until, now=now)
        )

    # -- everything beside -----------------------------------------------------------------------------------------

    async def _make_ready(self) -> None:
        limit = asyncio.Semaphore(self.services.settings.backups.parallel)

        async def bounded(work: Callable[[], Awaitable[None]]) -> None:
            async with limit:
                await work()

        databases = dict(zip((step.name for step in self.journal.databases), self.journal.databases, strict=True))
        try:
            async with asyncio.TaskGroup() as group:
                for each, made in zip(self.plan.collections, self.journal.collections, strict=True):
                    group.create_task(bounded(partial(self._collection, each, made)))
                for database in self.plan.databases:
                    step = databases[database.plan.name]
                    group.create_task(bounded(partial(self._database, database, step)))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        for files in self.plan.files:
            self.prepared.append((await prepare_files(files.history, files.source, files.plan), files.history))

    async def _collection(self, each: CollectionMember, step: CollectionStep) -> None:
        server, name, catalog = self.services.vector(step.target), step.new_name, self.place.catalog
        step.row = await write_down(
            self.services,
            lambda session: record.started(
                session,
                each.manifest,
                repository=self.place.name,
                target=step.target,
                new_name=name,
                trigger="recovery point",
                now=utcnow(),
            ),
        )
        async with in_use(catalog, each.manifest, f"restore of recovery point {self.plan.id}"):
            await restore(server, catalog, each.manifest, name, self._report(step.collection))
            deep_up_to = self.services.settings.restores.deep_up_to
            verification = await verify(server, name, each.manifest, deep_up_to=deep_up_to)
        verification.require(server.name)
        self.checks += len(verification.checks)

    async def _database(self, each: DatabaseMember, step: DatabaseStep) -> None:
        beside = await restore_database(
            self.services,
            each.plan,
            each.manifest,
            each.place,
            each.login,
            on_progress=self._report(each.plan.name),
        )
        step.restored = beside.name
        self.journal.save(self.home)
        self.checks += len(beside.verification.checks)

    def _report(self, label: str) -> Progress:
        return lambda stage, done, total: self.progress(f"{label} {stage}", done, total)

    # -- all of it live --------------------------------------------------------------------------------------------

    async def _plan_switches(self) -> None:
        for each, step in zip(self.plan.collections, self.journal.collections, strict=True):
            switch = await plan_switch(self.services.vector(step.target), each.manifest, step.new_name)
            step.switch = switch.to_json()
            if (row := step.row) is not None:
                await write_down(self.services, partial(record.switching, row_id=row, switch=switch))
        for files, _ in self.prepared:
            self.journal.files.update(files.before)

    async def _switch(self) -> None:
        total = len(self.journal.databases) + len(self.journal.collections) + len(self.prepared)
        self.progress("switch", 0, total)
        for database, noted in zip(self.plan.databases, self.journal.databases, strict=True):
            assert noted.restored is not None  # it was restored, or we are not here
            renamed = await take_name(database.login, noted.restored, utcnow(), end_sessions=self.end_sessions)
            noted.kept = renamed.kept
            self.journal.save(self.home)
        for each, step in zip(self.plan.collections, self.journal.collections, strict=True):
            switch = AliasSwitch.from_json(step.switch or {})
            await switch_aliases(self.services.vector(step.target), each.manifest, step.new_name, switch)
        for files, _ in self.prepared:
            await asyncio.to_thread(files.commit)
        self.progress("switch", total, total)

    async def _give_up(self, error: BaseException) -> None:
        """Put back what is live already and remove what lies beside. What cannot be is left to the next call."""
        for files, _ in self.prepared:
            files.discard()
        try:
            async with asyncio.timeout(120):
                await asyncio.shield(asyncio.ensure_future(abandon(self.services, self.journal, error)))
        except (ReanimateError, TimeoutError, OSError) as problem:
            log.exception("after a failed restore of recovery point %s: %s", self.plan.id, problem)
            if isinstance(error, ReanimateError):
                error.hint = (
                    f"what was live could not all be put back ({problem}): run `reanimate restore point undo "
                    f"{self.plan.id}`"
                )


def _silent(stage: str, done: int, total: int) -> None:
    """Report to nobody."""
