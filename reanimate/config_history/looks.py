"""What the last keeping saw of each file, on this machine's disk: so that the next opens only what may have changed.

Losing it costs one reading of everything, and never a version.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reanimate.config_history.reading import Look
from reanimate.files import write_atomically

__all__ = ["Looks"]

_TICK_NS = 2_000_000_000
"""A file changed within this of being read could change again and look the same: file systems have coarse clocks."""


class Looks:
    """Subject → the version that was in force and what its file looked like then."""

    def __init__(self, manifest: str | None = None, seen: dict[str, dict[str, Any]] | None = None) -> None:
        self.manifest = manifest
        """Key of the manifest that the versions are of."""
        self._seen = seen or {}

    @classmethod
    def load(cls, file: Path) -> "Looks":
        """Read what was saved; nothing when there is nothing usable."""
        try:
            saved = json.loads(file.read_bytes())
            return cls(str(saved["manifest"]), dict(saved["seen"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def save(self, file: Path, *, manifest: str) -> None:
        """Write it down.

        Raises:
            OSError: the home directory cannot be written.
        """
        self.manifest = manifest
        write_atomically(file, json.dumps({"manifest": manifest, "seen": self._seen}).encode(), mode=0o600)

    def unchanged(self, subject: str, version: str, now: Look) -> bool:
        """Say whether a file looks as it did when this version of it was read."""
        seen = self._seen.get(subject)
        return seen is not None and seen["version"] == version and seen["look"] == _plain(now)

    def note(self, subject: str, version: str, look: Look, taken_ns: int) -> None:
        """Remember a file as it was read at that moment, unless it had only just changed."""
        if taken_ns - look.changed_ns > _TICK_NS:
            self._seen[subject] = {"version": version, "look": _plain(look)}
        else:
            self._seen.pop(subject, None)

    def keep_only(self, subjects: set[str]) -> None:
        """Forget the others."""
        self._seen = {subject: seen for subject, seen in self._seen.items() if subject in subjects}


def _plain(look: Look) -> dict[str, Any]:
    return {**asdict(look), "identity": list(look.identity)}
