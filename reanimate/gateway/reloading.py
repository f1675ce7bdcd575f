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
    """Follows one file by its time, size and inode: editors and deployments replace it whole."""

    def __init__(self, file: Path, on_settings: Callable[[Settings], None]) -> None:
        self._file = file
        self._on_settings = on_settings
        self._stamp = self._look()
        self._asked = False

    def ask(self) -> None:
        """Read it at the next look, changed or not (SIGHUP)."""
        self._asked = True

    async def follow(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            stamp = self._look()
            if self._asked or (stamp is not None and stamp != self._stamp):
                self._asked = False
                self._stamp = stamp
                await self._read()

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
