"""Writes acknowledged for each collection, over restarts: `gateway/totals.json` in the home directory.

Written at most once a second: after a kill it may lack the last second, so it never says more than there was.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from reanimate.files import write_atomically

__all__ = ["Totals"]

log = logging.getLogger("reanimate.gateway")


class Totals:
    """A counter that is kept."""

    def __init__(self, file: Path | None) -> None:
        """Without a file they are counted for another process, which keeps them."""
        self._file = file
        self._dirty = False
        self.acknowledged: Counter[str] = Counter(_read(file) if file is not None else ())

    def count(self, collection: str) -> None:
        """Count one acknowledged write."""
        self.acknowledged[collection] += 1
        self._dirty = True

    def drain(self) -> dict[str, int]:
        """Return what was counted since the last time, for another process to `absorb`, and forget it."""
        drained, self.acknowledged = dict(self.acknowledged), Counter()
        return drained

    def absorb(self, drained: Mapping[str, int]) -> None:
        """Add what another process counted."""
        if drained:
            self.acknowledged.update(drained)
            self._dirty = True

    async def keep(self) -> None:
        """Write what changed, each second, until cancelled."""
        while True:
            await asyncio.sleep(1.0)
            await asyncio.to_thread(self.save)

    def save(self) -> None:
        """Write now, if anything changed. A disk that cannot be written is logged: requests go on."""
        if not self._dirty or self._file is None:
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
