"""How to reach one database: for psycopg with its password, for Postgres programs without one on their command line."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from reanimate.errors import Busy, ConfigInvalid, NotFound, ReanimateError, Refused, ServerFailed, Unreachable

__all__ = ["Login", "maintenance", "said"]

_CONNECT_S = 10
_MAINTENANCE = ("postgres", "template1")
_SECRET = "sslpassword"
_REFUSED = r"authentication failed|no pg_hba\.conf|role .* does not exist"


@dataclass(frozen=True)
class Login:
    """A database and who asks for it. Its text form, in logs and errors, has no password."""

    database: str
    where: str
    """host:port, for people."""
    _options: dict[str, str] = field(repr=False)

    @classmethod
    def from_url(cls, url: str, *, name: str = "") -> "Login":
        """Read a URL (postgresql://…, also with SQLAlchemy's driver) or a libpq connection string.

        Raises:
            ConfigInvalid: it is neither, or names no database.
        """
        scheme, separator, rest = url.partition("://")
        plain = f"{scheme.split('+')[0]}://{rest}" if separator else url
        of = f" of database {name!r}" if name else ""
        try:
            options = {key: str(value) for key, value in conninfo_to_dict(plain).items()}
        except psycopg.ProgrammingError:
            raise ConfigInvalid(f"the URL{of} is not a Postgres URL", hint="it begins with postgresql://") from None
        if not options.get("dbname"):
            raise ConfigInvalid(f"the URL{of} names no database", hint="postgresql://user:password@host:5432/database")
        if _SECRET in options:
            raise ConfigInvalid(
                f"the URL{of} has an sslpassword, which Postgres programs take on their command line only",
                hint="use a key without one, readable by this user only",
            )
        return cls._of(options)

    @classmethod
    def _of(cls, options: dict[str, str]) -> "Login":
        where = f"{options.get('host') or options.get('hostaddr') or 'the local socket'}:{options.get('port') or 5432}"
        return cls(options["dbname"], where, options)

    def at(self, database: str) -> "Login":
        """Return the login of another database of the same server."""
        return self._of({**self._options, "dbname": database})

    @property
    def address(self) -> str:
        """The connection string for programs: everything but the password."""
        options = {key: value for key, value in self._options.items() if key != "password"}
        return make_conninfo("", **options)

    @property
    def environment(self) -> dict[str, str]:
        """What a Postgres program must find in its environment: the password, and one language for its messages."""
        password = self._options.get("password")
        return {"LC_ALL": "C", "PGAPPNAME": "reanimate", **({"PGPASSWORD": password} if password else {})}

    @asynccontextmanager
    async def connect(self, *, autocommit: bool = True) -> AsyncIterator[AsyncConnection]:
        """Open a connection for the block; what the driver raises in it becomes an error of ours.

        Raises:
            Unreachable: the server does not answer, or went away.
            NotFound: it has no such database.
            ConfigInvalid: it refuses this login.
            Refused: a right is missing.
            Busy: somebody holds a table for too long.
            ServerFailed: any other error of the server; the message has its words.
        """
        try:
            async with await AsyncConnection.connect(
                make_conninfo(
                    "", **{"connect_timeout": str(_CONNECT_S), "application_name": "reanimate", **self._options}
                ),
                autocommit=autocommit,
                prepare_threshold=None,
            ) as connection:
                yield connection
        except psycopg.Error as error:
            raise self.translated(error) from error

    def translated(self, error: psycopg.Error) -> ReanimateError:
        """Return what an error of the driver means."""
        about, words = f"database {self.database!r} on {self.where}", said(error)
        if isinstance(error, psycopg.errors.LockNotAvailable):
            return Busy(f"{about}: {words}; somebody holds a table exclusively", hint="wait until they are done")
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            return Refused(f"{about}: {words}", hint="give this user the right, or use another in its URL")
        if error.sqlstate == "3D000" or (error.sqlstate is None and "does not exist" in words and "role" not in words):
            return NotFound(f"{about} does not exist")
        if error.sqlstate in ("28P01", "28000") or re.search(_REFUSED, words):
            return ConfigInvalid(f"{about} refuses the login: {words}", hint="mend its URL")
        if isinstance(error, psycopg.OperationalError) and (error.sqlstate or "57P01")[:2] in ("08", "57"):
            return Unreachable(f"{about}: {words}", hint="see whether the server runs")
        return ServerFailed(f"{about}: {words}")


@asynccontextmanager
async def maintenance(login: Login) -> AsyncIterator[AsyncConnection]:
    """Open a connection to a database of the same server other than this one: to make, rename and drop.

    Raises:
        ReanimateError: as `Login.connect`.
    """
    async with AsyncExitStack() as stack:
        problem: ReanimateError | None = None
        for name in _MAINTENANCE:
            if name == login.database:
                continue
            try:
                connection = await stack.enter_async_context(login.at(name).connect())
                break
            except (NotFound, ConfigInvalid, Refused) as error:
                problem = problem or error
        else:
            raise problem or ConfigInvalid(f"{login.where} has no database {' or '.join(_MAINTENANCE)} to connect to")
        yield connection


def said(error: BaseException) -> str:
    """Return an error's first line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
