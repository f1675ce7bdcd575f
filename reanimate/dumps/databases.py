"""Which databases there are to back up: those of the settings, our own record, and Prefect's if wanted."""

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from reanimate.addresses import Addresses
from reanimate.config import PREFECT_NAME, RECORD_NAME, Settings
from reanimate.db.url import prefect_url, record_url
from reanimate.dumps.login import Login
from reanimate.errors import ConfigInvalid
from reanimate.secrets import Secrets

__all__ = ["configured_login", "database_names", "login_of", "scratch_login"]


def database_names(settings: Settings) -> list[str]:
    """Return the names by which databases are backed up: `record` is always one."""
    prefect = [PREFECT_NAME] if settings.postgres.prefect else []
    return [*(database.name for database in settings.postgres.databases), RECORD_NAME, *prefect]


def login_of(name: str, settings: Settings, addresses: Addresses, secrets: Secrets) -> Login:
    """Return how to reach a database by its name in the settings; Prefect's also when it is not backed up by itself.

    Raises:
        ConfigInvalid: no database has that name, or its URL is not usable.
    """
    if name == RECORD_NAME:
        return Login.from_url(record_url(settings, addresses, secrets), name=name)
    if name == PREFECT_NAME:
        if settings.prefect.api_url is not None:
            raise ConfigInvalid("Prefect's server is not ours, and its database is not known here")
        return Login.from_url(_as_libpq_says(prefect_url(settings, addresses, secrets)), name=name)
    if (login := configured_login(name, settings)) is not None:
        return login
    raise ConfigInvalid(
        f"no database is called {name!r}",
        hint=f"there are {', '.join(database_names(settings))}; others are named in [[postgres.databases]]",
    )


def configured_login(name: str, settings: Settings) -> Login | None:
    """Return how to reach a database of the settings; None for others, our own among them.

    Raises:
        ConfigInvalid: its URL is not usable.
    """
    urls = {database.name: database.url.get_secret_value() for database in settings.postgres.databases}
    return Login.from_url(urls[name], name=name) if name in urls else None


def scratch_login(settings: Settings) -> Login | None:
    """Return the server that is set aside to try dumps on, if there is one.

    Raises:
        ConfigInvalid: its URL is not usable.
    """
    url = settings.postgres.scratch_url
    return None if url is None else Login.from_url(url.get_secret_value(), name="scratch")


def _as_libpq_says(url: str) -> str:
    """Turn asyncpg's word `ssl` back into libpq's."""
    parts = urlsplit(url)
    options = [("sslmode" if key == "ssl" else key, value) for key, value in parse_qsl(parts.query)]
    return urlunsplit(parts._replace(query=urlencode(options)))
