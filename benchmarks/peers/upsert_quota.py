"""The peer of quota: one conditional upsert in Postgres for each call, as a careful person would write it.

Atomic and durable, with a connection pool: it never passes the limit, forgets nothing, and asks nobody twice. What it
reserved is corrected by a second statement when the call has ended.
"""

from psycopg_pool import AsyncConnectionPool

__all__ = ["UpsertQuota"]


class UpsertQuota:
    """A limit of tokens, in one row."""

    def __init__(self, pool: AsyncConnectionPool, limit: int) -> None:
        self._pool = pool
        self._limit = limit

    async def prepare(self) -> None:
        async with self._pool.connection() as connection:
            await connection.execute("CREATE TABLE IF NOT EXISTS upsert_quota (name text PRIMARY KEY, spent bigint)")

    async def reserve(self, name: str, tokens: int) -> bool:
        """Reserve, or say that there is not enough left."""
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "INSERT INTO upsert_quota AS q VALUES (%s, %s) ON CONFLICT (name) DO UPDATE "
                "SET spent = q.spent + excluded.spent WHERE q.spent + excluded.spent <= %s RETURNING spent",
                (name, tokens, self._limit),
            )
            return await found.fetchone() is not None

    async def settle(self, name: str, difference: int) -> None:
        """Put what was used in the place of what was reserved."""
        async with self._pool.connection() as connection:
            await connection.execute("UPDATE upsert_quota SET spent = spent + %s WHERE name = %s", (difference, name))
