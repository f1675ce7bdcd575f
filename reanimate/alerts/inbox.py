"""The durable inbox: every delivery is in Postgres, or on disk until Postgres answers, before its sender is told so."""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import orjson
from sqlalchemy import select, text
from sqlalchemy.exc import DataError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from reanimate.alerts.model import Arrival
from reanimate.alerts.spool import Spool
from reanimate.errors import Unreachable

__all__ = ["Accepted", "Inbox", "Outcome"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_BATCH = 200
_BATCH_PATIENCE_S = 10.0
_FAILURES = (SQLAlchemyError, OSError, TimeoutError)
"""Postgres is away, refuses, or is not what it should be: the disk takes the delivery then."""


class Outcome(StrEnum):
    STORED = "stored"  # it is in Postgres, for the first time
    DUPLICATE = "duplicate"  # it was there already
    SPOOLED = "spooled"  # it is on disk, and goes to Postgres when that answers


@dataclass(frozen=True)
class Accepted:
    """What became of a delivery. `id` is its number in the record, None while it is spooled."""

    outcome: Outcome
    id: int | None = None


class Inbox:
    """Takes deliveries. `patience_s`: how long a sender waits for Postgres before its delivery goes to disk."""

    def __init__(self, engine: AsyncEngine, spool: Spool, *, patience_s: float = 1.0) -> None:
        # One statement, committed by itself: one round trip less than a transaction.
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._engine = engine
        self._spool = spool
        self._patience_s = patience_s
        self._reachable = True
        self._underway: set[asyncio.Task[Any]] = set()

    async def put(self, arrival: Arrival) -> Accepted:
        """Store `arrival` durably, once per (source, delivery key).

        Raises:
            Unreachable: neither Postgres nor the disk took it; the sender must try again.
        """
        if self._reachable:
            try:
                return await self._within(self._patience_s, self._store(arrival))
            except _FAILURES as error:
                if self._reachable:
                    log.warning("the record does not take deliveries (%s); they go to disk", _brief(error))
                self._reachable = False
        try:
            await asyncio.to_thread(self._spool.add, arrival)
        except OSError as error:
            raise Unreachable(
                f"neither the database nor {self._spool.directory} took the delivery: {error.strerror}",
                hint="send it again; whoever runs this must look at the database and the disk",
            ) from error
        return Accepted(Outcome.SPOOLED)

    async def drain(self) -> int:
        """Bring what waits on disk into Postgres, oldest first; return how many files were done with.

        Until the last one is in, new deliveries go to disk too, so that the order is kept. A Postgres that still does
        not answer ends it quietly: the next call goes on.
        """
        done = 0
        try:
            while batch := await asyncio.to_thread(self._next_on_disk):
                await self._move(batch)
                done += len(batch)
            if not self._reachable:
                await self._within(self._patience_s, self._ask())
                self._reachable = True
                log.info("the record takes deliveries again")
        except _FAILURES as error:
            log.debug("the record still does not take deliveries: %s", _brief(error))
        return done

    def _next_on_disk(self) -> list[tuple[Path, Arrival]]:
        return list(islice(self._spool.read(), _BATCH))

    async def _move(self, batch: list[tuple[Path, Arrival]]) -> None:
        """Store some files together; when one of them is refused for what it is, one by one."""
        try:
            await self._within(_BATCH_PATIENCE_S, self._store_many([arrival for _, arrival in batch]))
        except DataError as error:
            if len(batch) > 1:
                for single in batch:
                    await self._move([single])
                return
            await asyncio.to_thread(self._spool.set_aside, batch[0][0], _brief(error))
        for path, _ in batch:
            await asyncio.to_thread(self._spool.remove, path)

    async def waiting_on_disk(self) -> int:
        """Return how many deliveries are spooled."""
        return len(await asyncio.to_thread(self._spool.waiting))

    async def _within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """Wait for Postgres no longer than `seconds`.

        A statement that is late is left to end by itself: cancelling it would wait for the server too. Should it come
        through after all, the delivery on disk finds itself known.
        """
        task = asyncio.create_task(work)
        self._underway.add(task)
        task.add_done_callback(self._forget)
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if not done:
            raise TimeoutError(f"no answer within {seconds:g} s")
        return task.result()

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self._underway.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has seen it; one that came too late has been replaced by the disk

    async def _ask(self) -> None:
        async with self._engine.connect() as connection:
            await connection.execute(select(1))

    async def _store(self, arrival: Arrival) -> Accepted:
        async with self._autocommit.connect() as connection:
            found = (await connection.execute(_STORE, _row(arrival))).one()
        return Accepted(Outcome.STORED if found.is_new else Outcome.DUPLICATE, found.id)

    async def _store_many(self, arrivals: list[Arrival]) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(_STORE_QUIETLY, [_row(arrival) for arrival in arrivals])


def _row(arrival: Arrival) -> dict[str, Any]:
    return {
        "source": arrival.source,
        "delivery_key": arrival.delivery_key,
        "received_at": arrival.received_at,
        "content_type": arrival.content_type,
        "headers": orjson.dumps(dict(arrival.headers)).decode(),
        "body": arrival.body,
        "state": arrival.state,
        "error": arrival.error,
    }


# Insert, or put a repetition back in the line: folding it again counts it and starts nothing. The very same arrival,
# stored late and then once more from disk, is no repetition. Written out, because SQLAlchemy puts a constructed
# ON CONFLICT together anew for each execution, which costs more than running it.
_INSERT = """
    INSERT INTO deliveries AS known
        (source, delivery_key, received_at, content_type, headers, body, state, error)
    VALUES
        (:source, :delivery_key, :received_at, :content_type, CAST(:headers AS jsonb), :body, :state, :error)
    ON CONFLICT (source, delivery_key) DO UPDATE SET state =
        CASE WHEN known.state = 'folded' AND excluded.state = 'stored' AND excluded.received_at <> known.received_at
        THEN 'stored' ELSE known.state END
"""
_STORE_QUIETLY = text(_INSERT)
_STORE = text(_INSERT + "RETURNING id, xmax = 0 AS is_new")


def _brief(error: BaseException) -> str:
    """One line, without the statement and its parameters, which hold the sender's data."""
    original = getattr(error, "orig", None) or error
    return f"{type(original).__name__}: {' '.join(str(original).split())[:200]}"
