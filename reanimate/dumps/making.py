"""Make a database like the one that was dumped, give it what no dump holds, and drop it for certain."""

import asyncio
import logging

import psycopg
from psycopg import AsyncConnection
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from reanimate.dumps.facts import DatabaseProperties, Grant
from reanimate.dumps.fitness import Fitness
from reanimate.dumps.login import said
from reanimate.errors import ConfigInvalid, ServerFailed

__all__ = ["apply_properties", "create_like", "create_plain", "drop_database"]

log = logging.getLogger(__name__)

_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}
_DROP_ATTEMPTS = 5


async def create_like(connection: AsyncConnection, name: str, properties: DatabaseProperties, fitness: Fitness) -> None:
    """Create an empty database with that encoding, locale and owner.

    Raises:
        ConfigInvalid: the server's machine does not have the locale.
    """
    parts: list[Composable] = [
        SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(
            Identifier(name),
            Literal(properties.encoding),
            Literal(properties.collate),
            Literal(properties.ctype),
        )
    ]
    if fitness.server_major >= 15:
        parts.append(SQL("LOCALE_PROVIDER {}").format(SQL(_PROVIDERS[properties.provider])))
    if properties.locale is not None:
        word = {"i": "ICU_LOCALE", "b": "BUILTIN_LOCALE"}[properties.provider]
        parts.append(SQL(f"{word} {{}}").format(Literal(properties.locale)))
    if properties.icu_rules is not None:
        parts.append(SQL("ICU_RULES {}").format(Literal(properties.icu_rules)))
    if fitness.owner is not None:
        parts.append(SQL("OWNER {}").format(Identifier(fitness.owner)))
    try:
        await connection.execute(SQL(" ").join(parts))
    except (psycopg.errors.WrongObjectType, psycopg.errors.FeatureNotSupported, psycopg.errors.InvalidParameterValue,
            psycopg.errors.UndefinedFile) as error:  # fmt: skip
        raise ConfigInvalid(
            f"database {name!r} cannot be made with locale {properties.locale or properties.collate}: {said(error)}",
            hint="install the locale on the server's machine, or restore on another server",
        ) from error


async def create_plain(connection: AsyncConnection, name: str, properties: DatabaseProperties) -> None:
    """Create an empty database with that encoding, and the locale that every server has."""
    statement = SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE 'C'")
    await connection.execute(statement.format(Identifier(name), Literal(properties.encoding)))


async def apply_properties(
    connection: AsyncConnection, name: str, properties: DatabaseProperties, known_roles: set[str]
) -> list[str]:
    """Give a database its settings, rights and limit; return what could not be given, in words."""
    refused = []
    database = Identifier(name)
    for setting in properties.settings:
        if setting.role and setting.role not in known_roles:
            refused.append(f"the setting {setting.name} of role {setting.role}, who is not there")
            continue
        scope = SQL("ALTER ROLE {} IN DATABASE {}").format(Identifier(setting.role), database)
        target = scope if setting.role else SQL("ALTER DATABASE {}").format(database)
        statement = SQL("{} SET {} = {}").format(target, _name(setting.name), _value(setting.name, setting.value))
        refused += await _try(connection, statement, f"the setting {setting.name}")
    if properties.grants is not None:
        refused += await _grant(connection, database, properties.grants, known_roles)
    if properties.connection_limit >= 0:
        limit = SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(database, Literal(properties.connection_limit))
        refused += await _try(connection, limit, "the connection limit")
    return refused


async def _grant(
    connection: AsyncConnection, database: Identifier, grants: list[Grant], known_roles: set[str]
) -> list[str]:
    refused = await _try(connection, SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database), "rights")
    for grant in grants:
        if grant.grantee and grant.grantee not in known_roles:
            refused.append(f"{grant.privilege} for role {grant.grantee}, who is not there")
            continue
        statement = SQL("GRANT {} ON DATABASE {} TO {}{}").format(
            SQL(grant.privilege),  # a word of the server's own list  # type: ignore[arg-type]
            database,
            Identifier(grant.grantee) if grant.grantee else SQL("PUBLIC"),
            SQL(" WITH GRANT OPTION" if grant.grantable else ""),
        )
        refused += await _try(connection, statement, f"{grant.privilege} for {grant.grantee or 'everybody'}")
    return refused


async def _try(connection: AsyncConnection, statement: Composed, what: str) -> list[str]:
    try:
        await connection.execute(statement)
    except psycopg.Error as error:
        log.warning("giving the restored database %s: %s", what, error)
        return [f"{what}: {said(error)}"]
    return []


def _name(setting: str) -> Composable:
    return SQL(".").join(Identifier(part) for part in setting.split("."))


# These are lists of names, kept as the server quotes them.
_LISTS = frozenset(
    {
        "search_path",
        "temp_tablespaces",
        "session_preload_libraries",
        "local_preload_libraries",
        "shared_preload_libraries",
        "unix_socket_directories",
    }
)


def _value(setting: str, value: str) -> Composable:
    if setting not in _LISTS:
        return Literal(value)
    names = [name.strip() for name in value.split(",")]
    return SQL(", ").join(
        Literal(name[1:-1].replace('""', '"') if name.startswith('"') and name.endswith('"') else name)
        for name in names
    )


async def drop_database(connection: AsyncConnection, name: str) -> None:
    """Drop a database with whoever is connected to it, and see that it is gone.

    Raises:
        ServerFailed: it is still there.
    """
    problem = ""
    for attempt in range(_DROP_ATTEMPTS):
        try:
            await connection.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))
        except psycopg.Error as error:
            problem = said(error)
            if connection.closed:
                raise
        row = await (await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))).fetchone()
        if row is None:
            return
        await asyncio.sleep(0.3 * (attempt + 1))
    raise ServerFailed(
        f"database {name!r} could not be dropped: {problem}", hint=f'drop it by hand: DROP DATABASE "{name}"'
    )
