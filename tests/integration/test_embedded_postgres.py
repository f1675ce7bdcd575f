"""The embedded Postgres, driven for real."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from reanimate.db.binaries import find_binaries
from reanimate.db.embedded import EmbeddedPostgres, create_database
from reanimate.errors import Busy, ConfigInvalid, ServerFailed


def _ask(url: str, statement: str) -> object:
    with psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[EmbeddedPostgres]:
    """A server of this module, made as for real use but for the flushes to disk."""
    directory = tmp_path_factory.mktemp("embedded") / "pg"
    embedded = EmbeddedPostgres(directory, free_port(), "p@ss/wörd?", sync=False)
    embedded.start()
    yield embedded
    embedded.stop()


@pytest.fixture
def running(server: EmbeddedPostgres) -> EmbeddedPostgres:
    """That server, up again whatever the test before did to it."""
    if server.pid is None:
        server.start()
    return server


def test_postgres_url__is_migrated(postgres_url: str) -> None:
    """A module's database has our schema, and is empty."""
    assert _ask(postgres_url, "SELECT count(*) FROM incidents") == 0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("data_checksums", "on"),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("password_encryption", "scram-sha-256"),
        ("server_encoding", "UTF8"),
        ("TimeZone", "UTC"),
    ],
)
def test_settings__are_the_safe_ones(running: EmbeddedPostgres, setting: str, value: str) -> None:
    """The server flushes, checks its pages, and listens on loopback only."""
    assert _ask(running.url("postgres"), f"SHOW {setting}") == value


def test_password__is_asked_for(running: EmbeddedPostgres) -> None:
    """Nobody on this machine gets in without the password; a wrong one is one clear line."""
    with pytest.raises(psycopg.OperationalError, match="password"):
        _ask(running.url("postgres", password=False), "SELECT 1")
    stranger = EmbeddedPostgres(running.data_dir, running.port, "wrong")
    with pytest.raises(ConfigInvalid, match=r"refuses the password of secrets\.json; restore"):
        stranger.ready()


def test_password__is_in_no_file_and_no_argument(running: EmbeddedPostgres) -> None:
    """The password is not left on disk, and not visible in the list of processes."""
    left = [path for path in running.data_dir.parent.rglob("*") if path.is_file() and path.stat().st_size < 100_000]
    assert not [path for path in left if "p@ss/wörd?".encode() in path.read_bytes()]
    assert not any("p@ss" in part for part in running.launch().argv)


def test_create_database__twice(running: EmbeddedPostgres) -> None:
    """Creating a database that is there is no error; extensions that Prefect needs can be created in it."""
    assert create_database(running.url("postgres"), "twice")
    assert not create_database(running.url("postgres"), "twice")
    _ask(running.url("twice"), "CREATE EXTENSION pg_trgm")


def test_create_database__without_the_right(running: EmbeddedPostgres) -> None:
    """A user who may not create databases is told what an administrator has to run."""
    _ask(running.url("postgres"), "CREATE ROLE weak LOGIN PASSWORD 'weak'")
    weak = f"postgresql+psycopg://weak:weak@127.0.0.1:{running.port}/postgres"
    with pytest.raises(ConfigInvalid, match=r'may not create the database .*: CREATE DATABASE "forbidden"'):
        create_database(weak, "forbidden")


def test_crash__loses_nothing_that_was_committed(running: EmbeddedPostgres) -> None:
    """After a SIGKILL the server comes back with every committed row, and a stale lock file is not in its way."""
    _ask(running.url("postgres"), "CREATE TABLE rows AS SELECT generate_series(1, 10000)")
    running.kill()
    assert (running.data_dir / "postmaster.pid").exists()
    running.start()
    assert _ask(running.url("postgres"), "SELECT count(*) FROM rows") == 10000


def test_lock_file__of_a_pid_used_anew(running: EmbeddedPostgres) -> None:
    """After a reboot the pid in the lock file may be anybody's; that does not stop the server from starting."""
    running.stop()
    (running.data_dir / "postmaster.pid").write_text(f"{os.getpid()}\n{running.data_dir}\n")
    running.start()
    assert running.ready()


def test_second_server__is_refused(running: EmbeddedPostgres, free_port: Callable[[], int]) -> None:
    """Two servers never run on one directory."""
    with pytest.raises(Busy, match=rf"\(pid {running.pid}\) is already running on"):
        EmbeddedPostgres(running.data_dir, free_port(), "x").start()


def test_taken_port__is_said(running: EmbeddedPostgres, tmp_path: Path) -> None:
    """A server that cannot listen says why, with the last words of its log."""
    other = EmbeddedPostgres(tmp_path / "pg", running.port, "other", sync=False)
    with pytest.raises((ServerFailed, ConfigInvalid)):
        other.start(timeout_s=5)
    other.stop()


def test_other_version__is_refused(running: EmbeddedPostgres) -> None:
    """Data of another major version is left alone, and the message says which programs are needed."""
    running.stop()
    file = running.data_dir / "PG_VERSION"
    mine = file.read_text()
    file.write_text("12\n")
    try:
        with pytest.raises(ConfigInvalid, match=rf"is of Postgres 12, .* are {mine.strip()}; set database\.pg_bin"):
            running.start()
    finally:
        file.write_text(mine)


def test_initdb__cut_short(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """What a killed initdb left is swept up, and never taken for a database."""
    left = tmp_path / ".pg.new-dead"
    left.mkdir()
    (left / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(tmp_path / "pg", free_port(), "x", sync=False)
    server.prepare()
    assert [path.name for path in tmp_path.iterdir()] == ["pg"]


def test_directory__that_cannot_be_written(free_port: Callable[[], int]) -> None:
    """A directory where nothing can be made is one clear line."""
    with pytest.raises(ConfigInvalid, match=r"cannot make a database in /proc/none.*check its rights"):
        EmbeddedPostgres(Path("/proc/none/pg"), free_port(), "x").start()


def test_binaries__that_are_not_there(tmp_path: Path) -> None:
    """A pg_bin without the programs is said to be so."""
    with pytest.raises(ConfigInvalid, match=r"database\.pg_bin = .* holds no initdb and postgres"):
        find_binaries(tmp_path)


def test_owner_killed__server_ends(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """When the process that started the server is killed, the server ends too, and shuts down properly."""
    data_dir, port = tmp_path / "pg", free_port()
    program = textwrap.dedent(f"""
        import pathlib, time
        from reanimate.db.embedded import EmbeddedPostgres
        server = EmbeddedPostgres(pathlib.Path({str(data_dir)!r}), {port}, "x", sync=False)
        server.start()
        print(server.pid, flush=True)
        time.sleep(60)
    """)
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    with owner.stdout:
        pid = int(owner.stdout.readline())
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    deadline = time.monotonic() + 5
    while (data_dir / "postmaster.pid").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert EmbeddedPostgres(data_dir, port, "x").running_pid() is None, f"pid {pid} lives"
    assert not (data_dir / "postmaster.pid").exists(), "a proper shutdown removes it"


def test_orphan__is_stopped(running: EmbeddedPostgres) -> None:
    """Who holds the home directory can end a server that nobody owns any more."""
    EmbeddedPostgres(running.data_dir, 0, "").stop_orphan()
    assert running.pid is None
