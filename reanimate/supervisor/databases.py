"""Make the databases ready before anybody uses them: ours migrated, Prefect's created with its extension."""

import asyncio
import json
from importlib.metadata import version

import psycopg

from reanimate.addresses import Addresses
from reanimate.config import Settings
from reanimate.db.embedded import create_database
from reanimate.db.migrate import migrate
from reanimate.db.url import prefect_database, prefect_url, record_url
from reanimate.errors import ConfigInvalid, Unreachable
from reanimate.files import write_atomically
from reanimate.secrets import Secrets

__all__ = ["OLDEST_POSTGRES", "Databases"]

OLDEST_POSTGRES = 14


class Databases:
    """The record's database and Prefect's, on the embedded server or on the one that DATABASE_URL names."""

    def __init__(self, settings: Settings, addresses: Addresses, secrets: Secrets) -> None:
        self._embedded = settings.database.url is None
        self._own_prefect = settings.prefect.api_url is None
        self._record = record_url(settings, addresses, secrets)
        self._prefect_name = prefect_database(settings)
        self._prefect = "postgresql://" + prefect_url(settings, addresses, secrets).split("://", 1)[1]
        self._prefect = self._prefect.replace("?ssl=", "?sslmode=")
        self._marker = settings.home / "run" / "prefect-schema.json"
        self._prefect_is_migrated = False

    async def create(self) -> None:
        """Create what is missing, so that Prefect's server can start.

        Raises:
            ConfigInvalid: the server is too old, or refuses a right; the message says what to run by hand.
            Unreachable: it does not answer.
        """
        await asyncio.to_thread(self._create)

    async def migrate(self) -> None:
        """Bring the record's schema up to date.

        Raises:
            ConfigInvalid: that is not possible as things are.
        """
        try:
            await migrate(self._record)
        except Exception as error:  # whatever the migration met, `up` says it in one line
            raise ConfigInvalid(
                f"the record's schema could not be brought up to date: {str(error).strip().splitlines()[0]}",
                hint="check the rights of this database user",
            ) from error

    @property
    def prefect_is_migrated(self) -> bool:
        """Whether, as of `create`, Prefect's tables are those that this version of it made."""
        return self._prefect_is_migrated

    async def note_prefect(self) -> None:
        """Remember that Prefect has migrated its tables, so that the next start need not look."""
        revision = await asyncio.to_thread(_revision, self._prefect)
        if revision is not None:
            note = {"prefect": version("prefect"), "revision": revision}
            write_atomically(self._marker, json.dumps(note).encode())

    def _create(self) -> None:
        if self._embedded:
            create_database(self._record.rsplit("/", 1)[0] + "/postgres", self._record.rsplit("/", 1)[1])
        _check_version(self._record)
        if self._own_prefect:
            create_database(self._record, self._prefect_name)
            _ensure_trigrams(self._prefect, self._prefect_name)
            self._prefect_is_migrated = self._noted() == (version("prefect"), _revision(self._prefect))

    def _noted(self) -> tuple[str, str] | None:
        try:
            note = json.loads(self._marker.read_bytes())
            return note["prefect"], note["revision"]
        except (OSError, ValueError, KeyError):
            return None


def _connect(url: str) -> psycopg.Connection:
    try:
        plain = url.replace("postgresql+psycopg://", "postgresql://", 1)
        return psycopg.connect(plain, autocommit=True, connect_timeout=5)
    except psycopg.OperationalError as error:
        raise Unreachable(
            f"the database does not let us in: {str(error).strip().splitlines()[0]}", hint="check DATABASE_URL"
        ) from None


def _check_version(url: str) -> None:
    with _connect(url) as connection:
        major = connection.info.server_version // 10000
    if major < OLDEST_POSTGRES:
        raise ConfigInvalid(f"the database server is Postgres {major}", hint=f"use Postgres {OLDEST_POSTGRES} or newer")


def _ensure_trigrams(url: str, name: str) -> None:
    with _connect(url) as connection:
        try:
            connection.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        except psycopg.Error as error:
            raise ConfigInvalid(
                f"database {name!r} lacks pg_trgm, which Prefect needs: {str(error).strip().splitlines()[0]}",
                hint=f"have an administrator run, in {name!r}: CREATE EXTENSION pg_trgm",
            ) from error


def _revision(url: str) -> str | None:
    """Return the schema revision of Prefect's tables, None when there are none."""
    with _connect(url) as connection:
        found = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
        if not found or not found[0]:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else None
