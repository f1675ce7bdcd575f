"""Database URLs with their passwords, put together where a connection is opened and nowhere else."""

from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from reanimate.addresses import Addresses
from reanimate.config import Settings
from reanimate.errors import ConfigInvalid
from reanimate.secrets import Secrets

__all__ = ["PREFECT_DATABASE", "RECORD_DATABASE", "prefect_database", "prefect_url", "record_url", "without_password"]

RECORD_DATABASE = "reanimate"
PREFECT_DATABASE = "prefect"
"""Our record and Prefect's tables, on the embedded server."""

_RECORD_DRIVER = "postgresql+psycopg"
_PREFECT_DRIVER = "postgresql+asyncpg"


def record_url(settings: Settings, addresses: Addresses, secrets: Secrets) -> str:
    """Return the record's SQLAlchemy URL (psycopg 3), with its password. Never log it.

    Raises:
        ConfigInvalid: the system runs on somebody's own database, whose URL this process was not given.
    """
    if settings.database.url is not None:
        return _with_driver(settings.database.url.get_secret_value(), _RECORD_DRIVER)
    parts = urlsplit(addresses.database)
    if parts.username is None or parts.hostname != "127.0.0.1" or parts.path != f"/{RECORD_DATABASE}":
        raise ConfigInvalid(
            "this system runs on a database of yours, and its URL is not known here",
            hint="set DATABASE_URL as it was for `reanimate up`, or database.url in reanimate.toml",
        )
    login = f"{parts.username}:{quote(secrets.postgres_password, safe='')}"
    return urlunsplit((_RECORD_DRIVER, f"{login}@{parts.hostname}:{parts.port}", parts.path, "", ""))


def prefect_database(settings: Settings) -> str:
    """Return the name of Prefect's database: its own, beside the record's."""
    if settings.database.url is None:
        return PREFECT_DATABASE
    return urlsplit(settings.database.url.get_secret_value()).path.lstrip("/") + "_prefect"


def prefect_url(settings: Settings, addresses: Addresses, secrets: Secrets) -> str:
    """Return the SQLAlchemy URL (asyncpg) of Prefect's database, with its password. Never log it.

    Raises:
        ConfigInvalid: see `record_url`.
    """
    parts = urlsplit(record_url(settings, addresses, secrets))
    mode = dict(parse_qsl(parts.query)).get("sslmode")
    query = urlencode({"ssl": mode}) if mode else ""  # asyncpg's word for it; it knows no other of libpq's options
    return urlunsplit((_PREFECT_DRIVER, parts.netloc, "/" + prefect_database(settings), query, ""))


def without_password(url: str) -> str:
    """Return `url` fit for addresses.json, logs and tables: no password and no options."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname or ""
    login = f"{parts.username}@" if parts.username else ""
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit((_RECORD_DRIVER, f"{login}{host}{port}", parts.path, "", ""))


def _with_driver(url: str, driver: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] not in ("postgres", "postgresql"):
        raise ConfigInvalid("DATABASE_URL is not a Postgres URL", hint="it begins with postgresql://")
    return f"{driver}://{rest}"
