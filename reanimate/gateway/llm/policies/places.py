"""Places for calls that several processes of one gateway share, so that their number is kept over all of them.

Each process has its part of a bound for itself. What cannot be divided, which is all of a bound below the number of
processes, is taken in turn: a place is a file, and who has it locked has the place. A process that dies has none.
"""

import fcntl
import logging
import os
import zlib
from collections.abc import Container
from pathlib import Path

__all__ = ["Places"]

log = logging.getLogger("reanimate.gateway")


class Places:
    """One process's view. Where the files cannot be had, each process has its part, and one place at least."""

    def __init__(self, folder: Path, processes: int) -> None:
        self._folder = folder
        self._processes = processes
        self._files: dict[tuple[str, int], int] = {}
        self._are_shared = True
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.close(self._open("try", 0))
        except OSError as error:
            self._are_shared = False
            log.error("%s cannot be used, processes do not share places for calls: %s", folder, error)  # noqa: TRY400

    def own(self, limit: int) -> int:
        """Return how many of `limit` places this process has for itself."""
        part = limit // self._processes
        return part if self._are_shared else max(1, part)

    def take(self, scope: str, limit: int, held: Container[int]) -> int | None:
        """Take one of the places that are taken in turn, and return which; None when others have them all."""
        for number in range(limit % self._processes if self._are_shared else 0):
            if number not in held and self._lock(scope, number):
                return number
        return None

    def give(self, scope: str, number: int) -> None:
        """Let go of a place."""
        fcntl.flock(self._files[scope, number], fcntl.LOCK_UN)

    def _lock(self, scope: str, number: int) -> bool:
        try:
            file = self._files.get((scope, number))
            if file is None:
                file = self._files[scope, number] = self._open(scope, number)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another process has it, or there is no file to be had now: it is tried again
            return False
        return True

    def _open(self, scope: str, number: int) -> int:
        name = f"{zlib.crc32(scope.encode()):08x}-{number}"
        return os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        """Let go of everything."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()
