"""Dumps of real Postgres databases: one snapshot, everything in it, published whole or not at all."""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
from obstore.store import LocalStore
from rich_database import Databases, fill, query

from reanimate.backups.catalog import Catalog
from reanimate.clock import utcnow
from reanimate.dumps.archive import check_archive, list_archive
from reanimate.dumps.backup import sweep_unfinished, take_dump
from reanimate.dumps.dump import Dumped, dump_database
from reanimate.dumps.login import Login
from reanimate.dumps.manifest import PostgresManifest
from reanimate.dumps.programs import Programs
from reanimate.errors import Busy, ConfigInvalid, Damaged, NotFound, Refused, Unreachable

ODD = "Agent \"ä\" 'b'; -- 日"


@pytest.fixture(scope="module")
async def rich(databases: Databases) -> Login:
    """A database with an odd name and everything in it. Read only."""
    login = await databases.make(ODD)
    await fill(login)
    return login


async def test_dump__says_everything(rich: Login, programs: list[Programs], catalog: Catalog) -> None:
    """Counts, sequences, large objects, extensions and objects are in the manifest, and one dump in the store."""
    stages: list[str] = []
    published = await take_dump(
        rich, "agent", catalog, programs, on_progress=lambda stage, done, total: stages.append(stage)
    )
    facts = published.manifest.facts
    rows = {table.label: table.rows for table in facts.tables}
    assert rows["public.notes"] == 300
    assert rows['Größe "x" y.Tisch; DROP "z"'] == 3
    assert rows["public.events_old"] + rows["public.events_new"] == 200
    assert (rows["public.parent"], rows["public.child"], rows["public.nothing"]) == (1, 1, 0)
    assert "public.events" not in rows  # its rows are in its partitions
    assert facts.large_objects.count == 2
    assert {extension.name for extension in facts.extensions} == {"plpgsql", "pg_trgm", "vector"}
    assert {fact.label: fact.before for fact in facts.sequences}["public.Odd seq"] == 2
    assert "view public.short~" in facts.schema_objects
    assert published.manifest.server.version == facts.server_version
    assert set(stages) == {"dump", "hash", "check", "store"}
    assert catalog.published(PostgresManifest) == (published,)
    assert list(catalog.scratch.iterdir()) == []
    assert sorted(key.rsplit("/", 1)[1] for key in catalog.keys("dumps")) == ["database.dump", "manifest.json"]
    part = published.manifest.dump
    assert "zstd" in part.packing
    assert part.stored_size < part.size / 2
    stored = bytes(obstore.get(catalog.store, part.blob).bytes())
    assert hashlib.sha256(stored).hexdigest() == part.stored_sha256


async def test_dump__is_one_moment(small: Login, programs: list[Programs], tmp_path: Path) -> None:
    """Writers that never stop change rows two at a time: counts, hashes and dump are of one moment all the same."""
    await query(small, "CREATE TABLE other (id int, n int)")
    await query(small, "INSERT INTO other SELECT g, 0 FROM generate_series(1, 1000) g")
    stop = asyncio.Event()

    async def write() -> None:
        async with small.connect(autocommit=False) as connection:
            n = 0
            while not stop.is_set():
                n += 1
                await connection.execute("UPDATE t SET n = %s", (n,))
                await connection.execute("UPDATE other SET n = %s", (n,))
                await connection.execute("INSERT INTO other VALUES (%s, %s)", (1000 + n, n))
                await connection.execute("INSERT INTO t VALUES (%s, %s, '')", (1000 + n, n))
                await connection.commit()

    writer = asyncio.create_task(write())
    await asyncio.sleep(0.2)
    dumped = await dump_database(small, tmp_path / "x.dump", programs)
    stop.set()
    await writer
    rows = {table.name: table.rows for table in dumped.facts.tables}
    assert rows["t"] == rows["other"] > 1000
    data = await _rows_of(dumped, "other", programs)
    assert len(data) == rows["other"]
    assert len({n for _, n in data}) == 1


async def _rows_of(dumped: Dumped, table: str, programs: list[Programs]) -> list[list[str]]:
    """Return the rows of a table as they are in a dump."""
    listing = [programs[0].pg_restore, "--file=-", "--data-only", f"--table={table}", str(dumped.file)]
    script = (await asyncio.to_thread(subprocess.run, listing, capture_output=True, check=True)).stdout.decode()
    return [line.split("\t") for line in script.splitlines() if "\t" in line]


async def test_dump__truncate_meanwhile(small: Login, programs: list[Programs], tmp_path: Path) -> None:
    """TRUNCATE goes round snapshots: whoever is first, the dump holds the rows that were counted, and both end soon."""
    truncating: list[asyncio.Task[object]] = []

    def begin(stage: str, done: int, total: int) -> None:
        if not truncating:
            truncating.append(asyncio.create_task(query(small, "TRUNCATE t")))

    dumped = await dump_database(small, tmp_path / "x.dump", programs, on_progress=begin)
    await truncating[0]
    assert dumped.facts.rows == len(await _rows_of(dumped, "t", programs))
    assert await query(small, "SELECT count(*) FROM t") == [(0,)]


