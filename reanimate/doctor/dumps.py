"""Findings about the databases to back up: can each be dumped, restored and proven from here, before that is needed?"""

import asyncio
from datetime import datetime, timedelta

from reanimate.addresses import Addresses
from reanimate.backups.repositories import named, open_repositories
from reanimate.clock import utcnow
from reanimate.config import RECORD_NAME, Settings
from reanimate.db.binaries import find_binaries
from reanimate.doctor.finding import Finding, fail, ok, warn
from reanimate.dumps.databases import configured_login, database_names, login_of, scratch_login
from reanimate.dumps.login import Login
from reanimate.dumps.manifest import PostgresManifest
from reanimate.dumps.programs import Programs, find_programs, programs_for_dump
from reanimate.errors import ReanimateError
from reanimate.secrets import Secrets

__all__ = ["age_finding", "dump_findings"]

_OLD_AFTER = timedelta(hours=26)
"""The schedule is daily; two hours are for a slow one."""

_LOOK = """
    SELECT (SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user),
      (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE c.relkind = 'r' AND n.nspname !~ '^pg_(toast|temp|catalog$)' AND n.nspname <> 'information_schema'
         AND NOT has_table_privilege(c.oid, 'SELECT'))"""


async def dump_findings(settings: Settings, *, running: bool) -> list[Finding]:
    """Return findings about every database that is backed up; our own are asked only while they can answer."""
    programs = await find_programs(settings.database.pg_bin)
    if not programs:
        return [fail("pg_dump", "no pg_dump and pg_restore were found", "install a Postgres client package")]
    findings = [ok("pg_dump", ", ".join(f"{one.version} in {one.directory}" for one in programs))]
    tries_on = await _tries_on(settings)
    newest = await asyncio.to_thread(_newest, settings)
    own = running or (settings.database.url is not None and Addresses.file(settings.home).exists())
    named_here = {database.name for database in settings.postgres.databases}
    asked = [name for name in database_names(settings) if own or name in named_here]
    looked = await asyncio.gather(*(_look(name, settings, programs, tries_on) for name in asked))
    for name, found in zip(asked, looked, strict=True):
        findings += found
        if newest is not None and name != RECORD_NAME:
            findings.append(age_finding(name, newest.get(name), utcnow()))
    return findings


def age_finding(name: str, taken_at: datetime | None, now: datetime) -> Finding:
    """Judge the age of a database's newest backup."""
    about = f"backups of database {name}"
    if taken_at is None:
        return warn(about, "there are none", f"run `reanimate backup postgres run {name}`")
    found = f"the newest is {(now - taken_at).total_seconds() / 3600:.1f} h old"
    if now - taken_at > _OLD_AFTER:
        return warn(about, found, "see why the nightly backup did not run (Prefect: flow `night`)")
    return ok(about, found)


async def _look(name: str, settings: Settings, programs: list[Programs], tries_on: int | None) -> list[Finding]:
    about = f"database {name}"
    try:
        login = _login(name, settings)
        async with login.connect() as connection:
            major = connection.info.server_version // 10000
            row = await (await connection.execute(_LOOK.encode())).fetchone()
        chosen = programs_for_dump(programs, major)
    except ReanimateError as error:
        return [fail(about, error.args[0], error.hint or "mend its URL in [[postgres.databases]]")]
    assert row is not None
    may_create, unreadable = row
    findings = [ok(about, f"Postgres {major} on {login.where}, dumped by pg_dump {chosen.version}")]
    if unreadable:
        to_do = "grant pg_read_all_data to the user in its URL"
        findings.append(fail(f"rights in {about}", f"{unreadable} table(s) may not be read: no backup", to_do))
    if not may_create:
        to_do = "let the user in its URL make databases: ALTER ROLE … CREATEDB"
        findings.append(warn(f"rights in {about}", "no database may be made: no restore beside it", to_do))
    if tries_on is not None and tries_on < major:
        to_do = f"set postgres.scratch_url to a server of Postgres {major} or newer"
        findings.append(warn(f"proofs of {about}", f"they are tried on Postgres {tries_on}, it is {major}", to_do))
    return findings


def _login(name: str, settings: Settings) -> Login:
    """Return how to reach a database. What is only looked at makes no home directory and no secrets."""
    if (login := configured_login(name, settings)) is not None:
        return login
    return login_of(name, settings, Addresses.load(settings.home), Secrets.load_or_create(settings.home))


async def _tries_on(settings: Settings) -> int | None:
    """Return the major version of the server that proofs are made on, or None where that is not known now."""
    try:
        if (login := scratch_login(settings)) is None:
            return await asyncio.to_thread(lambda: find_binaries(settings.database.pg_bin).major)
        async with login.connect() as connection:
            return connection.info.server_version // 10000
    except ReanimateError:
        return None


def _newest(settings: Settings) -> dict[str, datetime] | None:
    """Return when each database was last backed up; None where that cannot be read, which is told elsewhere."""
    if not settings.home.exists():
        return None
    try:
        published = named(open_repositories(settings), None).catalog.published(PostgresManifest)
    except ReanimateError:
        return None
    newest: dict[str, datetime] = {}
    for one in published:
        newest.setdefault(one.manifest.subject, one.manifest.taken_at)
    return newest
