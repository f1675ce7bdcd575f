"""Every object of a database with a hash of its definition, so that a difference can be told by name.

What the server prints back from its own parse of an expression may change when it is read again: `x IN ('a', 'b')` on
a varchar column gets its casts in other places. Such texts are compared without parentheses, spaces and casts between
text types. Between two major versions they are compared by presence only.
"""

import hashlib
import re

from psycopg import AsyncConnection

__all__ = ["DEPARSED", "read_rights", "read_schema", "schema_differences", "without_noise"]

DEPARSED = "~"
"""Ends the name of an object whose definition is an expression that the server prints back."""

_NOISE = re.compile(
    r"""('(?:[^']|'')*'|"(?:[^"]|"")*")|::(?:character varying|character|bpchar|text)(?:\(\d+\))?(?:\[\])?|[()\s]"""
)

_OURS = r"n.nspname !~ '^pg_(toast|temp|catalog$)' AND n.nspname <> 'information_schema'"
_MEMBER = "EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{0}'::regclass AND e.objid = {1} AND e.deptype = 'e')"


def _not_member(catalog: str, oid: str) -> str:
    return "NOT " + _MEMBER.format(catalog, oid)


_RELATIONS = (
    "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    f"WHERE {_OURS} AND {_not_member('pg_class', 'c.oid')}"
)
_TYPES = (
    f"FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE {_OURS} AND {_not_member('pg_type', 't.oid')}"
)

# Objects of which only the presence is noted: rare, and made by administrators or extensions.
_RARE = (
    "pg_am",
    "pg_cast",
    "pg_collation",
    "pg_conversion",
    "pg_event_trigger",
    "pg_foreign_data_wrapper",
    "pg_foreign_server",
    "pg_language",
    "pg_opclass",
    "pg_operator",
    "pg_opfamily",
    "pg_publication",
    "pg_transform",
    "pg_ts_config",
    "pg_ts_dict",
)

_PLAIN = {
    "schema": (
        "SELECT quote_ident(n.nspname), '' FROM pg_namespace n "
        f"WHERE {_OURS} AND {_not_member('pg_namespace', 'n.oid')}"
    ),
    "relation": f"""
        SELECT format('%I.%I', n.nspname, c.relname),
          concat_ws('|', c.relkind, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, c.relreplident,
            c.relispopulated OR c.relkind <> 'm',
            (SELECT string_agg(o, ',' ORDER BY o) FROM unnest(c.reloptions) o),
            (SELECT string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                a.attnotnull, a.attidentity, a.attgenerated, co.collname), ', ' ORDER BY a.attname)
             FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
             LEFT JOIN pg_collation co ON co.oid = a.attcollation AND a.attcollation <> y.typcollation
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
            (SELECT string_agg(format('%I.%I', pn.nspname, p.relname), ',' ORDER BY h.inhseqno)
             FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
             WHERE h.inhrelid = c.oid AND c.relkind IN ('r', 'p', 'f')),
            (SELECT concat_ws(' ', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle)
             FROM pg_sequence s WHERE s.seqrelid = c.oid))
        {_RELATIONS} AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')""",
    "type": f"""
        SELECT format('%I.%I', n.nspname, t.typname),
          concat_ws('|', t.typtype, t.typnotnull, t.typbasetype::regtype, t.typtypmod,
            (SELECT string_agg(quote_literal(l.enumlabel), ',' ORDER BY l.enumsortorder)
             FROM pg_enum l WHERE l.enumtypid = t.oid),
            (SELECT r.rngsubtype::regtype::text FROM pg_range r WHERE r.rngtypid = t.oid))
        {_TYPES} AND t.typtype IN ('d', 'e', 'r', 'b') AND t.typelem = 0""",
    "function": f"""
        SELECT format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
          concat_ws('|', p.prokind, l.lanname, p.provolatile, p.proisstrict, p.prosecdef, p.proparallel, p.proleakproof,
            pg_get_function_result(p.oid), p.procost, p.prorows, p.proconfig::text, p.probin, p.prosrc,
            (SELECT concat_ws(' ', a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.agginitval)
             FROM pg_aggregate a WHERE a.aggfnoid = p.oid))
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
        WHERE {_OURS} AND {_not_member("pg_proc", "p.oid")}
          AND NOT EXISTS (SELECT FROM pg_depend i  -- a range type's constructors come and go with it
                          WHERE i.classid = 'pg_proc'::regclass AND i.objid = p.oid AND i.deptype = 'i')""",
    "comment": """
        SELECT concat_ws(' ', i.type, i.identity), d.description
        FROM pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) i
        WHERE d.objoid >= 16384 AND i.identity IS NOT NULL AND coalesce(i.schema, '') !~ '^pg_(toast|temp)'
          AND NOT EXISTS (SELECT FROM pg_depend e
                          WHERE e.classid = d.classoid AND e.objid = d.objoid AND e.deptype = 'e')
          AND d.classoid NOT IN ('pg_extension'::regclass, 'pg_subscription'::regclass)""",
    **{
        catalog: f"""
        SELECT concat_ws(' ', i.type, i.identity), ''
        FROM {catalog} x, pg_identify_object('{catalog}'::regclass, x.oid, 0) i
        WHERE x.oid >= 16384 AND {_not_member(catalog, "x.oid")}"""
        for catalog in _RARE
    },
}

