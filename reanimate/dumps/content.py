"""What is in the rows: counts and order-independent hashes, computed by the server so that no row travels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from psycopg import AsyncConnection
from psycopg.sql import SQL, Composable, Identifier, Literal

from reanimate.dumps.facts import LargeObjects, SequenceFacts, TableFacts
from reanimate.dumps.login import Login
from reanimate.dumps.running import together

__all__ = [
    "HowToRead",
    "TableToRead",
    "prepare",
    "read_large_objects",
    "read_sequences",
    "read_tables",
    "read_tables_at_once",
    "sequence_facts",
    "tables_to_read",
]

# Under these settings the same row has the same text everywhere, and there is no limit but that on locks. With row
# security off, a user who would see only a part of a table gets an error, not the part.
_PREPARE = (
    "SET search_path = ''",
    "SET datestyle = 'ISO, YMD'",
    "SET intervalstyle = 'postgres'",
    "SET timezone = 'UTC'",
    "SET extra_float_digits = 3",
    "SET bytea_output = 'hex'",
    "SET xmlbinary = 'base64'",
    "SET lc_monetary = 'C'",
    "SET client_encoding = 'UTF8'",
    "SET quote_all_identifiers = off",
    "SET row_security = off",
    "SET statement_timeout = 0",
    "SET idle_in_transaction_session_timeout = 0",
    "SET lock_timeout = '30s'",
)

# Tables of extensions come with the extension; what is dumped of them is the extension's own choice.
_TABLES = """
    SELECT c.oid::bigint, n.nspname, c.relname, coalesce(pg_table_size(c.oid), 0),
      ARRAY(SELECT a.attname::text FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attname),
      ARRAY(SELECT a.attname::text FROM pg_index x, unnest(x.indkey) k, pg_attribute a
            WHERE x.indrelid = c.oid AND x.indisprimary AND a.attrelid = c.oid AND a.attnum = k ORDER BY a.attname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname !~ '^pg_(toast|temp|catalog$)' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend e
                      WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
    ORDER BY n.nspname, c.relname"""

_SEQUENCES = """
    SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'S' AND n.nspname !~ '^pg_(toast|temp|catalog$)' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend e
                      WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
    ORDER BY 1, 2"""

_AT_ONCE = 200

# Each is read in pieces of a megabyte until one is shorter, so that one of any size needs little memory.
_LARGE_OBJECTS = """
    WITH RECURSIVE pieces AS (
      SELECT m.oid, 0::bigint AS piece, length(d.bytes) AS size, sha256(d.bytes) AS digest
      FROM pg_largeobject_metadata m, LATERAL (SELECT lo_get(m.oid, 0, 1048576) AS bytes OFFSET 0) d
      UNION ALL
      SELECT p.oid, p.piece + 1, length(d.bytes), sha256(d.bytes)
      FROM pieces p, LATERAL (SELECT lo_get(p.oid, (p.piece + 1) * 1048576, 1048576) AS bytes OFFSET 0) d
      WHERE p.size = 1048576)
    SELECT count(*) FILTER (WHERE piece = 0),
      coalesce(sum(hashtextextended(concat_ws(' ', oid, piece, size, encode(digest, 'hex')), 0)), 0)::text
    FROM pieces"""


async def prepare(connection: AsyncConnection) -> None:
    """Give a session the settings under which rows have one text."""
    newer = ["SET transaction_timeout = 0"] if connection.info.server_version >= 170000 else []
    for statement in (*_PREPARE, *newer):
        await connection.execute(statement.encode())


@dataclass(frozen=True)
class TableToRead:
    """A table as found in the catalog, before its rows are read."""

    oid: int
    namespace: str
    name: str
    size: int
    columns: tuple[str, ...]
    key: tuple[str, ...]

    @property
    def identifier(self) -> Identifier:
        return Identifier(self.namespace, self.name)

    @property
    def label(self) -> str:
        return f"{self.namespace}.{self.name}"

    def one_in(self, hash_limit: int) -> int:
        """Return how many rows stand for one hashed row; without a key there is no sample, and all are hashed."""
        return max(1, -(-self.size // hash_limit)) if self.key else 1


async def tables_to_read(connection: AsyncConnection) -> list[TableToRead]:
    """Return the tables whose rows a dump holds; a partitioned table's rows are in its partitions."""
    rows = await (await connection.execute(_TABLES.encode())).fetchall()
    return [
        TableToRead(oid, namespace, name, size, tuple(columns), tuple(key))
        for oid, namespace, name, size, columns, key in rows
    ]


@dataclass(frozen=True)
class HowToRead:
    """A table, and how its rows are hashed."""

    table: TableToRead
    one_in: int
    key: Sequence[str]


async def read_tables(
    connection: AsyncConnection, wanted: Sequence[HowToRead], on_progress: Callable[[int, int], None] | None = None
) -> list[TableFacts]:
    """Count and hash tables, one after the other, in the transaction that the connection is in."""
    total, done, found = sum(how.table.size for how in wanted), 0, []
    for how in wanted:
        found.append(await _read_content(connection, how.table, one_in=how.one_in, key=how.key))
        done += how.table.size
        if on_progress:
            on_progress(done, total)
    return found


async def read_tables_at_once(
    login: Login,
    wanted: Sequence[HowToRead],
    *,
    jobs: int = 4,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[TableFacts]:
    """Count and hash tables over several connections; of a database that nobody writes to.

    Raises:
        ReanimateError: as `Login.connect`.
    """
    waiting = sorted(wanted, key=lambda how: how.table.size)
    total, done, found = sum(how.table.size for how in wanted), 0, list[TableFacts]()

    async def work() -> None:
        nonlocal done
        async with login.connect() as connection:
            await prepare(connection)
            while waiting:
                how = waiting.pop()
                found.extend(await read_tables(connection, [how]))
                done += how.table.size
                if on_progress:
                    on_progress(done, total)

    await together(*(work() for _ in range(min(jobs, len(wanted)))))
    return found


async def _read_content(
    connection: AsyncConnection, table: TableToRead, *, one_in: int, key: Sequence[str]
) -> TableFacts:
    """Count a table's rows and hash them, or one in `one_in` of them, drawn by `key`."""
    query = SQL("SELECT count(*), coalesce(sum({hash}){filter}, 0)::text FROM ONLY {table} AS r").format(
        hash=_hash(table.columns),
        filter=SQL(" FILTER (WHERE mod({}, {}) = 0)").format(_hash(key), Literal(one_in)) if one_in > 1 else SQL(""),
        table=table.identifier,
    )
    row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return TableFacts(
        oid=table.oid,
        namespace=table.namespace,
        name=table.name,
        rows=row[0],
        content=row[1],
        one_in=one_in,
        key=list(key) if one_in > 1 else [],
    )


def _hash(columns: Sequence[str]) -> Composable:
    """Hash the columns in the order of their names: a restore may put those of an inheriting table in another."""
    fields = SQL(", ").join(SQL("r.{}").format(Identifier(column)) for column in sorted(columns))
    return SQL('hashtextextended(ROW({})::text COLLATE "C", 0)').format(fields)


async def read_large_objects(connection: AsyncConnection) -> LargeObjects:
    """Count the large objects and hash their bytes; the connection must be in a transaction."""
    row = await (await connection.execute(_LARGE_OBJECTS.encode())).fetchone()
    assert row is not None
    return LargeObjects(count=row[0], content=row[1])


async def read_sequences(connection: AsyncConnection) -> dict[tuple[str, str], tuple[int, bool]]:
    """Return where every sequence stands: its value, and whether that was given out already."""
    names = await (await connection.execute(_SEQUENCES.encode())).fetchall()
    found: dict[tuple[str, str], tuple[int, bool]] = {}
    for at in range(0, len(names), _AT_ONCE):
        query = SQL(" UNION ALL ").join(
            SQL("SELECT {}, {}, last_value, is_called FROM {}").format(
                Literal(namespace), Literal(name), Identifier(namespace, name)
            )
            for namespace, name in names[at : at + _AT_ONCE]
        )
        for namespace, name, value, called in await (await connection.execute(query)).fetchall():
            found[namespace, name] = (value, called)
    return found


def sequence_facts(
    before: dict[tuple[str, str], tuple[int, bool]], after: dict[tuple[str, str], tuple[int, bool]]
) -> list[SequenceFacts]:
    """Put two readings together; a sequence made or dropped meanwhile is not of this snapshot."""
    return [
        SequenceFacts(
            namespace=namespace,
            name=name,
            before=before[namespace, name][0],
            after=after[namespace, name][0],
            called_before=before[namespace, name][1],
            called_after=after[namespace, name][1],
        )
        for namespace, name in before
        if (namespace, name) in after
    ]
