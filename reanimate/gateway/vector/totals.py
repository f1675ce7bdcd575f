"""Writes acknowledged for each collection, over restarts: `gateway/totals.json` in the home directory.

Written at most once a second: after a kill it may lack the last second, so it never says more than there was.
"""

import asyncio
import json
import logging
from collections import Counter
from pathlib import Path

from reanimate.files import write_atomically

__all__ = ["Totals"]

log = logging.getLogger("reanimate.gateway")


class Totals:
    """A counter that is kept."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._dirty = False
        self.acknowledged: Counter[str] = Counter(_read(file))

    def count(self, collection: str) -> None:
        """Count one acknowledged write."""
        self.acknowledged[collection] += 1
        self._dirty = True

    async def keep(self) -> None:
        """Write what changed, each second, until cancelled."""
        while True:
            await asyncio.sleep(1.0)
            await asyncio.to_thread(self.save)

    def save(self) -> None:
        """Write now, if anything changed. A disk that cannot be written is logged: requests go on."""
        if not self._dirty:
            return
        self._dirty = False
        content = json.dumps({"writes_acknowledged": dict(self.acknowledged)}, indent=2).encode()
        try:
            write_atomically(self._file, content)
        except OSError as error:
            self._dirty = True
            log.error("cannot keep the totals in %s: %s", self._file, error)  # noqa: TRY400


def _read(file: Path) -> dict[str, int]:
    try:
        stored = json.loads(file.read_bytes())["writes_acknowledged"]
        return {str(name): int(count) for name, count in stored.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        log.error("%s is not readable, totals start at nothing: %s", file, error)  # noqa: TRY400
        return {}