_PRINTED = {
    "partition": f"""
        SELECT format('%I.%I', n.nspname, c.relname),
          concat_ws('|', pg_get_expr(c.relpartbound, c.oid), pg_get_partkeydef(c.oid))
        {_RELATIONS} AND (c.relispartition OR c.relkind = 'p') AND c.relkind IN ('r', 'p', 'f')""",
    "default": f"""
        SELECT format('%I.%I.%I', n.nspname, c.relname, a.attname), pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        JOIN pg_class c ON c.oid = d.adrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS} AND {_not_member("pg_class", "c.oid")}""",
    # Not-null constraints have rows of their own from version 18 on; the column says it in every version.
    "constraint": f"""
        SELECT format('%I on %s', o.conname,
            coalesce(nullif(o.conrelid, 0)::regclass::text, o.contypid::regtype::text)),
          concat_ws('|', o.contype, o.convalidated, pg_get_constraintdef(o.oid))
        FROM pg_constraint o JOIN pg_namespace n ON n.oid = o.connamespace
        WHERE {_OURS} AND o.contype NOT IN ('n', 't') AND o.conparentid = 0
          AND NOT {_MEMBER.format("pg_class", "o.conrelid")} AND NOT {_MEMBER.format("pg_type", "o.contypid")}""",
    "index": f"""
        SELECT format('%I.%I', n.nspname, c.relname), concat_ws('|', pg_get_indexdef(c.oid), x.indisreplident)
        FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS} AND x.indisready AND (x.indisvalid OR c.relkind = 'I')
          AND NOT {_MEMBER.format("pg_class", "x.indrelid")}""",
    "view": f"""
        SELECT format('%I.%I', n.nspname, c.relname), pg_get_viewdef(c.oid)
        {_RELATIONS} AND c.relkind IN ('v', 'm')""",
    "rule": f"""
        SELECT format('%I on %I.%I', r.rulename, n.nspname, c.relname), pg_get_ruledef(r.oid)
        FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS} AND r.rulename <> '_RETURN' AND NOT {_MEMBER.format("pg_class", "c.oid")}""",
    "trigger": f"""
        SELECT format('%I on %I.%I', g.tgname, n.nspname, c.relname),
          concat_ws('|', g.tgenabled, pg_get_triggerdef(g.oid))
        FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS} AND NOT g.tgisinternal AND g.tgparentid = 0 AND NOT {_MEMBER.format("pg_class", "c.oid")}""",
    "policy": f"""
        SELECT format('%I on %I.%I', y.polname, n.nspname, c.relname),
          concat_ws('|', y.polcmd, y.polpermissive, pg_get_expr(y.polqual, y.polrelid),
            pg_get_expr(y.polwithcheck, y.polrelid))
        FROM pg_policy y JOIN pg_class c ON c.oid = y.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {_OURS}""",
    "statistics": f"""
        SELECT format('%I.%I', n.nspname, s.stxname), pg_get_statisticsobjdef(s.oid)
        FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE {_OURS}""",
    "arguments": f"""
        SELECT format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
          pg_get_function_arguments(p.oid)
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE {_OURS} AND p.pronargdefaults > 0 AND {_not_member("pg_proc", "p.oid")}""",
}

