"""Findings about this machine: Python and packages, the home directory, disk, ports, Postgres programs."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from reanimate.config import Settings
from reanimate.db.binaries import find_binaries
from reanimate.doctor.finding import Finding, fail, ok, warn
from reanimate.errors import ReanimateError
from reanimate.secrets import Secrets
from reanimate.supervisor.ports import listeners, port_problem

__all__ = ["disk_finding", "machine_findings", "package_finding", "python_finding"]

_OLDEST_PYTHON, _NEXT_PYTHON = (3, 11), (3, 14)
_PINS = {"prefect": ((3, 8), (3, 9)), "fastapi": ((0, 139), (0, 151))}
"""From this version, below that one. fastapi: newer ones break Prefect's server when it is imported."""
_GIB = 1 << 30
_FAIL_FREE = _GIB
_WARN_FREE = 5 * _GIB

Version = tuple[int, ...]


def machine_findings(settings: Settings, *, running: bool) -> Iterator[Finding]:
    """Yield findings that need no network. While the system runs, its ports and database are not judged here."""
    yield python_finding(sys.version_info[:3])
    for package in _PINS:
        yield package_finding(package, _installed(package))
    yield from _home_findings(settings.home)
    if not running:
        yield from _port_findings(settings)
        if settings.database.url is None:
            yield _postgres_finding(settings)


def python_finding(found: Version) -> Finding:
    """Judge the Python version."""
    text = ".".join(map(str, found))
    if _OLDEST_PYTHON <= found[:2] < _NEXT_PYTHON:
        return ok("python", text)
    return fail("python", text, "use Python 3.11, 3.12 or 3.13")


def package_finding(package: str, found: str | None) -> Finding:
    """Judge the version of a package that must lie in a known range; None means it is not installed."""
    lowest, below = _PINS[package]
    wanted = f">={'.'.join(map(str, lowest))},<{'.'.join(map(str, below))}"
    if found is None:
        return fail(package, "not installed", "run scripts/setup")
    parts = tuple(int(part) for part in found.split(".")[:2] if part.isdigit())
    if lowest <= parts < below:
        return ok(package, found)
    return fail(package, f"{found}, wanted {wanted}", f"install '{package}{wanted}', or run scripts/setup")


def disk_finding(where: Path, free: int) -> Finding:
    """Judge the free space, in bytes, of the disk that holds the home directory."""
    found = f"{free / _GIB:.1f} GiB free where {where} is"
    if free < _FAIL_FREE:
        return fail("disk", found, "free some space: databases stop and backups fail when it is full")
    if free < _WARN_FREE:
        return warn("disk", found, "a restore needs room for a second copy of a collection")
    return ok("disk", found)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _home_findings(home: Path) -> Iterator[Finding]:
    place = next(path for path in (home, *home.parents) if path.exists())  # it may not have been made yet
    try:
        with tempfile.TemporaryFile(dir=place):
            yield ok("home directory", f"{home} can be written")
    except OSError as error:
        to_do = "give yourself the right to write there, or set REANIMATE_HOME to another directory"
        yield fail("home directory", f"{place} cannot be written: {error.strerror}", to_do)
    yield disk_finding(home, shutil.disk_usage(place).free)
    secrets = Secrets.file(home)
    if secrets.exists():
        mode = secrets.stat().st_mode & 0o777
        if mode & 0o077:
            yield fail("secrets", f"{secrets} can be read by others (mode {mode:o})", f"chmod 600 {secrets}")
        else:
            yield ok("secrets", "readable by their owner only")


def _port_findings(settings: Settings) -> Iterator[Finding]:
    problems = [(listener, port_problem(listener)) for listener in listeners(settings).values()]
    for listener, problem in problems:
        if problem:
            to_do = f"stop that, or set {listener.setting} to another port (0 picks a free one)"
            yield fail(f"port {listener.port}", f"{listener.setting}: {problem}", to_do)
    if not any(problem for _, problem in problems):
        yield ok("ports", f"all {len(problems)} are free")


def _postgres_finding(settings: Settings) -> Finding:
    try:
        binaries = find_binaries(settings.database.pg_bin)
        major = binaries.major
    except ReanimateError as error:
        return fail("postgres programs", str(error), error.hint)
    stored = settings.home / "postgres" / "PG_VERSION"
    if os.access(stored, os.R_OK) and (found := stored.read_text().strip()) != str(major):
        to_do = f"set database.pg_bin to the programs of Postgres {found}, or dump and restore"
        return fail("postgres programs", f"version {major}, but the data is of version {found}", to_do)
    return ok("postgres programs", f"version {major} in {binaries.directory}")
