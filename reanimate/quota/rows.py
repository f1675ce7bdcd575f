"""The rows of the ledger in Postgres, read and written over one connection that is kept: a pool would cost as much as
the statement.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import psycopg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from reanimate.db.tables import QuotaAccount
from reanimate.quota.demand import AccountKey, Demand
from reanimate.quota.leasing import Account, Lease

__all__ = ["FAILURES", "Known", "Rows", "read_account"]

FAILURES = (SQLAlchemyError, psycopg.Error, OSError)
"""Postgres is away, refuses, or is not what it should be."""

Known = tuple[int, Account]
"""The version of a row, and what it says."""


class Rows:
    """For one user at a time. After a failure, `close` and use it again."""

    def __init__(self, engine: AsyncEngine) -> None:
        # One statement, committed by itself: one round trip less than a transaction.
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._held: AsyncConnection | None = None
        self._driver: psycopg.AsyncConnection[Any] | None = None

    async def connection(self) -> AsyncConnection:
        """Return the connection, for statements that are asked rarely."""
        if self._held is None:
            self._held = await self._autocommit.connect()
            self._driver = (await self._held.get_raw_connection()).driver_connection
        return self._held

    async def close(self) -> None:
        """Let the connection go; it is not used by anybody else after a failure."""
        held, self._held, self._driver = self._held, None, None
        if held is not None:
            try:
                await held.invalidate()
            finally:
                await held.close()

    async def _execute(self, statement: bytes, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        await self.connection()
        assert self._driver is not None
        return await (await self._driver.execute(statement, values)).fetchall()

    async def read(self, keys: Iterable[AccountKey]) -> dict[AccountKey, Known]:
        """Return what the rows of these keys say; one that is not there yet has version 0."""
        wanted = list(keys)
        known: dict[AccountKey, Known] = dict.fromkeys(wanted, (0, Account()))
        found = await self._execute(_READ, {"keys": orjson.dumps([key._asdict() for key in wanted]).decode()})
        for quota, tenant, meter, pot, starts, version, extra, settled, refused, leases in found:
            key = AccountKey(quota, tenant, meter, pot, starts)
            known[key] = (version, _account(extra, settled, refused, leases))
        return known

    async def write(
        self, changed: Mapping[AccountKey, Known], demands: Mapping[AccountKey, Demand], now: float
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
                "leases": _leases(account),
                "terms": orjson.Fragment(demands[key].terms),
            }
            for key, (version, account) in changed.items()
        ]
        values = {"rows": orjson.dumps(rows).decode(), "now": datetime.fromtimestamp(now, UTC)}
        return {AccountKey(*row) for row in await self._execute(_WRITE, values)}


def read_account(row: QuotaAccount) -> Account:
    """Return what a row of the ledger says."""
    refused = row.refused_at.timestamp() if row.refused_at is not None else None
    return _account(row.extra, row.settled, refused, row.leases)


def _account(extra: int, settled: int, refused_at: float | None, leases: dict[str, Any]) -> Account:
    return Account(extra, settled, refused_at, {name: Lease(*values) for name, values in leases.items()})


def _leases(account: Account) -> dict[str, list[Any]]:
    return {
        name: [lease.granted, lease.drawn, lease.spent, lease.seq, lease.until]
        for name, lease in account.leases.items()
    }


_KEY = "quota, tenant, meter, pot, extract(epoch FROM starts_at)::bigint AS starts"

_READ = f"""
    SELECT {_KEY}, version, extra, settled, extract(epoch FROM refused_at)::float8 AS refused, leases
    FROM quota_accounts
    WHERE (quota, tenant, meter, pot, starts_at) IN (
        SELECT quota, tenant, meter, pot, to_timestamp(starts)
        FROM jsonb_to_recordset(CAST(%(keys)s AS jsonb))
            AS k(quota text, tenant text, meter text, pot text, starts float8)
    )
""".encode()

# Rows are locked in one order, so that two writers never wait for each other. `extra` belongs to grants.
_WRITE = f"""
    INSERT INTO quota_accounts AS known
        (quota, tenant, meter, pot, starts_at, ends_at, version, limit_amount, extra, spent, held, settled, refused_at,
         leases, terms, changed_at)
    SELECT quota, tenant, meter, pot, to_timestamp(starts), to_timestamp(ends), version, limit_amount, extra, spent,
           held, settled, to_timestamp(refused), leases, terms, %(now)s
    FROM jsonb_to_recordset(CAST(%(rows)s AS jsonb)) AS r(
        quota text, tenant text, meter text, pot text, starts float8, ends float8, version bigint, limit_amount bigint,
        extra bigint, spent bigint, held bigint, settled bigint, refused float8, leases jsonb, terms jsonb)
    ORDER BY quota, tenant, meter, pot, starts
    ON CONFLICT (quota, tenant, meter, pot, starts_at) DO UPDATE SET
        version = excluded.version, ends_at = excluded.ends_at, limit_amount = excluded.limit_amount,
        spent = excluded.spent, held = excluded.held, settled = excluded.settled, refused_at = excluded.refused_at,
        leases = excluded.leases, terms = excluded.terms, changed_at = excluded.changed_at
        WHERE known.version = excluded.version - 1
    RETURNING {_KEY}
""".encode()
