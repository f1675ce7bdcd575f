"""The settings file, read again when it changes; what cannot be used changes nothing and is said once."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from reanimate.config import Settings, load_settings
from reanimate.errors import ConfigInvalid

__all__ = ["Reloading"]

log = logging.getLogger("reanimate.gateway")

_LOOK_EVERY_S = 0.5

Stamp = tuple[int, int, int] | None


class Reloading:
    """Follows one file by its time, size and inode.

    Some programs write in place: a file that is just being written, and an empty one, hold no settings yet, though
    what there is of them may be read as some.
    """

    def __init__(self, file: Path, on_settings: Callable[[Settings], None]) -> None:
        self._file = file
        self._on_settings = on_settings
        self._seen = self._read_at = self._look()
        self._asked = False

    def ask(self) -> None:
        """Read it at the next look, changed or not (SIGHUP)."""
        self._asked = True

    async def follow(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            if self.is_due():
                await self._read()

    def is_due(self) -> bool:
        """Look once; return whether it is to be read now: it is new, and was the same at the last look."""
        before, self._seen = self._seen, self._look()
        seen = self._seen
        is_new = seen is not None and seen != self._read_at and seen == before and seen[1] > 0
        if not (self._asked or is_new):
            return False
        self._asked = False
        self._read_at = seen
        return True

    async def _read(self) -> None:
        try:
            settings = await asyncio.to_thread(load_settings)
            self._on_settings(settings)
        except (ConfigInvalid, OSError) as error:
            log.error("the changed settings are not used, those before stay in force: %s", error)  # noqa: TRY400
        else:
            log.warning("settings read again from %s", self._file)

    def _look(self) -> Stamp:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
