"""Carries out what folding decides: stored deliveries become incidents, in order, one transaction each, once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from reanimate.addresses import Addresses
from reanimate.alerts.components import component_of
from reanimate.alerts.folding import Candidate
from reanimate.alerts.ledger import Ledger
from reanimate.alerts.model import RequestHead
from reanimate.alerts.senders import senders
from reanimate.clock import utcnow
from reanimate.config import Settings
from reanimate.db.tables import Delivery
from reanimate.errors import InputInvalid, is_transient

__all__ = ["Folder"]

log = logging.getLogger(__name__)

_LOCK = 0x666F6C64  # any constant that only folding takes: two web processes must not fold at once
_SWEEP_S = 1.0
_ATTEMPTS = 3
"""A delivery that fails this often for a reason of its own is set aside, so that the others can pass."""

_PASSING = frozenset({"08", "25", "40", "53", "55", "57", "58"})
"""Classes of SQLSTATE that pass: connection, read-only, conflict, resources, locks, operator, system."""

OnOpened = Callable[[str], Awaitable[object]]


class Folder:
    """Folds what is stored, woken by each delivery and sweeping every second for what was missed.

    `on_opened` is started with the id of each new incident, after its transaction is committed; nothing waits for it.
    """

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        settings: Settings,
        addresses: Addresses,
        on_opened: OnOpened | None = None,
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._addresses = addresses
        self._on_opened = on_opened
        self._woken = asyncio.Event()
        self._failures: dict[int, int] = {}
        self._reflexes: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Say that something was stored."""
        self._woken.set()

    async def run(self) -> None:
        """Fold for ever. What was left by a killed process is folded first."""
        while True:
            self._woken.clear()
            try:
                await self.fold_waiting()
            except Exception as error:
                if not _passes(error):
                    raise
                log.warning("folding waits for the record: %s", " ".join(str(error).split())[:200])
                await asyncio.sleep(_SWEEP_S)
                continue
            try:
                async with asyncio.timeout(_SWEEP_S):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def fold_waiting(self) -> int:
        """Fold all that is stored now; return how many deliveries were.

        Raises:
            SQLAlchemyError, OSError: the record does not answer. Nothing is lost, call again.
        """
        count = 0
        while (delivery_id := await self._next_waiting()) is not None:
            try:
                opened = await self._fold(delivery_id)
            except Exception as error:
                if _passes(error):
                    raise
                await self._failed(delivery_id, error)
                continue
            self._failures.pop(delivery_id, None)
            for incident_id in opened:
                self._start_reflex(incident_id)
            count += 1
        return count

    async def _next_waiting(self) -> int | None:
        async with self._sessions() as session:
            found: int | None = await session.scalar(
                select(Delivery.id).where(Delivery.state == "stored").order_by(Delivery.id).limit(1)
            )
            return found

    async def _fold(self, delivery_id: int) -> list[str]:
        """Fold one delivery in one transaction; return the incidents that it opened."""
        async with self._sessions.begin() as session:
            await session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            delivery = await session.get(Delivery, delivery_id, populate_existing=True)
            if delivery is None or delivery.state != "stored":
                return []  # another web process was first
            now = utcnow()
            candidates = self._read(delivery)
            ledger = await Ledger.load(session, delivery_id, candidates, now)
            window = timedelta(seconds=self._settings.incidents.window_s)
            opened = [new for candidate in candidates if (new := await ledger.apply(candidate, window))]
            await ledger.write()
            delivery.state = "folded"
            delivery.folded_at = now
        return opened

    def _read(self, delivery: Delivery) -> list[Candidate]:
        """Read a delivery as at the moment it arrived, so that folding it again finds the same alerts.

        Raises:
            InputInvalid: its sender is unknown here, or cannot read it.
        """
        sender = senders().get(delivery.source)
        if sender is None:
            raise InputInvalid(f"there is no sender called {delivery.source!r} any more")
        head = RequestHead({**delivery.headers, "content-type": delivery.content_type})
        reading = sender.read(head, delivery.body, delivery.received_at)
        return [
            Candidate(
                alert=alert,
                component=component_of(alert.labels, self._settings, self._addresses),
                agent=alert.labels.get("agent") or self._settings.agent.name,
                received_at=delivery.received_at,
            )
            for alert in reading.alerts
        ]

    async def _failed(self, delivery_id: int, error: Exception) -> None:
        """Count a failure that is the delivery's own; after the last attempt keep it for a person to look at."""
        failures = self._failures[delivery_id] = self._failures.get(delivery_id, 0) + 1
        if failures < _ATTEMPTS and not isinstance(error, InputInvalid):
            log.warning("delivery %d could not be folded (%d of %d)", delivery_id, failures, _ATTEMPTS, exc_info=error)
            await asyncio.sleep(0.1)
            return
        log.error("delivery %d cannot be folded and is set aside as unreadable", delivery_id, exc_info=error)
        async with self._sessions.begin() as session:
            delivery = await session.get_one(Delivery, delivery_id)
            delivery.state = "unreadable"
            delivery.error = f"{type(error).__name__}: {' '.join(str(error).replace(chr(0), ' ').split())[:500]}"
        self._failures.pop(delivery_id, None)

    def _start_reflex(self, incident_id: str) -> None:
        if self._on_opened is None:
            return
        task = asyncio.create_task(self._reflex(self._on_opened, incident_id))
        self._reflexes.add(task)
        task.add_done_callback(self._reflexes.discard)

    @staticmethod
    async def _reflex(on_opened: OnOpened, incident_id: str) -> None:
        try:
            await on_opened(incident_id)
        except Exception:  # the incident's flow contains it all the same, a little later
            log.exception("the reflex for %s failed", incident_id)


def _passes(error: Exception) -> bool:
    """Say whether an error is the record's, not the delivery's: such a one is tried again for ever."""
    if isinstance(error, DBAPIError) and (code := getattr(error.orig, "sqlstate", None)):
        return code[:2] in _PASSING
    return isinstance(error, OperationalError | InterfaceError | PoolTimeout | OSError) or is_transient(error)
