"""A database with everything that a dump must carry: odd names, all kinds of types, objects and large objects."""

import secrets
from pathlib import Path

from psycopg.sql import SQL, Identifier

from reanimate.clock import utcnow
from reanimate.dumps.dump import dump_database
from reanimate.dumps.login import Login, maintenance
from reanimate.dumps.making import drop_database
from reanimate.dumps.markers import Stage, databases_of
from reanimate.dumps.programs import Programs
from reanimate.dumps.restore import Beside, DumpToRestore, restore_beside

__all__ = ["Databases", "comment", "dumped", "fill", "query", "restored", "stages"]

_STATEMENTS = (
    "CREATE EXTENSION pg_trgm",
    "CREATE EXTENSION vector",
    'CREATE SCHEMA "Größe ""x"" y"',
    "CREATE TYPE mood AS ENUM ('fine', 'so ''so''', 'bad')",
    "CREATE DOMAIN percent AS numeric(5,2) CHECK (VALUE BETWEEN 0 AND 100) NOT NULL",
    "CREATE TYPE span AS RANGE (subtype = timestamptz)",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE COLLATION unlike (locale = 'C')",
    """CREATE TABLE notes (
        id bigint GENERATED ALWAYS AS IDENTITY (START 10 INCREMENT 7) PRIMARY KEY,
        kind varchar(10) NOT NULL DEFAULT 'a' CHECK (kind IN ('a', 'b', 'c c')),
        body text, tags text[], meta jsonb, raw bytea, amount numeric(30,10), weight float8, at timestamptz,
        during tstzrange, how mood, share percent, both_ pair, doc json, addr inet, took interval, embedding vector(3),
        price money, words tsvector GENERATED ALWAYS AS (to_tsvector('simple', coalesce(body, ''))) STORED)""",
    "COMMENT ON TABLE notes IS 'what the agent said''s'",
    "COMMENT ON COLUMN notes.body IS 'its words'",
    "CREATE INDEX notes_words ON notes USING gin (words)",
    "CREATE INDEX notes_trigrams ON notes USING gin (body gin_trgm_ops)",
    "CREATE INDEX notes_partly ON notes (kind, lower(body)) WHERE kind IN ('a', 'b')",
    """INSERT INTO notes (kind, body, tags, meta, raw, amount, weight, at, during, how, share, both_, doc, addr, took,
            embedding, price)
        SELECT CASE n % 3 WHEN 0 THEN 'a' WHEN 1 THEN 'b' ELSE 'c c' END,
            CASE WHEN n % 11 = 0 THEN NULL ELSE 'Zeile ' || n || E' \\t\\n\\\\ "ü" 日本' END,
            ARRAY['x', NULL, 'a,"b', n::text], jsonb_build_object('n', n, 'list', jsonb_build_array(1, null, 'é')),
            decode(lpad(to_hex(n), 8, '0'), 'hex'), n::numeric / 7, n / 3.0::float8 * 1e-7,
            timestamptz '2026-03-29 00:30+01' + n * interval '17 minutes',
            tstzrange('2026-01-01', timestamptz '2026-01-01' + n * interval '1 h'),
            (ARRAY['fine', 'so ''so''', 'bad'])[1 + n % 3]::mood, n % 101, ROW(n, 'b' || n)::pair,
            ('{"n" :  ' || n || '}')::json, '10.0.0.1', n * interval '1 month 3 days', ARRAY[n, 1.5, -n]::vector,
            n::numeric::money
        FROM generate_series(1, {rows}) n""",
    'CREATE TABLE "Größe ""x"" y"."Tisch; DROP ""z""" ("r" int, "Spalte ""q""" text, r2 text COLLATE unlike)',
    """INSERT INTO "Größe ""x"" y"."Tisch; DROP ""z""\" 
        VALUES (1, 'eins', 'A'), (NULL, NULL, NULL), (1, 'eins', 'A')""",
    "CREATE TABLE events (at date NOT NULL, n int, PRIMARY KEY (at, n)) PARTITION BY RANGE (at)",
    "CREATE TABLE events_old PARTITION OF events FOR VALUES FROM (MINVALUE) TO ('2026-01-01')",
    "CREATE TABLE events_new PARTITION OF events DEFAULT",
    "INSERT INTO events SELECT date '2025-12-01' + n % 60, n FROM generate_series(1, 200) n",
    "CREATE TABLE refers (at date, n int, FOREIGN KEY (at, n) REFERENCES events)",
    "CREATE TABLE parent (a int, b text)",
    "CREATE TABLE child (c int) INHERITS (parent)",
    "INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (2, 'c', 3)",
    "CREATE TABLE nothing ()",
    "CREATE UNLOGGED TABLE quick (n int); INSERT INTO quick VALUES (1)",
    "CREATE VIEW short AS SELECT id, left(body, 10) AS body FROM notes WHERE kind IN ('a', 'c c')",
    "CREATE MATERIALIZED VIEW kinds AS SELECT kind, count(*) AS n FROM notes GROUP BY kind",
    "CREATE MATERIALIZED VIEW later AS SELECT 1 AS one WITH NO DATA",
    "CREATE SEQUENCE \"Odd seq\" START 5 INCREMENT -3 MINVALUE -1000 MAXVALUE 50 CYCLE",
    "SELECT nextval('\"Odd seq\"'), nextval('\"Odd seq\"')",
    "CREATE SEQUENCE untouched START 42",
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.body := NEW.body || ''; RETURN NEW; END$$",
    "CREATE TRIGGER touched BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION touch()",
    "CREATE FUNCTION twice(n int DEFAULT 1) RETURNS int LANGUAGE sql IMMUTABLE RETURN n * 2",
    "CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0')",
    "CREATE STATISTICS notes_stat ON kind, how FROM notes",
    "CREATE RULE kept AS ON DELETE TO quick DO INSTEAD NOTHING",
    "ALTER TABLE refers ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY own ON refers USING (n > 0)",
    "SELECT lo_from_bytea(0, decode(repeat('00ff41', 700000), 'hex')), lo_from_bytea(0, '')",
)  # fmt: skip


