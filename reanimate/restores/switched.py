"""Switches that can be undone: one small file each in the home directory, written before the switch is made."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from reanimate.backups.manifest import base_name
from reanimate.errors import NotFound
from reanimate.files import write_atomically
from reanimate.restores.aliases import AliasSwitch

__all__ = ["SwitchNote", "keep_switch", "last_switch"]


@dataclass(frozen=True)
class SwitchNote:
    """One switch: of which restore, on which target, and whether it was undone."""

    collection: str
    target: str
    name: str
    backup_id: str
    at: str
    switch: dict[str, Any]
    undone_at: str | None = None

    def answers_to(self, collection: str) -> bool:
        """Say whether that collection or alias was switched by it."""
        names = (self.collection, self.name, *self.switch["after"])
        return collection in names or base_name(collection) == base_name(self.collection)

    def alias_switch(self) -> AliasSwitch:
        return AliasSwitch.from_json(self.switch)


def keep_switch(home: Path, note: SwitchNote) -> None:
    """Write a note, replacing an earlier one of the same restore.

    Raises:
        OSError: the home directory cannot be written.
    """
    file = _folder(home) / f"{quote(note.target, safe='')}--{quote(note.name, safe='')}.json"
    write_atomically(file, json.dumps(asdict(note), indent=1).encode())


def last_switch(home: Path, collection: str, target: str) -> SwitchNote:
    """Return the newest switch of a collection or alias on a target that was not undone.

    Raises:
        NotFound: there is none.
    """
    notes = [SwitchNote(**json.loads(file.read_bytes())) for file in _folder(home).glob("*.json")]
    fitting = [note for note in notes if note.target == target and not note.undone_at and note.answers_to(collection)]
    if not fitting:
        raise NotFound(
            f"no restore of {collection!r} on {target} has switched aliases from this machine",
            hint="an incident's switch is undone by its own step; aliases can also be moved by hand",
        )
    return max(fitting, key=lambda note: note.at)


def _folder(home: Path) -> Path:
    return home / "restores"
