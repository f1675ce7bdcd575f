"""Which collections were once seen good on which target, kept over restarts: a copy that never was cannot be lost."""

import logging
from pathlib import Path

import orjson

from reanimate.files import write_atomically

__all__ = ["Seen"]

log = logging.getLogger(__name__)


class Seen:
    """A small set of (target, collection), kept in one file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: set[tuple[str, str]] = set()
        try:
            self._seen = {(target, collection) for target, collection in orjson.loads(file.read_bytes())}
        except FileNotFoundError:
            pass
        except ValueError as error:
            log.warning("%s is not readable and is begun anew: %s", file, error)

    def of(self, target: str) -> frozenset[str]:
        """Return the collections that were seen good on that target."""
        return frozenset(collection for seen_on, collection in self._seen if seen_on == target)

    def add(self, target: str, collection: str) -> None:
        """Remember it; only what is new touches the disk."""
        if (target, collection) not in self._seen:
            self._seen.add((target, collection))
            try:
                write_atomically(self._file, orjson.dumps(sorted(self._seen)))
            except OSError as error:
                log.warning("%s cannot be written: %s", self._file, error)
