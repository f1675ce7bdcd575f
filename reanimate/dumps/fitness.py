"""May this server take this dump? Looked at before anything is made: extensions, roles, tablespaces, rights."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import AsyncConnection
from psycopg.sql import SQL, Identifier

from reanimate.dumps.facts import DatabaseFacts, Role
from reanimate.errors import Refused

__all__ = ["Fitness", "create_roles", "look_at_server"]


@dataclass(frozen=True)
class Fitness:
    """What a restore on this server can keep."""

    server_major: int
    user: str
    owner: str | None
    """The database's owner, where this server has the role and the user may give to it."""
    owners: bool
    """Whether every object can get its owner."""
    grants: bool
    """Whether every grant can be given."""
    tablespaces: bool
    missing_roles: tuple[str, ...]
    notes: tuple[str, ...]


async def look_at_server(connection: AsyncConnection, facts: DatabaseFacts, *, database: str) -> Fitness:
    """Say what this server can keep of a dump.

    Raises:
        Refused: it lacks an extension, a role that a row-level policy names, or the right to make databases.
    """
    user, may_create = await _user(connection)
    if not may_create:
        raise Refused(
            f"restoring database {database!r}: user {user!r} may not make databases",
            hint=f'have an administrator run: ALTER ROLE "{user}" CREATEDB',
        )
    if lacking := await _lacking_extensions(connection, facts):
        raise Refused(
            f"restoring database {database!r}: the server has no extension {', '.join(lacking)}",
            hint="install it there, or restore on another server",
        )
    known = await _roles(connection)
    missing = [role for role in facts.roles if role.name not in known]
    if policies := [role.name for role in missing if role.policies]:
        raise Refused(
            f"restoring database {database!r}: policies or user mappings name the role {', '.join(policies)}, "
            "which the server does not have",
            hint="create the role, or restore with --create-roles",
        )
    owners = all(known.get(role.name, False) for role in facts.roles if role.owns)
    grants = all(role.name in known for role in facts.roles if role.granted)
    tablespaces = set(facts.tablespaces) <= await _tablespaces(connection)
    return Fitness(
        server_major=connection.info.server_version // 10000,
        user=user,
        owner=facts.properties.owner if known.get(facts.properties.owner) else None,
        owners=owners,
        grants=grants and owners,
        tablespaces=tablespaces,
        missing_roles=tuple(role.name for role in missing),
        notes=tuple(_notes(facts, known, missing, user, owners=owners, grants=grants, tablespaces=tablespaces)),
    )


async def create_roles(connection: AsyncConnection, facts: DatabaseFacts) -> list[str]:
    """Make the roles that a dump names and the server lacks, without a login, and return their names."""
    known = await _roles(connection)
    names = dict.fromkeys([*(role.name for role in facts.roles), facts.properties.owner])
    made = [name for name in names if name not in known]
    for name in made:
        await connection.execute(SQL("CREATE ROLE {} NOLOGIN").format(Identifier(name)))
    return made


def _notes(
    facts: DatabaseFacts,
    known: dict[str, bool],
    missing: Sequence[Role],
    user: str,
    *,
    owners: bool,
    grants: bool,
    tablespaces: bool,
) -> list[str]:
    notes = []
    absent = ", ".join(role.name for role in missing)
    if not owners:
        others = ", ".join(role.name for role in facts.roles if role.owns and not known.get(role.name, False))
        notes.append(f"everything will belong to {user}: it cannot be given to {others}; --create-roles makes them")
    if not (grants and owners):
        notes.append(f"grants are not restored: {f'there is no role {absent}' if absent else 'the owners are others'}")
    if not tablespaces:
        notes.append(f"the tablespaces {', '.join(facts.tablespaces)} are not all there; the default one is used")
    if facts.properties.owner not in known:
        notes.append(f"the database will belong to {user}: there is no role {facts.properties.owner}")
    return notes


async def _user(connection: AsyncConnection) -> tuple[str, bool]:
    row = await (
        await connection.execute("SELECT rolname, rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user")
    ).fetchone()
    assert row is not None
    return row[0], row[1]


async def _roles(connection: AsyncConnection) -> dict[str, bool]:
    """Return every role, and whether this user can give something to it."""
    right = "SET" if connection.info.server_version >= 160000 else "MEMBER"
    rows = await (
        await connection.execute(f"SELECT rolname, pg_has_role(oid, '{right}') FROM pg_roles".encode())
    ).fetchall()
    return dict(rows)


async def _lacking_extensions(connection: AsyncConnection, facts: DatabaseFacts) -> list[str]:
    rows = await (await connection.execute("SELECT name FROM pg_available_extensions")).fetchall()
    return sorted({extension.name for extension in facts.extensions} - {name for (name,) in rows})


async def _tablespaces(connection: AsyncConnection) -> set[str]:
    rows = await (await connection.execute("SELECT spcname FROM pg_tablespace")).fetchall()
    return {name for (name,) in rows}