async def fill(login: Login, *, rows: int = 300, vectors: bool = True) -> None:
    """Put everything into the database; without `vectors`, an array in place of what an extension brings."""
    async with login.connect() as connection:
        for statement in _STATEMENTS:
            if not vectors:
                if statement == "CREATE EXTENSION vector":
                    continue
                statement = statement.replace("vector(3)", "float8[]").replace("::vector", "::float8[]")
            await connection.execute(statement.replace("{rows}", str(rows)).encode())


class Databases:
    """Makes databases on a server, and drops them with everything that restores made of them."""

    def __init__(self, admin: Login) -> None:
        self.admin = admin
        self._made: list[str] = []

    async def make(self, name: str | None = None) -> Login:
        """Create an empty database."""
        login = self.admin.at(name or f"db_{secrets.token_hex(4)}")
        self._made.append(login.database)
        async with maintenance(login) as connection:
            await connection.execute(SQL("CREATE DATABASE {}").format(Identifier(login.database)))
        return login

    async def small(self, rows: int = 1000) -> Login:
        """Create one with a table of that many rows."""
        login = await self.make()
        await query(login, "CREATE TABLE t (id int PRIMARY KEY, n int, body text)")
        await query(login, f"INSERT INTO t SELECT g, 0, repeat(md5(g::text), 10) FROM generate_series(1, {rows}) g")
        return login

    async def names(self, login: Login) -> set[str]:
        """Return the databases whose names begin with that of `login`."""
        rows = await query(self.admin, "SELECT datname FROM pg_database")
        return {str(name) for (name,) in rows if str(name).startswith(login.database)}

    async def clean(self) -> None:
        async with self.admin.connect() as connection:
            for made in self._made:
                for name in await self.names(self.admin.at(made)):
                    await drop_database(connection, name)


async def query(login: Login, statement: str) -> list[tuple[object, ...]]:
    """Run a statement and return its rows."""
    async with login.connect() as connection:
        cursor = await connection.execute(statement.encode())
        return await cursor.fetchall() if cursor.description else []


async def dumped(login: Login, folder: Path, programs: list[Programs]) -> DumpToRestore:
    """Dump a database into a folder."""
    found = await dump_database(login, folder / "x.dump", programs)
    return DumpToRestore(found.file, "20261126T000000Z-x-0000", found.facts, int(found.made_by.split(".")[0]))


async def restored(login: Login, folder: Path, programs: list[Programs]) -> Beside:
    """Dump a database and restore it beside itself."""
    return await restore_beside(login, await dumped(login, folder, programs), programs, utcnow())


async def stages(login: Login) -> list[Stage]:
    """Return what the databases are that restores of this one made or set aside, newest first."""
    async with maintenance(login) as connection:
        return [marked.stage for marked in await databases_of(connection, login.database)]


async def comment(login: Login) -> object:
    """Return the comment on a database."""
    rows = await query(
        login, "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
    )
    return rows[0][0]
