"""What a repository was last seen to hold, kept where whoever writes to the repository cannot reach it.

Signatures and the chain tell a manifest that was changed. They cannot tell a repository that was put back as a whole to
an older state: everything in it is right, and the newest is missing. So the newest of every subject is remembered here.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from reanimate.errors import ConfigInvalid
from reanimate.files import write_atomically

__all__ = ["Memory", "Seen", "newest_of_each"]


@dataclass(frozen=True)
class Seen:
    """A backup that was the newest of its subject."""

    key: str
    """Of its manifest."""
    id: str
    sha256: str
    taken_at: str
    """ISO 8601 in UTC, which sorts by time."""

    @property
    def subject(self) -> str:
        """The folder of everything that it is one of."""
        return self.key.rsplit("/", 2)[0]


class Memory:
    """The newest backups of one repository, in a file of the home directory. Without a file nothing is remembered."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file

    @classmethod
    def of(cls, home: Path, url: str) -> "Memory":
        """Return the memory of the repository at a URL; another URL is another repository."""
        return cls(home / "repositories" / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.json")

    def recall(self) -> tuple[Seen, ...]:
        """Return what is remembered.

        Raises:
            ConfigInvalid: the file cannot be read.
        """
        if self._file is None or not self._file.exists():
            return ()
        try:
            return tuple(Seen(**row) for row in json.loads(self._file.read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigInvalid(
                f"{self._file} cannot be read, which remembers the newest backups: {error}",
                hint="put it back from your copy of the home directory, or remove it to begin anew",
            ) from None

    def missing(self, there: Iterable[str]) -> tuple[Seen, ...]:
        """Return the remembered whose manifests are not among the keys that are there."""
        keys = set(there)
        return tuple(seen for seen in self.recall() if seen.key not in keys)

    def note(self, there: Iterable[Seen]) -> None:
        """Remember the newest of each subject that is there; what is missing stays remembered beside it.

        Raises:
            ConfigInvalid: the file cannot be read or written.
        """
        newest = newest_of_each(there)
        old = self.recall()
        kept = [seen for seen in old if seen.key not in {one.key for one in there}]
        self._write(old, [*kept, *newest])

    def forget(self, backup_id: str) -> bool:
        """Forget a backup that was removed on purpose; say whether it was remembered.

        Raises:
            ConfigInvalid: the file cannot be read or written.
        """
        old = self.recall()
        left = [seen for seen in old if seen.id != backup_id]
        self._write(old, left)
        return len(left) < len(old)

    def _write(self, old: Iterable[Seen], new: Iterable[Seen]) -> None:
        rows = sorted(new, key=lambda seen: (seen.key, seen.sha256))
        if self._file is None or rows == [*old]:
            return
        try:
            write_atomically(self._file, json.dumps([asdict(seen) for seen in rows], indent=1).encode())
        except OSError as error:
            raise ConfigInvalid(
                f"{self._file} cannot be written, which remembers the newest backups: {error}"
            ) from None


def newest_of_each(there: Iterable[Seen]) -> list[Seen]:
    """Return the newest of every subject."""
    newest: dict[str, Seen] = {}
    for seen in there:
        held = newest.get(seen.subject)
        if held is None or (held.taken_at, held.id) < (seen.taken_at, seen.id):
            newest[seen.subject] = seen
    return [*newest.values()]
