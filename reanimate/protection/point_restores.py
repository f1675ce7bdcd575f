"""Restore a recovery point as one: every member beside and verified first, then all put live together, or none.

Databases are renamed first, since only they can be refused for who is connected; then aliases, then files. A failure,
or a kill that a later call finds, puts back what was live already.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from reanimate.backups.repositories import named
from reanimate.backups.use import in_use
from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.config_history.replacing import clear
from reanimate.config_history.subjects import path_of
from reanimate.config_history.whole import PreparedFiles, note_restored, prepare_files, put_back_files
from reanimate.dumps.login import Login, maintenance
from reanimate.dumps.markers import Stage as DatabaseStage
from reanimate.dumps.markers import databases_of
from reanimate.dumps.rename import discard as discard_database
from reanimate.dumps.rename import give_back, take_name, withdraw
from reanimate.dumps.restore import exclusively as database_exclusively
from reanimate.dumps.restore import sweep
from reanimate.errors import ReanimateError, Refused
from reanimate.protection.configuration import history_of
from reanimate.protection.databases import login_to, restore_database
from reanimate.protection.locks import Purpose, collection, exclusively
from reanimate.protection.point_journal import (
    CollectionStep,
    DatabaseStep,
    Journal,
    Stage,
    alone,
    cut_ones,
    last_done,
)
from reanimate.protection.point_plans import CollectionMember, DatabaseMember, PointPlan, plan_point
from reanimate.restores.aliases import AliasSwitch, plan_switch, switch_aliases, undo_switch
from reanimate.restores.restore import discard as discard_collection
from reanimate.restores.restore import restore
from reanimate.restores.switched import SwitchNote, keep_switch
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
        await _settle(services)
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
        settled = await _settle(services)
        if cut := next((each for each in settled if each.point == point_id), None):
            return cut  # what is asked for has just been done
        journal = last_done(home, point_id)
        await _put_back(services, journal, end_sessions=end_sessions)
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
                    name=each.plan.name, backup_id=each.plan.backup_id, existed=each.plan.kept_name is not None
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
            keep_switch(self.home, _note_of(step))
        for files, history in self.prepared:
            # The versions say who restored them; that this cannot be said is no reason to undo.
            with suppress(ReanimateError):
                await note_restored(history, files.before, f"restored recovery point {self.plan.id}")
        return PointRestored(self.plan, self.journal, self.checks)

    # -- everything beside -----------------------------------------------------------------------------------------

    async def _make_ready(self) -> None:
        limit = asyncio.Semaphore(self.services.settings.backups.parallel)

        async def bounded(work: Callable[[], Awaitable[None]]) -> None:
            async with limit:
                await work()

        databases = dict(zip((step.name for step in self.journal.databases), self.journal.databases, strict=True))
        try:
            async with asyncio.TaskGroup() as group:
                for each in self.plan.collections:
                    group.create_task(bounded(partial(self._collection, each)))
                for database in self.plan.databases:
                    step = databases[database.plan.name]
                    group.create_task(bounded(partial(self._database, database, step)))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        for files in self.plan.files:
            self.prepared.append((await prepare_files(files.history, files.plan), files.history))

    async def _collection(self, each: CollectionMember) -> None:
        server, name = self.services.vector(each.plan.target), each.plan.new_name
        async with in_use(self.place.catalog, each.manifest, f"restore of recovery point {self.plan.id}"):
            await restore(server, self.place.catalog, each.manifest, name, self._report(each.plan.collection))
        verification = await verify(server, name, each.manifest)
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
                await asyncio.shield(asyncio.ensure_future(_abandon(self.services, self.journal, error)))
        except (ReanimateError, TimeoutError, OSError) as problem:
            log.exception("after a failed restore of recovery point %s: %s", self.plan.id, problem)
            if isinstance(error, ReanimateError):
                error.hint = (
                    f"what was live could not all be put back ({problem}): run `reanimate restore point undo "
                    f"{self.plan.id}`"
                )


# -- putting back ------------------------------------------------------------------------------------------------------


async def _settle(services: Services) -> list[Journal]:
    """Put back what cut restores left live, remove what they left beside, and return their journals.

    Raises:
        ReanimateError: something could not be put back; call again.
    """
    cut = cut_ones(services.settings.home)
    for journal in cut:
        log.warning("putting back what a cut restore of recovery point %s left", journal.point)
        await _abandon(services, journal, Refused("it was cut"))
    return cut


async def _abandon(services: Services, journal: Journal, error: BaseException) -> None:
    """Make nothing of a restore live, and remove what it made."""
    if journal.stage is Stage.SWITCHING:
        await _put_back(services, journal, end_sessions=True)
    for step in journal.collections:
        with suppress(ReanimateError):  # never made, or gone already; an unused collection harms nobody
            server = services.vector(step.target)
            if step.new_name in await server.collections():
                await discard_collection(server, step.new_name)
    for noted in journal.databases:
        with suppress(ReanimateError):
            await _drop_restored(login_to(services, noted.name), noted, journal.began_at)
    for subject in journal.paths:
        clear(Path(path_of(subject)))
    journal.error = str(error) or type(error).__name__
    journal.save(services.settings.home, Stage.FAILED)


async def _put_back(services: Services, journal: Journal, *, end_sessions: bool) -> None:
    """Files, aliases and names as they were. Safe to repeat; goes on when one fails, and tells at the end."""
    steps: list[tuple[str, Callable[[], Awaitable[None]]]] = []
    if journal.files:
        steps.append(("files", lambda: put_back_files(history_of(services), journal.files)))
    for step in reversed(journal.collections):
        if step.switch is not None:
            steps.append((f"aliases of {step.collection}", partial(_aliases_back, services, step)))
    for noted in reversed(journal.databases):
        if noted.restored is not None:
            login = login_to(services, noted.name)
            name_back = partial(_name_back, login, noted, journal.began_at, end_sessions=end_sessions)
            steps.append((f"database {noted.name}", name_back))
    failures: list[tuple[str, ReanimateError]] = []
    for what, put in steps:
        try:
            await put()
        except ReanimateError as error:
            failures.append((what, error))
    if failures:
        what, first = failures[0]
        failed = [each for each, _ in failures]
        done = ", ".join(each for each, _ in steps if each not in failed) or "nothing"
        raise type(first)(f"putting back {what}: {first.args[0]}; back are: {done}", hint=first.hint) from first


async def _aliases_back(services: Services, step: CollectionStep) -> None:
    await undo_switch(services.vector(step.target), AliasSwitch.from_json(step.switch or {}))
    keep_switch(services.settings.home, replace(_note_of(step), undone_at=utcnow().isoformat()))


def _note_of(step: CollectionStep) -> SwitchNote:
    """Return the note by which the collection alone can be switched back."""
    at = utcnow().isoformat()
    return SwitchNote(step.collection, step.target, step.new_name, step.backup_id, at, step.switch or {})


async def _name_back(login: Login, noted: DatabaseStep, began: datetime, *, end_sessions: bool) -> None:
    """Give a database's name back, if it was taken and not given back yet.

    Raises:
        Refused: a later restore is in the way, or sessions are connected.
    """
    async with maintenance(login) as connection:
        known = await databases_of(connection, login.database)
    if any(one.name == noted.restored and one.stage is DatabaseStage.RESTORED for one in known):
        return  # its name was never taken
    ours = [one for one in known if one.backup_id == noted.backup_id and datetime.fromisoformat(one.at) >= began]
    if any(one.stage is DatabaseStage.UNDONE for one in ours):
        return  # given back already
    if not noted.existed:
        await withdraw(login, noted.backup_id, utcnow(), end_sessions=end_sessions)
        return
    kept = [one.name for one in known if one.stage is DatabaseStage.KEPT]
    aside = noted.kept or next((one.name for one in ours if one.stage is DatabaseStage.KEPT), None)
    if aside is None or aside not in kept:
        return  # somebody has given it back, or removed it
    if kept[0] != aside:
        raise Refused(
            f"database {noted.name!r} was restored again since",
            hint=f"undo that first: reanimate restore postgres undo --database {noted.name}",
        )
    await give_back(login, utcnow(), end_sessions=end_sessions)


async def _drop_restored(login: Login, noted: DatabaseStep, began: datetime) -> None:
    """Drop what was restored, or half restored, and never took a name."""
    async with maintenance(login) as connection, database_exclusively(connection, login.database):
        await sweep(connection, login.database)
        known = await databases_of(connection, login.database)
    for one in known:
        ours = one.name == noted.restored or (
            noted.restored is None and one.backup_id == noted.backup_id and datetime.fromisoformat(one.at) >= began
        )
        if ours and one.stage is DatabaseStage.RESTORED:
            await discard_database(login, one.name)


def _silent(stage: str, done: int, total: int) -> None:
    """Report to nobody."""