async def test_dump__sample_of_a_large_table_is_told(small: Login, programs: list[Programs], catalog: Catalog) -> None:
    """Above the limit one row in n is hashed, the same ones each time, and the manifest says so."""
    first = await take_dump(small, "agent", catalog, programs, hash_limit=100_000)
    second = await take_dump(small, "agent", catalog, programs, hash_limit=100_000)
    (table,) = first.manifest.facts.tables
    assert table.one_in > 1
    assert table.key == ["id"]
    assert table.rows == 1000
    assert second.manifest.facts.tables == [table]
    assert "one row in" in first.manifest.warnings[0]


async def test_dump__password_is_nowhere(rich: Login, programs: list[Programs], tmp_path: Path) -> None:
    """Neither in what programs get on their command line nor in the text of a login, nor in an error."""
    password = rich.environment["PGPASSWORD"]
    seen: set[str] = set()

    def look(stage: str, done: int, total: int) -> None:
        for process in Path("/proc").iterdir():
            if process.name.isdecimal():
                try:
                    seen.add((process / "cmdline").read_bytes().decode(errors="replace"))
                except OSError:
                    continue

    await dump_database(rich, tmp_path / "x.dump", programs, on_progress=look)
    assert any("pg_dump" in line for line in seen)
    assert not any(password in line for line in seen)
    assert password not in f"{rich!r} {rich.address}"
    with pytest.raises(NotFound) as caught:
        await dump_database(rich.at("nowhere"), tmp_path / "y.dump", programs)
    assert password not in str(caught.value)


async def test_dump__wrong_login_and_server(rich: Login, programs: list[Programs], tmp_path: Path) -> None:
    """A wrong password, a closed port and a URL that is none are told apart."""
    host = rich.where
    with pytest.raises(ConfigInvalid, match="refuses the login"):
        await dump_database(Login.from_url(f"postgresql://reanimate:no@{host}/postgres"), tmp_path / "x", programs)
    with pytest.raises(Unreachable):
        await dump_database(Login.from_url("postgresql://reanimate:no@127.0.0.1:1/postgres"), tmp_path / "x", programs)
    with pytest.raises(ConfigInvalid, match="names no database"):
        Login.from_url(f"postgresql://reanimate@{host}")


async def test_dump__without_the_right_is_refused(rich: Login, programs: list[Programs], tmp_path: Path) -> None:
    """A user who may not read a table gets an error, and never a dump without it."""
    admin = rich.at("postgres")
    await query(admin, "CREATE ROLE dumps_guest LOGIN PASSWORD 'guest'")
    guest = Login.from_url(f"postgresql://dumps_guest:guest@{rich.where}/postgres").at(ODD)
    with pytest.raises(Refused, match="permission denied"):
        await dump_database(guest, tmp_path / "x.dump", programs)


async def test_dump__who_may_read_everything_suffices(small: Login, programs: list[Programs], tmp_path: Path) -> None:
    """The user need not be a superuser: pg_read_all_data is enough."""
    await query(small.at("postgres"), "CREATE ROLE dumps_reads LOGIN PASSWORD 'reads' IN ROLE pg_read_all_data")
    await query(small, "CREATE SEQUENCE s; CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM t")
    reader = Login.from_url(f"postgresql://dumps_reads:reads@{small.where}/{small.database}")
    assert (await dump_database(reader, tmp_path / "x.dump", programs)).facts.rows == 1000


