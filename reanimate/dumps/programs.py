"""Which pg_dump and pg_restore to use: a server's dump can only be taken and read by programs that know its version."""

import asyncio
import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reanimate.db.binaries import installations
from reanimate.errors import ConfigInvalid, Refused

__all__ = ["Programs", "find_programs", "programs_for_dump", "programs_for_restore"]


@dataclass(frozen=True)
class Programs:
    """A `bin` directory with pg_dump and pg_restore, and their version."""

    directory: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    @property
    def pg_dump(self) -> str:
        return str(self.directory / "pg_dump")

    @property
    def pg_restore(self) -> str:
        return str(self.directory / "pg_restore")


async def find_programs(pg_bin: Path | None = None) -> list[Programs]:
    """Return every usable installation: the one that the setting names first, then wheels, Debian's and PATH's."""
    return await asyncio.to_thread(lambda: [*_found([pg_bin] if pg_bin else []), *_found(installations())])


def programs_for_dump(found: Sequence[Programs], server: int) -> Programs:
    """Choose for a server of that major version: the oldest that knows it, so that more servers can take the dump.

    Raises:
        ConfigInvalid: none knows it; the message says what was found.
    """
    fitting = [programs for programs in found if programs.major >= server]
    if not fitting:
        raise ConfigInvalid(
            f"backing up a server of Postgres {server} needs pg_dump {server} or newer; found {_listed(found)}",
            hint=_install(server),
        )
    return min(fitting, key=lambda programs: programs.major)


def programs_for_restore(found: Sequence[Programs], *, made_by: int, dumped_from: int, server: int) -> Programs:
    """Choose for a dump made by pg_dump `made_by` of a server `dumped_from`, to be restored into `server`: all majors.

    The programs must read the dump; of those, the server's own version is best, for newer ones say things to it that
    it does not understand.

    Raises:
        Refused: the server is older than the one that was dumped.
        ConfigInvalid: no pg_restore reads such a dump.
    """
    if server < dumped_from:
        raise Refused(
            f"this dump is of a server of Postgres {dumped_from}, and the server is {server}: "
            "a dump goes to the same version or a newer one",
            hint=f"restore into a server of Postgres {dumped_from} or newer",
        )
    fitting = [programs for programs in found if programs.major >= made_by]
    if not fitting:
        raise ConfigInvalid(
            f"reading a dump made by pg_dump {made_by} needs pg_restore {made_by} or newer; found {_listed(found)}",
            hint=_install(made_by),
        )
    return min(fitting, key=lambda programs: (programs.major < server, programs.major))


def _install(major: int) -> str:
    return f"install postgresql-client-{major} or a newer one, or set database.pg_bin to its bin directory"


def _listed(found: Iterable[Programs]) -> str:
    return ", ".join(f"{programs.version} in {programs.directory}" for programs in found) or "none"


def _found(directories: Iterable[Path]) -> list[Programs]:
    known: dict[Path, Programs] = {}
    for directory in directories:
        complete = all(os.access(directory / name, os.X_OK) for name in ("pg_dump", "pg_restore"))
        if complete and directory not in known and (version := _version(directory)):
            known[directory] = Programs(directory, version)
    return list(known.values())


def _version(directory: Path) -> str | None:
    try:
        answer = subprocess.run(
            [directory / "pg_dump", "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)*)", answer)
    return found[1] if found else None
