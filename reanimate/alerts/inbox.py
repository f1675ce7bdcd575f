"""The durable inbox: every delivery is in Postgres, or on disk until Postgres answers, before its sender is told so."""

import asyncio
import logging
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Executable, case, literal_column, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DataError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from reanimate.alerts.model import Arrival
from reanimate.alerts.spool import Spool
from reanimate.db.tables import Delivery
from reanimate.errors import Unreachable

__all__ = ["Accepted", "Inbox", "Outcome"]

log = logging.getLogger(__name__)

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
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._spool = spool
        self._patience_s = patience_s
        self._reachable = True
        self._underway: set[asyncio.Task[Accepted]] = set()

    async def put(self, arrival: Arrival) -> Accepted:
        """Store `arrival` durably, once per (source, delivery key).

        Raises:
            Unreachable: neither Postgres nor the disk took it; the sender must try again.
        """
        if self._reachable:
            try:
                return await self._store_within_patience(arrival)
            except _FAILURES as error:
                self._reachable = False
                log.warning("the record does not take deliveries (%s); they go to disk", _brief(error))
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
        for path, arrival in await asyncio.to_thread(lambda: list(self._spool.read())):
            try:
                await self._store_within_patience(arrival)
            except DataError as error:
                await asyncio.to_thread(self._spool.set_aside, path, _brief(error))
            except _FAILURES as error:
                log.warning("the record still does not take deliveries: %s", _brief(error))
                return done
            else:
                await asyncio.to_thread(self._spool.remove, path)
            done += 1
        if not self._reachable and await self._answers():
            self._reachable = True
            log.info("the record takes deliveries again")
        return done

    async def waiting_on_disk(self) -> int:
        """Return how many deliveries are spooled."""
        return len(await asyncio.to_thread(self._spool.waiting))

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(self._patience_s), self._engine.connect() as connection:
                await connection.execute(select(1))
        except _FAILURES:
            return False
        return True

    async def _store_within_patience(self, arrival: Arrival) -> Accepted:
        """Wait for Postgres no longer than our patience.

        A statement that is late is left to end by itself: cancelling it would wait for the server too. Should it come
        through after all, the delivery on disk finds itself known.
        """
        task = asyncio.create_task(self._store(arrival))
        self._underway.add(task)
        task.add_done_callback(self._forget)
        done, _ = await asyncio.wait({task}, timeout=self._patience_s)
        if not done:
            raise TimeoutError(f"no answer within {self._patience_s:g} s")
        return task.result()

    def _forget(self, task: "asyncio.Task[Accepted]") -> None:
        self._underway.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has seen it; one that came too late has been replaced by the disk

    async def _store(self, arrival: Arrival) -> Accepted:
        values = {
            "source": arrival.source,
            "delivery_key": arrival.delivery_key,
            "received_at": arrival.received_at,
            "content_type": arrival.content_type,
            "headers": dict(arrival.headers),
            "body": arrival.body,
            "state": arrival.state,
            "error": arrival.error,
        }
        async with self._engine.connect() as connection:
            found = (await connection.execute(_STORE, values)).one()
        return Accepted(Outcome.STORED if found.is_new else Outcome.DUPLICATE, found.id)


def _statement() -> Executable:
    """Insert, or put a repetition back in the line: folding it again counts it and starts nothing."""
    row = insert(Delivery)
    again = (Delivery.state == "folded") & (row.excluded.state == "stored")
    return row.on_conflict_do_update(
        index_elements=["source", "delivery_key"],
        set_={"state": case((again, "stored"), else_=Delivery.state)},
    ).returning(Delivery.id, literal_column("xmax = 0").label("is_new"))


_STORE = _statement()
"""Made once: putting it together costs more than running it."""


def _brief(error: BaseException) -> str:
    """One line, without the statement and its parameters, which hold the sender's data."""
    original = getattr(error, "orig", None) or error
    return f"{type(original).__name__}: {' '.join(str(original).split())[:200]}"
