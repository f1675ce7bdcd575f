"""Carries out what folding decides: stored deliveries become incidents, in order and exactly once."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from sqlalchemy import func, select, update
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
_PAUSE_S = 0.05
_BATCH = 50
"""So many deliveries share a transaction: in a storm that is what keeps the processor free for accepting more."""
_ATTEMPTS = 3
"""A delivery that fails this often for a reason of its own is set aside."""

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
        self._reflexes: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Say that something was stored."""
        self._woken.set()

    async def run(self) -> None:
        """Fold for ever. What was left by a killed process is folded first."""
        while True:
            self._woken.clear()
            began = time.monotonic()
            try:
                if await self.fold_waiting():
                    # In a storm, accepting comes first: what arrives in this pause is folded together, for less.
                    await asyncio.sleep(min(time.monotonic() - began, _PAUSE_S))
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
        while waiting := await self._waiting(_BATCH):
            try:
                count += await self._fold(waiting)
            except Exception as error:
                if _passes(error):
                    raise
                count += await self._fold_singly(waiting)
            if len(waiting) < _BATCH:
                break
        return count

    async def _waiting(self, limit: int) -> Sequence[int]:
        async with self._sessions() as session:
            found = await session.scalars(
                select(Delivery.id).where(Delivery.state == "stored").order_by(Delivery.id).limit(limit)
            )
            return found.all()

    async def _fold_singly(self, ids: Sequence[int]) -> int:
        """Fold one by one what failed together, and find out whose fault it is; return how many were folded."""
        count = 0
        for delivery_id in ids:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    count += await self._fold([delivery_id])
                    break
                except Exception as error:
                    if _passes(error):
                        raise
                    last = attempt == _ATTEMPTS or isinstance(error, InputInvalid)
                    if last:
                        await self._set_aside(delivery_id, error)
                        break
                    log.warning("delivery %d could not be folded, attempt %d", delivery_id, attempt, exc_info=error)
                    await asyncio.sleep(0.1)
        return count

    async def _fold(self, ids: Sequence[int]) -> int:
        """Fold deliveries in order, in one transaction; return how many were. Reflexes start when it is committed."""
        async with self._sessions.begin() as session:
            await session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            # Asked again under the lock: another web process may have been first.
            found = await session.scalars(
                select(Delivery).where(Delivery.id.in_(ids), Delivery.state == "stored").order_by(Delivery.id)
            )
            deliveries = found.all()
            now = utcnow()
            candidates = [candidate for delivery in deliveries for candidate in self._read(delivery)]
            ledger = await Ledger.load(session, candidates, now)
            window = timedelta(seconds=self._settings.incidents.window_s)
            opened = [new for candidate in candidates if (new := await ledger.apply(candidate, window))]
            await ledger.write()
            await session.execute(
                update(Delivery)
                .where(Delivery.id.in_([delivery.id for delivery in deliveries]))
                .values(state="folded", folded_at=now)
                .execution_options(synchronize_session=False)
            )
        for incident_id in opened:
            self._start_reflex(incident_id)
        return len(deliveries)

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
                delivery_id=delivery.id,
                received_at=delivery.received_at,
            )
            for alert in reading.alerts
        ]

    async def _set_aside(self, delivery_id: int, error: Exception) -> None:
        """Keep a delivery that cannot be folded for a person to look at, so that the others can pass."""
        log.error("delivery %d cannot be folded and is set aside as unreadable", delivery_id, exc_info=error)
        said = f"{type(error).__name__}: {' '.join(str(error).replace(chr(0), ' ').split())[:500]}"
        async with self._sessions.begin() as session:
            await session.execute(
                update(Delivery).where(Delivery.id == delivery_id).values(state="unreadable", error=said)
            )

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
