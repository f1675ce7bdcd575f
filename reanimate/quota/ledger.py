"""The ledger of quotas in the record: what was read is changed by the rules of `leasing`, and written back in one
statement if nobody else has changed it meanwhile.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from reanimate.errors import Busy, Unreachable
from reanimate.quota.demand import AccountKey, Ask, Demand, Lent, Reply
from reanimate.quota.glass import Authority, authorities, note_reserve
from reanimate.quota.leasing import Account, lend
from reanimate.quota.rows import FAILURES, Known, Rows

__all__ = ["Ledger"]

_KEPT = 20_000
_ATTEMPTS = 8
_PAUSE_S = 0.5
"""After a failure, so that requests do not queue up for a database that hangs."""


class Ledger:
    """Takes demands. What it has read it remembers: mostly, a request is one statement."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._rows = Rows(engine)
        self._known: OrderedDict[AccountKey, Known] = OrderedDict()
        self._turn = asyncio.Lock()
        self._away_until = 0.0

    async def lend(self, ask: Ask, now: float | None = None) -> Reply:
        """Answer a request, durably.

        Raises:
            Busy: others changed the same accounts again and again.
            Unreachable: the record does not answer; nothing was lent.
        """
        now = time.time() if now is None else now
        async with self._turn:
            if time.monotonic() < self._away_until:
                raise Unreachable("the ledger of quotas did not answer just now")
            for last in (False, True):
                try:
                    return await self._lend(ask, now)
                except FAILURES as error:
                    # Also of a connection that broke while nobody used it. What was written is found and changed by
                    # nothing: the demands are totals.
                    await self._let_go()
                    if last:
                        self._away_until = time.monotonic() + _PAUSE_S
                        brief = " ".join(str(error).split())[:200]
                        raise Unreachable(f"the ledger of quotas does not answer: {brief}") from error
                except asyncio.CancelledError:
                    await self._let_go()
                    raise
        raise AssertionError("unreachable")

    async def _let_go(self) -> None:
        with contextlib.suppress(*FAILURES):
            await self._rows.close()

    async def close(self) -> None:
        """Let the connection go."""
        async with self._turn:
            await self._let_go()

    async def _lend(self, ask: Ask, now: float) -> Reply:
        connection = await self._rows.connection()
        authority = await self._authority(connection, ask.demands, now)
        answers: dict[AccountKey, Lent] = {}
        open_demands = {demand.key: demand for demand in ask.demands}
        for _ in range(_ATTEMPTS):
            if missing := [key for key in open_demands if key not in self._known]:
                self._known.update(await self._rows.read(missing))
            changed: dict[AccountKey, tuple[int, Account]] = {}
            for key, demand in open_demands.items():
                version, account = self._known[key]
                may = key.pot == "normal" or authority.allows(demand)
                after, answers[key] = lend(account, ask.gateway, ask.book, ask.seq, demand, now, may=may)
                if after is not account:
                    changed[key] = (version + 1, after)
            written = await self._rows.write(changed, open_demands, now)
            for key in written:
                self._known[key] = changed[key]
            lost = changed.keys() - written
            if not lost:
                break
            for key in lost:
                del self._known[key]
            open_demands = {key: open_demands[key] for key in lost}
        else:
            raise Busy(f"{_ATTEMPTS} attempts to change {len(open_demands)} accounts found them changed by others")
        answers = await self._with_glass(connection, ask, answers, authority, now)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return Reply(tuple(answers[demand.key] for demand in ask.demands))

    async def _authority(self, connection: AsyncConnection, demands: Iterable[Demand], now: float) -> Authority:
        """Look up who may use reserves, only when somebody asks for one."""
        incidents = {demand.incident for demand in demands if demand.incident}
        if incidents or any(demand.key.pot == "reserve" for demand in demands):
            return await authorities(connection, incidents, now)
        return Authority({}, frozenset())

    async def _with_glass(
        self, connection: AsyncConnection, ask: Ask, answers: dict[AccountKey, Lent], authority: Authority, now: float
    ) -> dict[AccountKey, Lent]:
        """Say with what was refused, and with reserves, until when the glass is broken; write down what they lend."""
        out = [
            demand
            for demand in ask.demands
            if demand.key.pot == "reserve" or (demand.reserve and answers[demand.key].refused)
        ]
        if not out:
            return answers
        if not authority.asked:
            authority = await authorities(connection, frozenset(), now)
        told = dict(answers)
        for demand in out:
            lent = told[demand.key]
            told[demand.key] = replace(lent, open_until=authority.open_until(demand.key))
            if demand.key.pot == "reserve" and lent.granted > demand.hold:
                await note_reserve(connection, demand, lent.granted - demand.hold, authority, ask.gateway, now)
        return told
