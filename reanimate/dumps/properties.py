"""What belongs to a database but is in no dump of its content: owner, locale, settings, rights; and the roles it names.

A restore makes a new database: without these it would come back with other rights and another search path.
"""

from typing import Any

from psycopg import AsyncConnection

from reanimate.dumps.facts import DatabaseProperties, Extension, Grant, Role, SettingOf

__all__ = [
    "read_extension_tables",
    "read_extensions",
    "read_not_dumped",
    "read_properties",
    "read_roles",
    "read_system_id",
    "read_tablespaces",
]

_OWNERS = """
    SELECT relowner AS role FROM pg_class c WHERE oid >= 16384 AND relkind <> 't' AND {not_member}
    UNION SELECT nspowner FROM pg_namespace c WHERE oid >= 16384 AND nspname !~ '^pg_' AND {not_member}
    UNION SELECT proowner FROM pg_proc c WHERE oid >= 16384 AND {not_member}
    UNION SELECT typowner FROM pg_type c WHERE oid >= 16384 AND {not_member}
    UNION SELECT oprowner FROM pg_operator c WHERE oid >= 16384 AND {not_member}
    UNION SELECT opcowner FROM pg_opclass c WHERE oid >= 16384 AND {not_member}
    UNION SELECT opfowner FROM pg_opfamily c WHERE oid >= 16384 AND {not_member}
    UNION SELECT collowner FROM pg_collation c WHERE oid >= 16384 AND {not_member}
    UNION SELECT conowner FROM pg_conversion c WHERE oid >= 16384 AND {not_member}
    UNION SELECT cfgowner FROM pg_ts_config c WHERE oid >= 16384 AND {not_member}
    UNION SELECT dictowner FROM pg_ts_dict c WHERE oid >= 16384 AND {not_member}
    UNION SELECT fdwowner FROM pg_foreign_data_wrapper c WHERE oid >= 16384 AND {not_member}
    UNION SELECT srvowner FROM pg_foreign_server c WHERE oid >= 16384 AND {not_member}
    UNION SELECT lanowner FROM pg_language c WHERE oid >= 16384 AND {not_member}
    UNION SELECT evtowner FROM pg_event_trigger c WHERE oid >= 16384 AND {not_member}
    UNION SELECT pubowner FROM pg_publication c WHERE oid >= 16384
    UNION SELECT stxowner FROM pg_statistic_ext c WHERE oid >= 16384
    UNION SELECT lomowner FROM pg_largeobject_metadata
    UNION SELECT defaclrole FROM pg_default_acl""".format(
    not_member="NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = c.tableoid AND e.objid = c.oid "
    "AND e.deptype = 'e')"
)

# Not from pg_shdepend: it does not know the one superuser that every cluster has, who is called otherwise elsewhere.
_GRANTED = " UNION ".join(
    f"SELECT a.grantee FROM {catalog} c, aclexplode(c.{acl}) a WHERE a.grantee <> {owner} AND {which}"
    for catalog, acl, owner, which in (
        ("pg_class", "relacl", "c.relowner", "c.oid >= 16384"),
        ("pg_attribute", "attacl", "0", "c.attrelid >= 16384"),
        ("pg_namespace", "nspacl", "c.nspowner", "(c.oid >= 16384 OR c.nspname = 'public')"),
        ("pg_proc", "proacl", "c.proowner", "c.oid >= 16384"),
        ("pg_type", "typacl", "c.typowner", "c.oid >= 16384"),
        ("pg_language", "lanacl", "c.lanowner", "c.oid >= 16384"),
        ("pg_foreign_data_wrapper", "fdwacl", "c.fdwowner", "true"),
        ("pg_foreign_server", "srvacl", "c.srvowner", "true"),
        ("pg_largeobject_metadata", "lomacl", "c.lomowner", "true"),
        ("pg_default_acl", "defaclacl", "c.defaclrole", "true"),
    )
)

_ROLES = f"""
    WITH owners AS ({_OWNERS}),
      granted AS ({_GRANTED}),
      named AS (SELECT unnest(polroles) FROM pg_policy UNION SELECT umuser FROM pg_user_mappings)
    SELECT r.rolname, r.oid IN (SELECT * FROM owners), r.oid IN (SELECT * FROM granted), r.oid IN (SELECT * FROM named)
    FROM pg_roles r
    WHERE r.oid IN (SELECT * FROM owners UNION SELECT * FROM granted UNION SELECT * FROM named)
    ORDER BY 1"""

