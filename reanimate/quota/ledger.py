"""The ledger of quotas in the record: what was read is changed by the rules of `leasing`, and written back in one
statement if nobody else has changed it meanwhile.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from reanimate.db.tables import QuotaAccount
from reanimate.errors import Busy
from reanimate.quota.demand import AccountKey, Ask, Demand, Lent, Reply
from reanimate.quota.glass import Authority, authorities, note_reserve
from reanimate.quota.leasing import Account, Lease, lend

__all__ = ["Ledger", "read_account"]

_KEPT = 20_000
_ATTEMPTS = 8

Known = tuple[int, Account]
"""The version of a row, and what it says."""


class Ledger:
    """Takes demands. What it has read it remembers: mostly, a request is one statement."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # One statement, committed by itself: one round trip less than a transaction.
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._known: OrderedDict[AccountKey, Known] = OrderedDict()
        self._turn = asyncio.Lock()

    async def lend(self, ask: Ask, now: float | None = None) -> Reply:
        """Answer a request, durably.

        Raises:
            Busy: others changed the same accounts again and again.
            SQLAlchemyError, OSError: the record does not answer; nothing was lent.
        """
        now = time.time() if now is None else now
        if not ask.demands:
            return Reply(())
        async with self._turn, self._autocommit.connect() as connection:
            authority = await self._authority(connection, ask.demands, now)
            answers: dict[AccountKey, Lent] = {}
            open_demands = {demand.key: demand for demand in ask.demands}
            for _ in range(_ATTEMPTS):
                await self._read(connection, open_demands)
                changed: dict[AccountKey, tuple[int, Account]] = {}
                for key, demand in open_demands.items():
                    version, account = self._known[key]
                    may = key.pot == "normal" or authority.allows(demand)
                    after, answers[key] = lend(account, ask.gateway, ask.book, ask.seq, demand, now, may=may)
                    if after is not account:
                        changed[key] = (version + 1, after)
                written = await self._write(connection, changed, open_demands, now)
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

    async def _read(self, connection: AsyncConnection, keys: Iterable[AccountKey]) -> None:
        missing = [key for key in keys if key not in self._known]
        if not missing:
            return
        for key in missing:
            self._known[key] = (0, Account())
        rows = await connection.execute(_READ, {"keys": orjson.dumps([key._asdict() for key in missing]).decode()})
        for row in rows:
            self._known[AccountKey(row.quota, row.tenant, row.meter, row.pot, row.starts)] = (
                row.version,
                _account(row.extra, row.settled, row.refused, row.leases),
            )

    async def _write(
        self,
        connection: AsyncConnection,
        changed: dict[AccountKey, Known],
        demands: dict[AccountKey, Demand],
        now: float,
    ) -> set[AccountKey]:
        """Write what changed; return the keys of the rows that were as they had been read."""
        if not changed:
            return set()
        rows = [
            {
                **key._asdict(),
                "ends": demands[key].ends,
                "version": version,
                "limit_amount": demands[key].limit,
                "extra": account.extra,
                "spent": account.spent,
                "held": account.held,
                "settled": account.settled,
                "refused": account.refused_at,
                "leases": _leases_json(account),
                "terms": orjson.Fragment(demands[key].terms),
            }
            for key, (version, account) in changed.items()
        ]
        found = await connection.execute(
            _WRITE, {"rows": orjson.dumps(rows).decode(), "now": datetime.fromtimestamp(now, UTC)}
        )
        return {AccountKey(row.quota, row.tenant, row.meter, row.pot, row.starts) for row in found}


def read_account(row: QuotaAccount) -> Account:
    """Return what a row of the ledger says."""
    refused = row.refused_at.timestamp() if row.refused_at is not None else None
    return _account(row.extra, row.settled, refused, row.leases)


def _account(extra: int, settled: int, refused_at: float | None, leases: dict[str, Any]) -> Account:
    return Account(extra, settled, refused_at, {name: Lease(*values) for name, values in leases.items()})


def _leases_json(account: Account) -> dict[str, list[Any]]:
    return {
        name: [lease.granted, lease.drawn, lease.spent, lease.seq, lease.until]
        for name, lease in account.leases.items()
    }


_KEY = "quota, tenant, meter, pot, extract(epoch FROM starts_at)::bigint AS starts"

_READ = text(f"""
    SELECT {_KEY}, version, extra, settled, extract(epoch FROM refused_at)::float8 AS refused, leases
    FROM quota_accounts
    WHERE (quota, tenant, meter, pot, starts_at) IN (
        SELECT quota, tenant, meter, pot, to_timestamp(starts)
        FROM jsonb_to_recordset(CAST(:keys AS jsonb)) AS k(quota text, tenant text, meter text, pot text, starts float8)
    )
""")

# Rows are locked in one order, so that two writers never wait for each other. `extra` belongs to grants.
_WRITE = text(f"""
    INSERT INTO quota_accounts AS known
        (quota, tenant, meter, pot, starts_at, ends_at, version, limit_amount, extra, spent, held, settled, refused_at,
         leases, terms, changed_at)
    SELECT quota, tenant, meter, pot, to_timestamp(starts), to_timestamp(ends), version, limit_amount, extra, spent,
           held, settled, to_timestamp(refused), leases, terms, :now
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(
        quota text, tenant text, meter text, pot text, starts float8, ends float8, version bigint, limit_amount bigint,
        extra bigint, spent bigint, held bigint, settled bigint, refused float8, leases jsonb, terms jsonb)
    ORDER BY quota, tenant, meter, pot, starts
    ON CONFLICT (quota, tenant, meter, pot, starts_at) DO UPDATE SET
        version = excluded.version, ends_at = excluded.ends_at, limit_amount = excluded.limit_amount,
        spent = excluded.spent, held = excluded.held, settled = excluded.settled, refused_at = excluded.refused_at,
        leases = excluded.leases, terms = excluded.terms, changed_at = excluded.changed_at
        WHERE known.version = excluded.version - 1
    RETURNING {_KEY}
""")
