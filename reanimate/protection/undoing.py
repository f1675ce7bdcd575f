"""Going back behind a restore: by this machine's note, or by the record, also of what an incident has restored."""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.db.tables import Restore
from reanimate.errors import NotFound, Refused
from reanimate.protection.backups import restoring
from reanimate.protection.restoring import write_down
from reanimate.restores import record
from reanimate.restores.aliases import AliasSwitch, undo_switch
from reanimate.restores.switched import SwitchNote, keep_switch, last_switch

__all__ = ["Undone", "undo_restore"]


@dataclass(frozen=True)
class Undone:
    """A switch that was put back. `known_from` says how it was known: note or record."""

    name: str
    target: str
    switch: AliasSwitch
    trigger: str
    at: datetime
    known_from: str


async def undo_restore(services: Services, name: str, target: str, *, dry_run: bool = False) -> Undone:
    """Point the aliases back to where they pointed before the last restore of a collection or alias on a target.

    The restored collection stays, as does everything in it.

    Raises:
        NotFound: nothing is known of a restore that has moved aliases there.
        Refused: what was live before has been removed since.
        Busy, ServerFailed, Unreachable: as `exclusively` and `undo_switch`.
    """
    last = await _last(services, name, target)
    server = services.vector(target)
    gone = sorted({*last.switch.before.values()} - {*await server.collections()})
    if gone:
        raise Refused(
            f"going back behind {last.name} on {target}: {', '.join(gone)} is not there any more",
            hint="restore from a backup instead: `reanimate restore plan`",
        )
    if dry_run:
        return last
    async with restoring(services, target, last.name):
        await undo_switch(server, last.switch)
        now = utcnow()
        await write_down(services, lambda session: record.undone(session, target, last.name, now=now))
        note = _note(services, name, target)
        if note is not None and note.name == last.name:
            keep_switch(services.settings.home, replace(note, undone_at=now.isoformat()))
    return last


async def _last(services: Services, name: str, target: str) -> Undone:
    """Return the newest switch that either the note or the record knows."""
    known = []
    note = _note(services, name, target)
    if note and not await _undone_elsewhere(services, note):
        at = datetime.fromisoformat(note.at)
        known.append(Undone(note.name, target, note.alias_switch(), "command", at, "note"))
    if (row := await _row(services, name, target)) and row.switch:
        switch = AliasSwitch.from_json(row.switch)
        known.append(Undone(row.new_name, target, switch, row.trigger, row.ended_at or row.started_at, "record"))
    if not known:
        raise NotFound(
            f"no restore of {name!r} on {target} has switched aliases, as far as this machine and the record know",
            hint="aliases can also be moved by hand",
        )
    # The same restore may be in both.
    newest = max(known, key=lambda one: (one.at, one.known_from == "record"))
    return next((one for one in known if one.name == newest.name and one.known_from == "record"), newest)


def _note(services: Services, name: str, target: str) -> SwitchNote | None:
    try:
        return last_switch(services.settings.home, name, target)
    except NotFound:
        return None


async def _undone_elsewhere(services: Services, note: SwitchNote) -> bool:
    """Say whether the record knows that a restore of this machine was undone from another one."""
    try:
        async with services.sessions() as session:
            rows = await record.rows_of(session, note.target)
    except (SQLAlchemyError, OSError):
        return False
    return any(row.new_name == note.name and row.state == "undone" for row in rows)


async def _row(services: Services, name: str, target: str) -> Restore | None:
    try:
        async with services.sessions() as session:
            return await record.last_switch(session, name, target)
    except (NotFound, SQLAlchemyError, OSError):
        return None
