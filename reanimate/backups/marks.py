"""Marks: small files beside a manifest that say what has been said of a backup since. A manifest itself never changes.

`{what}-{YYYYmmddTHHMMSSZ}-{token}.json` in the backup's folder, written once, removed to take it back. The name alone
says what and when, so that one listing of a repository tells the state of every backup.
"""

import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

from reanimate.backups.keyring import Keyring
from reanimate.backups.signature import open_signed, sign
from reanimate.storage.blobs import ObjectStore, create_object, read_object, remove_objects

__all__ = ["Mark", "What", "newest", "parse_mark", "read_mark", "remove_mark", "write_mark"]

What = Literal["pinned", "held", "deleted", "used", "proof-passed", "proof-failed", "damaged"]
"""pinned: keep, somebody wants it. held: keep by law. deleted: to be removed after a grace. used: it is being read.
damaged: a part was read again and is not what it was."""

_NAME = re.compile(rf"({'|'.join(get_args(What))})-(\d{{8}}T\d{{6}}Z)-([0-9a-f]{{8}})\.json")
_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Mark:
    """One mark, as its name tells."""

    what: What
    at: datetime
    key: str


def parse_mark(key: str) -> Mark | None:
    """Read a key of a repository; None when it is no mark's."""
    found = _NAME.fullmatch(PurePosixPath(key).name)
    if found is None:
        return None
    what: What = found[1]  # type: ignore[assignment]  # the pattern lets nothing else through
    return Mark(what, datetime.strptime(found[2], _TIME).replace(tzinfo=UTC), key)


def newest(marks: Iterable[Mark], *whats: What) -> Mark | None:
    """Return the newest mark of these kinds."""
    return max((mark for mark in marks if mark.what in whats), key=lambda mark: (mark.at, mark.key), default=None)


async def write_mark(
    store: ObjectStore, folder: str, what: What, content: dict[str, Any], keyring: Keyring, *, now: datetime
) -> Mark:
    """Put a signed mark into a backup's folder.

    Raises:
        Unreachable: the store could not be written.
    """
    key = f"{folder}/{what}-{now.astimezone(UTC):{_TIME}}-{secrets.token_hex(4)}.json"
    await create_object(store, key, sign(json.dumps({"what": what, **content}).encode(), keyring))
    mark = parse_mark(key)
    assert mark is not None  # we have just built its name
    return mark


async def read_mark(store: ObjectStore, mark: Mark, keyring: Keyring) -> dict[str, Any]:
    """Return what a mark says.

    Raises:
        NotFound: it was taken back.
        Damaged: not signed by a trusted key, or changed.
        Unreachable: the store could not be read.
    """
    return open_signed(await read_object(store, mark.key), keyring, where=mark.key)


async def remove_mark(store: ObjectStore, mark: Mark) -> None:
    """Take a mark back; one that is gone already is fine.

    Raises:
        Unreachable: the store could not be written.
    """
    await remove_objects(store, [mark.key])