async def test_dump__row_security_is_an_error(small: Login, programs: list[Programs], tmp_path: Path) -> None:
    """A user whom row-level security shows a part of a table gets no dump of that part."""
    await query(small.at("postgres"), "CREATE ROLE dumps_partial LOGIN PASSWORD 'partial'")
    await query(small, "ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    await query(small, "CREATE POLICY half ON t USING (id % 2 = 0)")
    await query(small, "GRANT SELECT ON t TO dumps_partial")
    guest = Login.from_url(f"postgresql://dumps_partial:partial@{small.where}/{small.database}")
    with pytest.raises(Refused, match="row-level security"):
        await dump_database(guest, tmp_path / "x.dump", programs)


async def test_dump__held_table_is_busy(
    small: Login, programs: list[Programs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who holds a table exclusively makes it fail in time, not wait for ever."""
    monkeypatch.setattr("reanimate.dumps.content._PREPARE", ("SET lock_timeout = '200ms'",))
    async with small.connect(autocommit=False) as holder:
        await holder.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Busy, match="exclusively"):
            await dump_database(small, tmp_path / "x.dump", programs)


async def test_programs__version_mismatch_says_what_is_there(
    rich: Login, tmp_path: Path, programs: list[Programs]
) -> None:
    """Programs older than the server are not used; the message names them and what to install."""
    with pytest.raises(ConfigInvalid, match=r"needs pg_dump 18 or newer; found 9\.6 in .*postgresql-client-18"):
        await dump_database(rich, tmp_path / "x.dump", [Programs(Path("/old/bin"), "9.6")])


async def test_archive__every_cut_is_refused(small: Login, programs: list[Programs], tmp_path: Path) -> None:
    """A dump without its end is programs, although its list still reads well."""
    dumped = await dump_database(small, tmp_path / "x.dump", programs)
    content = dumped.file.read_bytes()
    cut = tmp_path / "cut.dump"
    for size in (len(content) - 1, len(content) - 5, len(content) // 2, 2000, 10, 0):
        cut.write_bytes(content[:size])
        with pytest.raises(Damaged):
            await check_archive(cut, programs[0], dumped.facts)
    cut.write_bytes(content[: len(content) // 2])
    assert (await list_archive(cut, programs[0])).tables  # the list alone would not have noticed


async def test_archive__other_tables_are_refused(
    small: Login, rich: Login, programs: list[Programs], tmp_path: Path
) -> None:
    """A dump of another database is not what was counted."""
    one = await dump_database(small, tmp_path / "one.dump", programs)
    await query(small, "CREATE TABLE second (n int)")
    two = await dump_database(small, tmp_path / "two.dump", programs)
    with pytest.raises(Damaged, match=r"lacks the rows of public\.second"):
        await check_archive(one.file, programs[0], two.facts)
    with pytest.raises(Damaged, match="not counted"):
        await check_archive(two.file, programs[0], one.facts)


async def test_dump__killed_pg_dump_publishes_nothing(small: Login, programs: list[Programs], catalog: Catalog) -> None:
    """pg_dump killed in the middle: an error, nothing listed, nothing left in the store or on the disk."""
    await query(small, "INSERT INTO t SELECT g, 0, repeat(md5(g::text), 30) FROM generate_series(2000, 40000) g")
    killed: list[int] = []

    def kill(stage: str, done: int, total: int) -> None:
        if stage == "dump" and not killed:
            for process in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
                if "pg_dump" in Path(f"/proc/{process}/cmdline").read_text():
                    os.kill(int(process), signal.SIGKILL)
                    killed.append(int(process))

    with pytest.raises(Exception, match="ended by signal 9"):
        await take_dump(small, "agent", catalog, programs, on_progress=kill)
    assert killed
    assert catalog.published(PostgresManifest) == ()
    assert catalog.keys("dumps") == []
    assert list(catalog.scratch.iterdir()) == []


@pytest.mark.parametrize("stage", ["dump", "check", "store"])
async def test_dump__we_are_killed(stage: str, small: Login, programs: list[Programs], tmp_path: Path) -> None:
    """SIGKILL in each stage: nothing is listed, no pg_dump goes on, and the next backup sweeps what is left."""
    script = textwrap.dedent(f"""
        import asyncio, os, signal, sys
        from pathlib import Path
        from obstore.store import LocalStore
        from reanimate.backups.catalog import Catalog
        from reanimate.dumps.backup import take_dump
        from reanimate.dumps.login import Login
        from reanimate.dumps.programs import find_programs

        def die(stage, done, total):
            if stage == {stage!r}:
                os.kill(os.getpid(), signal.SIGKILL)

        async def main():
            catalog = Catalog(LocalStore(prefix={str(tmp_path / "blobs")!r}, mkdir=True), Path({str(tmp_path / "s")!r}))
            login = Login.from_url(sys.stdin.read())
            await take_dump(login, "agent", catalog, await find_programs(), on_progress=die)

        asyncio.run(main())
    """)
    url = f"postgresql://reanimate:{small.environment['PGPASSWORD']}@{small.where}/{small.database}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdin=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    await process.communicate(url.encode())
    assert process.returncode == -signal.SIGKILL
    catalog = Catalog(LocalStore(prefix=tmp_path / "blobs", mkdir=True), tmp_path / "s")
    assert catalog.published(PostgresManifest) == ()
    assert [key.rsplit("/", 1)[1] for key in catalog.keys("dumps")].count("unfinished.json") == 1
    await _until_gone(small)
    taken = await take_dump(small, "agent", catalog, programs)
    assert list(catalog.scratch.iterdir()) == []
    assert len(await sweep_unfinished(catalog, "agent", utcnow() + timedelta(days=1))) == 1
    assert catalog.published(PostgresManifest) == (taken,)
    assert len(catalog.keys("dumps")) == 2


async def _until_gone(login: Login) -> None:
    """Wait until nobody is connected to the database any more."""
    for _ in range(100):
        sessions = await query(
            login.at("postgres"), f"SELECT 1 FROM pg_stat_activity WHERE datname = '{login.database}'"
        )
        if not sessions:
            return
        await asyncio.sleep(0.05)
    pytest.fail("a killed backup's sessions live on")


async def test_dump__disk_full_is_said(
    small: Login, programs: list[Programs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dump that cannot fit is not begun."""
    monkeypatch.setattr("reanimate.backups.scratch._SPARE", 1 << 60)
    with pytest.raises(ConfigInvalid, match="MB are free"):
        await dump_database(small, tmp_path / "x.dump", programs)
