"""Databases that restores made: their names, and what each is, kept as the database's comment on the server itself.

A comment is seen from every machine, is renamed with its database, and changes in the transaction of a rename.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

from psycopg import AsyncConnection
from psycopg.sql import SQL, Identifier, Literal

__all__ = ["Marked", "Stage", "beside_name", "databases_of", "kept_name", "mark", "undone_name", "unmark"]

_LONGEST = 63
"""Bytes in a name; the server cuts longer ones, and the cut name may be somebody's."""

_KEY = "reanimate"


class Stage(StrEnum):
    """What a database of ours is."""

    RESTORING = "restoring"
    """Being filled, or left by somebody who was killed doing so."""
    RESTORED = "restored"
    """Filled and verified, beside the live one."""
    KEPT = "kept"
    """What was live before a restore took its name."""
    UNDONE = "undone"
    """A restore that was live, until it was undone."""


@dataclass(frozen=True)
class Marked:
    """A database that a restore made or set aside."""

    name: str
    of: str
    """The live database's name."""
    stage: Stage
    backup_id: str
    at: str
    comment: str | None = None
    """The comment that the database itself has had."""


def beside_name(database: str, now: datetime) -> str:
    """Return the name that a restore begun now goes to: `agent-r20261123013000`."""
    return _name(database, f"-r{now:%Y%m%d%H%M%S}")


def kept_name(database: str, now: datetime) -> str:
    """Return the name that a live database gets when a restore takes its place."""
    return _name(database, f"-before-{now:%Y%m%d%H%M%S}")


def undone_name(database: str, now: datetime) -> str:
    """Return the name that a restore gets when it is undone."""
    return _name(database, f"-undone-{now:%Y%m%d%H%M%S}")


def _name(database: str, suffix: str) -> str:
    whole = f"{database}{suffix}"
    if len(whole.encode()) <= _LONGEST:
        return whole
    room = _LONGEST - len(suffix) - 7
    digest = hashlib.sha256(database.encode()).hexdigest()[:6]
    return f"{database.encode()[:room].decode(errors='ignore')}~{digest}{suffix}"


async def databases_of(connection: AsyncConnection, database: str) -> list[Marked]:
    """Return every database of the server that restores of `database` made or set aside, newest first.

    One that has the name of a restore and no comment at all was made by a restore killed right after: RESTORING.
    """
    rows = await (
        await connection.execute("SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database")
    ).fetchall()
    found = [marked for name, comment in rows if (marked := _read(name, comment, database)) is not None]
    return sorted(found, key=lambda marked: marked.at, reverse=True)


def _read(name: str, comment: str | None, database: str) -> Marked | None:
    if comment is None:
        moment = name[-14:]
        if not moment.isdecimal() or name != _name(database, f"-r{moment}"):
            return None
        return Marked(name, database, Stage.RESTORING, "", "")
    try:
        noted = json.loads(comment)
        if not isinstance(noted, dict) or noted.get("of") != database or noted.get("by") != _KEY:
            return None
        return Marked(name, database, Stage(noted["stage"]), noted["backup_id"], noted["at"], noted.get("comment"))
    except (ValueError, KeyError):
        return None


async def mark(connection: AsyncConnection, marked: Marked) -> None:
    """Write what a database is onto it."""
    noted = {key: value for key, value in asdict(marked).items() if key != "name"} | {"by": _KEY}
    await connection.execute(
        SQL("COMMENT ON DATABASE {} IS {}").format(Identifier(marked.name), Literal(json.dumps(noted)))
    )


async def unmark(connection: AsyncConnection, name: str, comment: str | None) -> None:
    """Give a database the comment that it has had."""
    await connection.execute(SQL("COMMENT ON DATABASE {} IS {}").format(Identifier(name), Literal(comment)))
