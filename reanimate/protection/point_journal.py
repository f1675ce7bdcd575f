"""What the restore of a recovery point is about to do, on disk before it does it: how it is undone, and cut ones too.

One file for each restore in `restores/points` of the home directory. Only one restore of a point runs at a time here.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel, ValidationError

from reanimate.errors import Busy, ConfigInvalid, Damaged, NotFound
from reanimate.files import write_atomically

__all__ = ["CollectionStep", "DatabaseStep", "Journal", "Stage", "alone", "cut_ones", "last_done"]


class Stage(StrEnum):
    """How far it has come."""

    BESIDE = "beside"  # everything is being made ready; nothing live was touched
    SWITCHING = "switching"  # some of it may be live
    DONE = "done"
    UNDONE = "undone"
    FAILED = "failed"  # nothing of it is live


class CollectionStep(BaseModel):
    """A collection that is restored under a new name, and where its aliases pointed before."""

    collection: str
    target: str
    backup_id: str
    new_name: str
    switch: dict[str, Any] | None = None
    row: int | None = None
    """In the record, when that could be written."""


class DatabaseStep(BaseModel):
    """A database that is restored beside the live one, and the name under which that is kept."""

    name: str
    backup_id: str
    new_name: str
    """That it is restored under, beside the live one."""
    restored: str | None = None
    """The same, once it stands there whole and verified."""
    existed: bool = True
    """Whether there was one to be kept."""
    kept: str | None = None


class Journal(BaseModel):
    """One restore of one point."""

    point: str
    began_at: AwareDatetime
    stage: Stage = Stage.BESIDE
    collections: list[CollectionStep] = []
    databases: list[DatabaseStep] = []
    files: dict[str, str | None] = {}
    """Subject → the version that was there before."""
    paths: list[str] = []
    """Subjects of the files that something may lie beside."""
    error: str | None = None

    def save(self, home: Path, stage: Stage | None = None) -> None:
        """Write it down.

        Raises:
            ConfigInvalid: the home directory cannot be written.
        """
        self.stage = stage or self.stage
        file = _folder(home) / f"{self.point}-{self.began_at:%Y%m%dT%H%M%S%f}.json"
        try:
            write_atomically(file, self.model_dump_json(indent=1).encode(), mode=0o600)
        except OSError as error:
            raise ConfigInvalid(f"{file} cannot be written: {error.strerror}") from error


def cut_ones(home: Path) -> list[Journal]:
    """Return the restores that were cut, newest first. Only for who is `alone`: else one may be running.

    Raises:
        Damaged: a journal cannot be read.
    """
    return [journal for journal in _all(home) if journal.stage in (Stage.BESIDE, Stage.SWITCHING)]


def last_done(home: Path, point: str) -> Journal:
    """Return the newest restore of a point that is live.

    Raises:
        NotFound: there is none on this machine.
        Damaged: a journal cannot be read.
    """
    for journal in _all(home):
        if journal.point == point and journal.stage is Stage.DONE:
            return journal
    raise NotFound(f"no restore of the recovery point {point} from this machine is live", hint="nothing is undone")


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Keep other restores of points on this machine out for the block.

    Raises:
        Busy: one is running.
        ConfigInvalid: the home directory cannot be written.
    """
    folder = _folder(home)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigInvalid(f"{folder} cannot be written: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy("a recovery point is being restored from this machine", hint="wait until it has ended") from None
        yield
    finally:
        os.close(descriptor)


def _all(home: Path) -> list[Journal]:
    journals = []
    for file in _folder(home).glob("*.json"):
        try:
            journals.append(Journal.model_validate(json.loads(file.read_bytes())))
        except (OSError, ValueError, ValidationError) as error:
            raise Damaged(f"{file} cannot be read: {error}", hint="look at what it says, then move it away") from None
    return sorted(journals, key=_age, reverse=True)


def _age(journal: Journal) -> datetime:
    return journal.began_at


def _folder(home: Path) -> Path:
    return home / "restores" / "points"