_SQL_BODY = f"""
    SELECT format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
      pg_get_function_sqlbody(p.oid)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE {_OURS} AND p.prosqlbody IS NOT NULL AND {_not_member("pg_proc", "p.oid")}"""

# What an owner may do is not asked: versions know different rights. MAINTAIN, new in 17, comes along with ALL.
_ACL = """(SELECT string_agg(concat_ws(' ', coalesce(g.rolname, 'PUBLIC'), a.privilege_type, a.is_grantable), ','
      ORDER BY g.rolname, a.privilege_type)
    FROM aclexplode(coalesce({0}, acldefault({1}, {2}))) a LEFT JOIN pg_roles g ON g.oid = a.grantee
    WHERE a.grantee <> {2} AND a.privilege_type <> 'MAINTAIN')"""

_KIND = '''(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END)::"char"'''

_RIGHTS = {
    "relation": f"""
        SELECT format('%I.%I', n.nspname, c.relname),
          concat_ws('|', pg_get_userbyid(c.relowner),
            {_ACL.format("c.relacl", _KIND, "c.relowner")},
            (SELECT string_agg(a.attname || a.attacl::text, ',' ORDER BY a.attname)
             FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped))
        {_RELATIONS} AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')""",
    "schema": f"""
        SELECT quote_ident(n.nspname),
          concat_ws('|', pg_get_userbyid(n.nspowner), {_ACL.format("n.nspacl", "'n'", "n.nspowner")})
        FROM pg_namespace n WHERE {_OURS} AND {_not_member("pg_namespace", "n.oid")}""",
    "function": f"""
        SELECT format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
          concat_ws('|', pg_get_userbyid(p.proowner), {_ACL.format("p.proacl", "'f'", "p.proowner")})
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE {_OURS} AND {_not_member("pg_proc", "p.oid")}""",
}


async def read_schema(connection: AsyncConnection, server_major: int) -> dict[str, str]:
    """Return every object of the database as `kind name`, and a hash of its definition.

    The connection must have an empty search path, so that every name is printed with its schema.
    """
    printed = {**_PRINTED, **({"body": _SQL_BODY} if server_major >= 14 else {})}
    return {
        **{name: _hash(text) for name, text in await _read(connection, _PLAIN)},
        **{name + DEPARSED: _hash(without_noise(text)) for name, text in await _read(connection, printed)},
    }


async def read_rights(connection: AsyncConnection) -> dict[str, str]:
    """Return every relation, schema and function, and a hash of its owner and its grants."""
    return {name: _hash(text) for name, text in await _read(connection, _RIGHTS)}


def schema_differences(expected: dict[str, str], found: dict[str, str], *, same_version: bool) -> list[str]:
    """Name what is missing, too much or different; between versions, printed expressions only by presence."""
    differences = [f"{_label(name)} is missing" for name in expected if name not in found]
    differences += [f"{_label(name)} is too much" for name in found if name not in expected]
    for name, digest in expected.items():
        if found.get(name, digest) != digest and (same_version or not name.endswith(DEPARSED)):
            differences.append(f"{_label(name)} is different")
    return sorted(differences)


def without_noise(text: str) -> str:
    """Return a printed expression without what may move when it is read again; literals and quoted names stay."""
    return _NOISE.sub(lambda found: found[1] or "", text)


def _label(name: str) -> str:
    return name.removesuffix(DEPARSED)


async def _read(connection: AsyncConnection, queries: dict[str, str]) -> list[tuple[str, str]]:
    found = []
    for kind, query in queries.items():
        rows = await (await connection.execute(query.encode())).fetchall()
        found += [(f"{kind} {identity}", definition or "") for identity, definition in rows]
    return found


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
