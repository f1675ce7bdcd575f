"""Put back what the restore of a recovery point made live, and remove what it made: when asked, or when it was cut."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.config_history.replacing import clear
from reanimate.config_history.subjects import path_of
from reanimate.config_history.whole import put_back_files
from reanimate.dumps.login import Login, maintenance
from reanimate.dumps.markers import Stage as DatabaseStage
from reanimate.dumps.markers import databases_of
from reanimate.dumps.rename import discard as discard_database
from reanimate.dumps.rename import give_back, withdraw
from reanimate.dumps.restore import exclusively as database_exclusively
from reanimate.dumps.restore import sweep
from reanimate.errors import ReanimateError, Refused
from reanimate.protection.configuration import history_of
from reanimate.protection.databases import login_to
from reanimate.protection.point_journal import CollectionStep, DatabaseStep, Journal, Stage, cut_ones
from reanimate.protection.restoring import write_down
from reanimate.restores import record
from reanimate.restores.aliases import AliasSwitch, undo_switch
from reanimate.restores.restore import discard as discard_collection
from reanimate.restores.switched import SwitchNote, keep_switch

__all__ = ["abandon", "note_of", "put_back", "settle"]

log = logging.getLogger(__name__)


async def settle(services: Services) -> list[Journal]:
    """Put back what cut restores left live, remove what they left beside, and return their journals.

    Raises:
        ReanimateError: something could not be put back; call again.
    """
    cut = cut_ones(services.settings.home)
    for journal in cut:
        log.warning("putting back what a cut restore of recovery point %s left", journal.point)
        await abandon(services, journal, Refused("it was cut"))
    return cut


async def abandon(services: Services, journal: Journal, error: BaseException) -> None:
    """Make nothing of a restore live, and remove what it made."""
    if journal.stage is Stage.SWITCHING:
        await put_back(services, journal, end_sessions=True)
    for step in journal.collections:
        if (row := step.row) is not None:
            await write_down(services, partial(record.failed, row_id=row, error=error, now=utcnow()))
        with suppress(ReanimateError):  # never made, or gone already; an unused collection harms nobody
            server = services.vector(step.target)
            if step.new_name in await server.collections():
                await discard_collection(server, step.new_name)
    for noted in journal.databases:
        with suppress(ReanimateError):
            await _drop_restored(login_to(services, noted.name), noted)
    for subject in journal.paths:
        clear(Path(path_of(subject)))
    journal.error = str(error) or type(error).__name__
    journal.save(services.settings.home, Stage.FAILED)


async def put_back(services: Services, journal: Journal, *, end_sessions: bool) -> None:
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
    now = utcnow()
    await write_down(services, lambda session: record.undone(session, step.target, step.new_name, now=now))
    keep_switch(services.settings.home, replace(note_of(step), undone_at=utcnow().isoformat()))


def note_of(step: CollectionStep) -> SwitchNote:
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


async def _drop_restored(login: Login, noted: DatabaseStep) -> None:
    """Drop what was restored, or half restored, and never took a name."""
    async with maintenance(login) as connection, database_exclusively(connection, login.database):
        await sweep(connection, login)
        known = await databases_of(connection, login.database)
    for one in known:
        if one.name == noted.new_name and one.stage is DatabaseStage.RESTORED:
            await discard_database(login, one.name)
