"""Files on their way between a server and the blob store: a folder of their own, and room for them."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from reanimate.errors import ConfigInvalid

__all__ = ["require_room", "scratch_folder"]

_SPARE = 64 << 20


@asynccontextmanager
async def scratch_folder(parent: Path, what: str) -> AsyncIterator[Path]:
    """Give a fresh folder for files on their way, and remove it afterwards; what a killed process left goes first.

    Raises:
        ConfigInvalid: it cannot be made.
    """
    try:
        folder = await asyncio.to_thread(_make, parent, what)
    except OSError as error:
        raise ConfigInvalid(f"no folder for files on their way can be made in {parent}: {error}") from error
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, True)


def require_room(folder: Path, size: int, what: str) -> None:
    """See that `size` bytes and a little more fit.

    Raises:
        ConfigInvalid: they do not.
    """
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE:
        raise ConfigInvalid(
            f"{what} needs {size / 1e6:.0f} MB in {folder.parent} while it is on its way, {free / 1e6:.0f} MB are free",
            hint="make room, or put the home directory elsewhere (REANIMATE_HOME)",
        )


def _make(parent: Path, what: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f"{what}-*-*"):
        owner = left.name.split("-")[1]
        if owner.isdecimal() and not _lives(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{what}-{os.getpid()}-", dir=parent))


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True
