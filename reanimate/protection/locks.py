"""A backup and a restore of the same thing never overlap, whichever process, machine or command they come from.

Two locks each time, both gone with the process that held them: an advisory one in the record, for all machines, and a
file in the home directory, for when the record is away. A restore does not wait for a backup: it says that it wants the
lock, and the backup gives way and is taken again later.
"""

import asyncio
import fcntl
import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Protocol

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from reanimate.backups.manifest import base_name
from reanimate.errors import Busy

__all__ = ["Purpose", "Thing", "collection", "database", "exclusively"]

log = logging.getLogger(__name__)

WAIT_S = 600.0
_RETRY_S = 0.2
_LONGEST_PAUSE_S = 1.0
_LOOK_S = 0.5
"""How often a running backup looks whether a restore wants its place."""
_RECORD_S = 3.0


class Purpose(StrEnum):
    BACKUP = "backup"
    RESTORE = "restore"


class _Lock(IntEnum):
    """The two locks of each thing; the numbers are seeds of the hash that is their key in Postgres."""

    HELD = 11
    WANTED = 12


@dataclass(frozen=True)
class Thing:
    """What only one may work on at a time."""

    kind: str
    target: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.target}:{self.name}"


def collection(target: str, name: str) -> Thing:
    """Return the collection `name` of a vector target; its restored copies are the same thing, its aliases are not."""
    return Thing("vector", target, base_name(name))


def database(name: str) -> Thing:
    """Return the Postgres database that the settings call `name`."""
    return Thing("postgres", "postgres", name)


@asynccontextmanager
async def exclusively(
    engine: AsyncEngine, home: Path, thing: Thing, purpose: Purpose, *, within_s: float = WAIT_S
) -> AsyncIterator[None]:
    """Have the thing to oneself for the block, after waiting for it for at most `within_s` seconds.

    Raises:
        Busy: somebody else still had it; or, of a backup, a restore wanted it, and the block was cancelled for that.
    """
    async with AsyncExitStack() as stack:
        places: list[_Place] = [await stack.enter_async_context(_InHome.open(home, thing))]
        if record := await stack.enter_async_context(_InRecord.open(engine, thing)):
            places.append(record)
        if purpose is Purpose.RESTORE:
            await _acquire(places, thing, within_s, wanting=True)
            yield
        else:
            await _acquire(places, thing, within_s, wanting=False)
            async with _giving_way(places, thing):
                yield


async def _acquire(places: "list[_Place]", thing: Thing, within_s: float, *, wanting: bool) -> None:
    """Take the lock in every place or in none, so that two who wait never wait for one another."""
    deadline = time.monotonic() + within_s
    pause_s = _RETRY_S
    while not await _take_all(places, wanting=wanting):
        if time.monotonic() > deadline:
            raise Busy(
                f"{thing} has been worked on by somebody else for {within_s:g} s",
                hint="wait for the backup or the restore that is running, or stop it",
            )
        await asyncio.sleep(pause_s)
        pause_s = pause_s if wanting else min(2 * pause_s, _LONGEST_PAUSE_S)


async def _take_all(places: "list[_Place]", *, wanting: bool) -> bool:
    taken: list[_Place] = []
    for place in places:
        if wanting:
            await place.want()
        if (wanting or not await place.is_wanted()) and await place.take():
            taken.append(place)
            continue
        for one in taken:
            await one.give_back()
        return False
    return True


@asynccontextmanager
async def _giving_way(places: "list[_Place]", thing: Thing) -> AsyncIterator[None]:
    """Cancel the block when a restore wants the thing.

    Raises:
        Busy: that happened.
    """
    task = asyncio.current_task()
    assert task is not None  # an async context manager is always in one
    wanted = False

    async def watch() -> None:
        nonlocal wanted
        while not wanted:
            await asyncio.sleep(_LOOK_S)
            wanted = any([await place.is_wanted() for place in places])
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not wanted or task.uncancel() > 0:  # somebody else cancelled it, too
            raise
        raise Busy(f"the backup of {thing} gave way to a restore of it", hint="it is taken again afterwards") from None
    finally:
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher


class _Place(Protocol):
    """Somewhere to lock. Whoever only looks shares the lock that shows a wish, so that lookers never see each other."""

    async def take(self) -> bool: ...

    async def give_back(self) -> None: ...

    async def want(self) -> None:
        """Show, from now to the end, that the holder is waited for; called again, it tries again."""

    async def is_wanted(self) -> bool: ...


class _InHome:
    """Two files, locked by the kernel for as long as they are open."""

    def __init__(self, held: int, wanted: int) -> None:
        self._held, self._wanted = held, wanted

    @classmethod
    @asynccontextmanager
    async def open(cls, home: Path, thing: Thing) -> "AsyncIterator[_InHome]":
        folder = home / "locks"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = hashlib.sha256(str(thing).encode()).hexdigest()[:24]
        with ExitStack() as stack:
            files = [os.open(folder / f"{name}.{what}", os.O_RDWR | os.O_CREAT, 0o600) for what in ("held", "wanted")]
            for descriptor in files:
                stack.callback(os.close, descriptor)
            yield cls(*files)

    async def take(self) -> bool:
        return _flock(self._held, fcntl.LOCK_EX)

    async def give_back(self) -> None:
        fcntl.flock(self._held, fcntl.LOCK_UN)

    async def want(self) -> None:
        _flock(self._wanted, fcntl.LOCK_EX)

    async def is_wanted(self) -> bool:
        if not _flock(self._wanted, fcntl.LOCK_SH):
            return True
        fcntl.flock(self._wanted, fcntl.LOCK_UN)
        return False


def _flock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _InRecord:
    """Advisory locks of one session; away with the record, the files alone must do."""

    def __init__(self, connection: AsyncConnection, thing: Thing) -> None:
        self._connection = connection
        self._thing = thing
        self._wants = False
        self._lost = False

    @classmethod
    @asynccontextmanager
    async def open(cls, engine: AsyncEngine, thing: Thing) -> "AsyncIterator[_InRecord | None]":
        try:
            connection = await engine.connect()
            connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
        except (SQLAlchemyError, OSError) as error:
            log.warning("%s is locked on this machine only, the record is away: %s", thing, error)
            yield None
            return
        try:
            yield cls(connection, thing)
        finally:
            # Closing for good, not returning to the pool, lets the locks go even when nothing can be sent.
            with suppress(SQLAlchemyError, OSError):
                await connection.invalidate()
            await connection.close()

    async def take(self) -> bool:
        return await self._ask("pg_try_advisory_lock", _Lock.HELD, else_=True)

    async def give_back(self) -> None:
        await self._ask("pg_advisory_unlock", _Lock.HELD, else_=True)

    async def want(self) -> None:
        self._wants = self._wants or await self._ask("pg_try_advisory_lock", _Lock.WANTED, else_=False)

    async def is_wanted(self) -> bool:
        if not await self._ask("pg_try_advisory_lock_shared", _Lock.WANTED, else_=True):
            return True
        await self._ask("pg_advisory_unlock_shared", _Lock.WANTED, else_=True)
        return False

    async def _ask(self, function: str, lock: _Lock, *, else_: bool) -> bool:
        """Call a lock function; `else_` is the answer when the record has gone away."""
        if self._lost:
            return else_
        try:
            async with asyncio.timeout(_RECORD_S):
                statement = text(f"SELECT {function}(hashtextextended(:key, :seed))")
                return bool(await self._connection.scalar(statement, {"key": str(self._thing), "seed": int(lock)}))
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            self._lost = True
            log.warning("%s stays locked on this machine only, the record has gone away: %s", self._thing, error)
            return else_
