"""Where backups are proven: on a server that is set aside, or on one of our own that lives as long as the proof.

A collection on a server that is set aside is noted in a file of the home directory before it is made. The file is
locked as long as its proof lives; what a killed proof left is removed by the next.
"""

import asyncio
import fcntl
import json
import logging
import os
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from reanimate.backups.manifest import VectorManifest, base_name
from reanimate.clock import utcnow
from reanimate.errors import ReanimateError
from reanimate.proofs.own_server import own_server
from reanimate.vector.server import VectorServer

__all__ = ["Scratch", "ScratchServer", "scratch_name", "sweep"]

log = logging.getLogger(__name__)

_OURS = re.compile(r".-p(\d{14})-[0-9a-f]{6}$")
_ABANDONED = timedelta(hours=6)
"""What another machine left there, whose notes are not here."""
_LONGEST_BASE = 200


@dataclass(frozen=True)
class ScratchServer:
    """A server for one proof."""

    server: VectorServer
    is_own: bool
    """Ours alone: nothing else is on it, and it is thrown away."""


@dataclass(frozen=True)
class Scratch:
    """Where proofs restore to. Without a server that is set aside, one of our own is started for each."""

    http: httpx.AsyncClient
    notes: Path
    set_aside: VectorServer | None = None

    @property
    def name(self) -> str:
        """What to call it in the record."""
        return self.set_aside.name if self.set_aside is not None else "own"

    @asynccontextmanager
    async def open(self, folder: Path) -> AsyncIterator[ScratchServer]:
        """Have a server for the block.

        Raises:
            ServerFailed: ours does not start.
        """
        if self.set_aside is not None:
            await sweep(self.set_aside, self.notes)
            yield ScratchServer(self.set_aside, False)
            return
        async with own_server("scratch", folder, self.http) as server:
            yield ScratchServer(server, True)

    @asynccontextmanager
    async def collection(self, server: ScratchServer, manifest: VectorManifest) -> AsyncIterator[str]:
        """Give the name of a scratch collection; at the end it is gone, and seen to be gone.

        One that cannot be removed now is told in the log, and removed by the next proof.
        """
        name = scratch_name(manifest.collection, utcnow())
        if server.is_own:
            yield name
            return
        with _noted(self.notes, server.server.name, name) as note:
            try:
                yield name
            finally:
                if await _removed(server.server, name):
                    note.unlink()


def scratch_name(collection: str, now: datetime) -> str:
    """Return a name that says what it is and from when: `kb-p20261123013000-1a2b3c`."""
    return f"{base_name(collection)[:_LONGEST_BASE]}-p{now:%Y%m%d%H%M%S}-{secrets.token_hex(3)}"


@contextmanager
def _noted(notes: Path, server: str, name: str) -> Iterator[Path]:
    """Keep a locked note of a collection for the block; unlocked, it tells the next proof to remove that."""
    notes.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = notes / f"{secrets.token_hex(8)}.json"
    with path.open("x") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump({"server": server, "collection": name}, file)
        file.flush()
        os.fsync(file.fileno())
        yield path


async def sweep(server: VectorServer, notes: Path) -> list[str]:
    """Remove what proofs that were killed left on a server that is set aside; return the names. Never raises."""
    swept: list[str] = []
    for path in await asyncio.to_thread(lambda: sorted(notes.glob("*.json"))):
        with suppress(FileNotFoundError), path.open("r+") as file:
            if (name := _abandoned(file.fileno(), file.read(), server.name)) is not None and await _removed(
                server, name
            ):
                path.unlink(missing_ok=True)
                swept.append(name)
    try:
        for name in await server.collections():
            found = _OURS.search(name)
            if found and utcnow() - _moment(found[1]) > _ABANDONED and await _removed(server, name):
                swept.append(name)
    except ReanimateError as error:
        log.warning("looking for what proofs left on %s: %s", server.name, error)
    return swept


def _abandoned(descriptor: int, content: str, server: str) -> str | None:
    """Return the collection of a note whose proof is dead."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    try:
        note = json.loads(content)
        return str(note["collection"]) if note["server"] == server else None
    except (ValueError, KeyError, TypeError):
        return None  # cut while it was written, before anything was made


def _moment(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return utcnow()  # not one of our times: leave it


async def _removed(server: VectorServer, name: str) -> bool:
    try:
        if aliases := [alias for alias, at in (await server.aliases()).items() if at == name]:
            await server.update_aliases([{"delete_alias": {"alias_name": alias}} for alias in aliases])
        await server.delete_collection(name)
    except ReanimateError as error:
        log.warning("%s, which a proof left on %s, stays for now: %s", name, server.name, error)
        return False
    return True
