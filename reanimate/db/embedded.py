"""The embedded Postgres: the real server, from installed programs, in a directory of ours, on loopback only."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from reanimate.db.binaries import PostgresBinaries, RunAs, choose_user, find_binaries
from reanimate.deathsig import die_with_parent
from reanimate.errors import Busy, ConfigInvalid, ServerFailed, Unreachable

__all__ = ["USER", "EmbeddedPostgres", "Launch", "create_database"]

USER = "reanimate"
"""The server's superuser, who logs in with the password of `secrets.json` (SCRAM)."""

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}


@dataclass(frozen=True)
class Launch:
    """Everything that somebody needs to start the server process."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    run_as: RunAs
    stop_signal: signal.Signals = signal.SIGINT
    """Fast shutdown: sessions are ended, data is written; SIGTERM would wait for every client to leave."""


class EmbeddedPostgres:
    """One data directory and the server on it.

    `start` and `stop` run the server as a child of this process. A supervisor that runs children itself calls
    `prepare` and then starts `launch()`.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int,
        password: str,
        bin_dir: Path | None = None,
        *,
        sync: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`sync=False` skips the flush to disk after `initdb`; `settings` are further server parameters."""
        self.data_dir = data_dir.absolute()
        self.port = port
        self.binaries: PostgresBinaries = find_binaries(bin_dir)
        self._password = password
        self._sync = sync
        self._settings = {**_SETTINGS, "port": str(port), **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str, *, password: bool = True) -> str:
        """Return the SQLAlchemy URL of `database` (psycopg 3)."""
        login = f"{USER}:{quote(self._password, safe='')}" if password else USER
        return f"postgresql+psycopg://{login}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int | None:
        """The server's process id while this object runs it."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def prepare(self) -> None:
        """Make the data directory if it is not there, check its version, and clear what a crash left.

        Raises:
            ConfigInvalid: the data is of another major version, or the directory cannot be written.
            Busy: a server is running on this directory.
        """
        if not (self.data_dir / "PG_VERSION").exists():
            self._initdb()
        self._check_version()
        if (pid := self.running_pid()) is not None:
            raise Busy(f"a Postgres server (pid {pid}) is already running on {self.data_dir}", hint="stop it first")
        (self.data_dir / "postmaster.pid").unlink(missing_ok=True)

    def running_pid(self) -> int | None:
        """Return the pid of a live server on this directory; a stale lock file, or a pid used anew, does not count."""
        try:
            pid = int((self.data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None
        proc = Path("/proc")
        if (proc / "self").exists():
            try:
                return pid if (proc / str(pid) / "cwd").readlink() == self.data_dir.resolve() else None
            except OSError:
                return None
        try:
            os.kill(pid, 0)
        except OSError:
            return None
        return pid

    def stop_orphan(self, timeout_s: float = 5.0) -> None:
        """Stop a server that a killed owner left on this directory. Call it only while holding the directory's lock."""
        deadline = time.monotonic() + timeout_s
        for number in (signal.SIGINT, signal.SIGKILL):
            while (pid := self.running_pid()) is not None:
                os.kill(pid, number)
                time.sleep(0.05)
                if time.monotonic() > deadline:
                    break
            deadline = time.monotonic() + 1.0

    def launch(self) -> Launch:
        """Return how to start the server; `prepare` must have been called."""
        run_as = choose_user(self.data_dir, self.binaries)
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        argv = (*run_as.prefix, self.binaries.program("postgres"), "-D", str(self.data_dir), *options)
        return Launch(argv, self._environment(), run_as)

    def start(self, timeout_s: float = 30.0) -> None:
        """Start the server as a child and wait until it answers a query.

        Call it from the main thread: the server ends with the thread that started it.

        Raises:
            ConfigInvalid, Busy: see `prepare`.
            ServerFailed: it ended or did not answer in time; the message has its last words.
        """
        self.prepare()
        launch = self.launch()
        log_file = self.data_dir.with_name(f"{self.data_dir.name}.log")
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(
                launch.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(launch.environment),
                cwd="/",
                start_new_session=True,
                preexec_fn=die_with_parent(launch.stop_signal),
                **launch.run_as.popen,
            )
        deadline, pause = time.monotonic() + timeout_s, 0.02
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                last = log_file.read_text(errors="replace").strip().rsplit("\n", 3)[-3:]
                raise ServerFailed(
                    f"Postgres on {self.data_dir} did not start: {' / '.join(last)}", hint=f"see {log_file}"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 0.2)  # each try is a line in the server's log while it recovers

    def ready(self) -> bool:
        """Say whether the server answers a query now.

        Raises:
            ConfigInvalid: it refuses our password.
        """
        try:
            with psycopg.connect(_plain(self.url("postgres")), connect_timeout=2) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise ConfigInvalid(
                    f"the Postgres on 127.0.0.1:{self.port} refuses the password of secrets.json",
                    hint="restore the secrets.json that belongs to this data directory",
                ) from None
            return False
        return True

    def stop(self, timeout_s: float = 8.0) -> None:
        """Stop the server: fast shutdown, and SIGKILL when that takes longer than `timeout_s`. Safe to call twice."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """SIGKILL the server, as a crash would; `start` recovers it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _environment(self) -> dict[str, str]:
        inherited = {
            name: os.environ[name] for name in ("PATH", "TMPDIR", "REANIMATE_SUPERVISOR") if name in os.environ
        }
        return {**inherited, "LC_ALL": "C.UTF-8", "HOME": str(self.data_dir.parent)}

    def _check_version(self) -> None:
        found = (self.data_dir / "PG_VERSION").read_text().strip()
        if found != str(self.binaries.major):
            raise ConfigInvalid(
                f"the data in {self.data_dir} is of Postgres {found}, the programs in {self.binaries.directory} are "
                f"{self.binaries.major}",
                hint=f"set database.pg_bin to the programs of Postgres {found}, or dump and restore",
            )

    def _initdb(self) -> None:
        """Make the cluster aside and rename it, so that a kill in the middle leaves nothing that looks like one."""
        parent = self.data_dir.parent
        try:
            parent.mkdir(parents=True, exist_ok=True)
            for left in parent.glob(f".{self.data_dir.name}.new-*"):
                shutil.rmtree(left, ignore_errors=True)
            aside = Path(tempfile.mkdtemp(prefix=f".{self.data_dir.name}.new-", dir=parent))
        except OSError as error:
            raise ConfigInvalid(
                f"cannot make a database in {parent}: {error.strerror}", hint="check its rights"
            ) from error
        try:
            run_as = choose_user(self.data_dir, self.binaries)
            run_as.own(aside)
            pwfile = aside / "password"
            pwfile.touch(mode=0o600)
            pwfile.write_text(self._password)
            run_as.own(pwfile)
            self._run_initdb(run_as, aside / "data", pwfile)
            (aside / "data").rename(self.data_dir)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _run_initdb(self, run_as: RunAs, target: Path, pwfile: Path) -> None:
        command = [
            *run_as.prefix,
            self.binaries.program("initdb"),
            f"--pgdata={target}",
            f"--username={USER}",
            f"--pwfile={pwfile}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--data-checksums",
            "--no-instructions",
            *(() if self._sync else ("--no-sync",)),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self._environment(), cwd="/", check=False, **run_as.popen
        )
        if done.returncode != 0:
            last = done.stderr.strip().rsplit("\n", 1)[-1]
            raise ConfigInvalid(f"initdb for {self.data_dir} failed: {last}", hint="check rights and free disk space")


def create_database(url: str, name: str, *, template: str | None = None) -> bool:
    """Create database `name` on the server of `url` (any database there) unless it exists; say whether it was made.

    Raises:
        Unreachable: the server does not answer.
        ConfigInvalid: it may not be created; the message says what to do by hand.
    """
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template is not None:
        statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
    try:
        with psycopg.connect(_plain(url), autocommit=True, connect_timeout=5) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                return False
            connection.execute(statement)
    except psycopg.errors.DuplicateDatabase:
        return False
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigInvalid(
            f"this user may not create the database {name!r}: {str(error).strip()}",
            hint=f'have an administrator run: CREATE DATABASE "{name}" OWNER <this user>',
        ) from error
    except psycopg.OperationalError as error:
        raise Unreachable(f"cannot create the database {name!r}: {str(error).strip()}") from error
    return True


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://", 1)
