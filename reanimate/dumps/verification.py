"""Is a restored database what was dumped? A right count with wrong rows is noticed, and the table is named."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reanimate.backups.checks import Check, failures
from reanimate.dumps.content import (
    HowToRead,
    TableToRead,
    prepare,
    read_large_objects,
    read_sequences,
    read_tables_at_once,
    tables_to_read,
)
from reanimate.dumps.dump import Progress
from reanimate.dumps.facts import DatabaseFacts, DatabaseProperties, SequenceFacts, TableFacts
from reanimate.dumps.login import Login
from reanimate.dumps.properties import read_extensions, read_properties
from reanimate.dumps.schema import read_rights, read_schema, schema_differences
from reanimate.errors import VerificationFailed

__all__ = ["Verification", "verify_database"]

_NAMED = 5


@dataclass(frozen=True)
class Verification:
    """Whether a database holds exactly what its dump holds."""

    database: str
    backup_id: str
    passed: bool
    checks: tuple[Check, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)

    def require(self, where: str) -> None:
        """Say no if a check failed.

        Raises:
            VerificationFailed: naming each failed check with what was expected and found.
        """
        if not self.passed:
            raise VerificationFailed(
                f"database {self.database!r} on {where} is not what backup {self.backup_id} holds: "
                f"{failures(self.checks)}"
            )


async def verify_database(
    login: Login,
    facts: DatabaseFacts,
    backup_id: str,
    *,
    rights: bool,
    locale: bool = True,
    on_progress: Progress | None = None,
) -> Verification:
    """Hold a database against the facts of a dump.

    `rights`: owners and grants were restored, so they must be equal. `locale`: so was the locale.

    Raises:
        ReanimateError: as `Login.connect`; a difference is told, not raised.
    """
    async with login.connect() as connection:
        await prepare(connection)
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        major = connection.info.server_version // 10000
        properties = await read_properties(connection, major)
        tables = await tables_to_read(connection)
        sequences = await read_sequences(connection)
        large = await read_large_objects(connection)
        schema = await read_schema(connection, major)
        extensions = {extension.name for extension in await read_extensions(connection)}
        owned = await read_rights(connection) if rights else {}
    found = await _read(login, tables, facts, on_progress)
    differences = schema_differences(facts.schema_objects, schema, same_version=major == facts.server_major)
    lacking = sorted({extension.name for extension in facts.extensions} - extensions)
    checks = [
        _text("encoding", _place(facts.properties, locale=locale), _place(properties, locale=locale)),
        _list("extensions", f"{len(facts.extensions)} there", [f"{name} is missing" for name in lacking]),
        _list("schema", f"{len(facts.schema_objects)} objects as dumped", differences),
        _list("tables", f"{len(facts.tables)} tables", _table_differences(facts.tables, tables)),
        _list("rows", f"{facts.rows} rows", _row_differences(facts.tables, found)),
        _list("content", _content(facts), _content_differences(facts.tables, found)),
        _list("sequences", f"{len(facts.sequences)} as dumped", _sequence_differences(facts.sequences, sequences)),
        _text("large objects", _large(facts.large_objects.count, facts.large_objects.content),
              _large(large.count, large.content)),
    ]  # fmt: skip
    if rights:
        changed = [f"{name} has others" for name, digest in facts.rights.items() if owned.get(name) != digest]
        checks.append(_list("owners and grants", f"{len(facts.rights)} as dumped", changed))
    return Verification(login.database, backup_id, all(check.passed for check in checks), tuple(checks))


async def _read(
    login: Login, tables: Sequence[TableToRead], facts: DatabaseFacts, on_progress: Progress | None
) -> dict[str, TableFacts]:
    """Hash every table in the way that the dump's was: all rows, or the same sample."""
    expected = {table.label: table for table in facts.tables}
    wanted = [
        HowToRead(table, expected[table.label].one_in, expected[table.label].key)
        for table in tables
        if table.label in expected
    ]
    report = (lambda done, total: on_progress("verify", done, total)) if on_progress else None
    return {table.label: table for table in await read_tables_at_once(login, wanted, on_progress=report)}


def _table_differences(expected: Sequence[TableFacts], found: Sequence[TableToRead]) -> list[str]:
    were, are = {table.label for table in expected}, {table.label for table in found}
    return [
        *(f"{label} is missing" for label in sorted(were - are)),
        *(f"{label} is too much" for label in sorted(are - were)),
    ]


def _row_differences(expected: Sequence[TableFacts], found: dict[str, TableFacts]) -> list[str]:
    return [
        f"{table.label} has {found[table.label].rows} rows instead of {table.rows}"
        for table in expected
        if table.label in found and found[table.label].rows != table.rows
    ]


def _content_differences(expected: Sequence[TableFacts], found: dict[str, TableFacts]) -> list[str]:
    return [
        f"{table.label} holds other rows"
        for table in expected
        if table.label in found and found[table.label].content != table.content
    ]


def _content(facts: DatabaseFacts) -> str:
    sampled = ", ".join(f"{table.label} one row in {table.one_in}" for table in facts.sampled[:_NAMED])
    return f"the same rows in {len(facts.tables)} tables" + (f" (by sample: {sampled})" if sampled else "")


def _sequence_differences(
    expected: Sequence[SequenceFacts], found: dict[tuple[str, str], tuple[int, bool]]
) -> list[str]:
    """Where a sequence moved during the dump, any place between is right."""
    differences = []
    for fact in expected:
        value, called = found.get((fact.namespace, fact.name), (None, False))
        if value is None:
            differences.append(f"{fact.label} is missing")
        elif not min(fact.before, fact.after) <= value <= max(fact.before, fact.after):
            differences.append(f"{fact.label} is at {value} instead of {fact.before}")
        elif called not in (fact.called_before, fact.called_after):
            differences.append(f"{fact.label} has {'' if called else 'not '}given out {value}")
    return differences


def _large(count: int, content: str) -> str:
    return f"{count}, by hash {content}" if count else "none"


def _place(properties: DatabaseProperties, *, locale: bool) -> str:
    return ", ".join((properties.encoding, *((properties.collate, properties.ctype) if locale else ())))


def _text(name: str, expected: str, found: str) -> Check:
    return Check(name, expected == found, expected, found)


def _list(name: str, expected: str, differences: Iterable[str]) -> Check:
    told = list(differences)
    more = f"; and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    return Check(name, not told, expected, "; ".join(told[:_NAMED]) + more if told else expected)