_TABLESPACES = """
    SELECT DISTINCT t.spcname FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace
    WHERE t.spcname NOT IN ('pg_global', 'pg_default') ORDER BY 1"""


async def read_properties(connection: AsyncConnection, server_major: int) -> DatabaseProperties:
    """Return the properties of the database that this connection is to."""
    provider = "d.datlocprovider" if server_major >= 15 else "'c'"
    locale = "d.datlocale" if server_major >= 17 else "d.daticulocale" if server_major >= 15 else "NULL"
    rules = "d.daticurules" if server_major >= 16 else "NULL"
    row = await _one(
        connection,
        f"""
        SELECT pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), d.datcollate, d.datctype,
          {provider}::text, {locale}, {rules}, d.datconnlimit, shobj_description(d.oid, 'pg_database'), d.datacl IS NULL
        FROM pg_database d WHERE d.datname = current_database()""",
    )
    owner, encoding, collate, ctype, kind, place, extra, limit, comment, usual = row
    return DatabaseProperties(
        owner=owner,
        encoding=encoding,
        collate=collate,
        ctype=ctype,
        provider=kind,
        locale=place,
        icu_rules=extra,
        connection_limit=limit,
        comment=comment,
        settings=await _settings(connection),
        grants=None if usual else await _grants(connection),
    )


async def _settings(connection: AsyncConnection) -> list[SettingOf]:
    rows = await _all(
        connection,
        """
        SELECT coalesce(r.rolname, ''), unnest(s.setconfig)
        FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole
        WHERE d.datname = current_database() ORDER BY 1, 2""",
    )
    return [SettingOf(role=role, name=text.partition("=")[0], value=text.partition("=")[2]) for role, text in rows]


async def _grants(connection: AsyncConnection) -> list[Grant]:
    rows = await _all(
        connection,
        """
        SELECT coalesce(r.rolname, ''), a.privilege_type, a.is_grantable
        FROM pg_database d, aclexplode(d.datacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE d.datname = current_database() ORDER BY 1, 2""",
    )
    return [Grant(grantee=grantee, privilege=privilege, grantable=grantable) for grantee, privilege, grantable in rows]


async def read_roles(connection: AsyncConnection) -> list[Role]:
    """Return every role that the dump will name."""
    return [
        Role(name=name, owns=owns, granted=granted, policies=policies)
        for name, owns, granted, policies in await _all(connection, _ROLES)
    ]


async def read_extensions(connection: AsyncConnection) -> list[Extension]:
    rows = await _all(connection, "SELECT extname, extversion FROM pg_extension ORDER BY 1")
    return [Extension(name=name, version=version) for name, version in rows]


async def read_extension_tables(connection: AsyncConnection) -> list[int]:
    """Return the oids of tables that extensions ask pg_dump to dump in part; they are not ours to count."""
    return [oid for (oid,) in await _all(connection, "SELECT unnest(extconfig)::bigint FROM pg_extension ORDER BY 1")]


async def read_tablespaces(connection: AsyncConnection) -> list[str]:
    return [name for (name,) in await _all(connection, _TABLESPACES)]


async def read_system_id(connection: AsyncConnection) -> str | None:
    """Return which cluster this is, or None where the user may not ask."""
    (allowed,) = await _one(connection, "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')")
    if not allowed:
        return None
    (found,) = await _one(connection, "SELECT system_identifier::text FROM pg_control_system()")
    return str(found)


async def read_not_dumped(connection: AsyncConnection) -> list[str]:
    """Say what a dump of this database leaves out."""
    foreign, subscriptions, invalid = await _one(
        connection,
        """
        SELECT (SELECT count(*) FROM pg_class WHERE relkind = 'f'),
          (SELECT count(*) FROM pg_subscription
           WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())),
          (SELECT count(*) FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
           WHERE NOT x.indisvalid AND c.relkind = 'i')""",
    )
    notes = []
    if foreign:
        notes.append(f"the rows of {foreign} foreign table(s): they are elsewhere")
    if subscriptions:
        notes.append(f"{subscriptions} subscription(s): a restored copy must not subscribe by itself")
    if invalid:
        notes.append(f"{invalid} invalid index(es)")
    return notes


async def _one(connection: AsyncConnection, query: str) -> tuple[Any, ...]:
    row = await (await connection.execute(query.encode())).fetchone()
    assert row is not None
    return row


async def _all(connection: AsyncConnection, query: str) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query.encode())).fetchall()
