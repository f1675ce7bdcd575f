"""What a database held in the snapshot that was dumped: by this a restore is told to be right."""

from pydantic import BaseModel, ConfigDict

__all__ = [
    "DatabaseFacts",
    "DatabaseProperties",
    "Extension",
    "Grant",
    "LargeObjects",
    "Role",
    "SequenceFacts",
    "SettingOf",
    "TableFacts",
]


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True)


class TableFacts(_Fact):
    """One table's rows: exactly how many, and a sum over hashes of their text, whatever their order."""

    oid: int
    namespace: str
    name: str
    rows: int
    content: str
    """The sum of hashtextextended(row as text) over the rows, or over the sample where there is one."""
    one_in: int = 1
    """1: every row is hashed. More: about every n-th, drawn by the hash of its key, so that the sample is always
    the same."""
    key: list[str] = []
    """The columns of the primary key by which the sample is drawn."""

    @property
    def label(self) -> str:
        return f"{self.namespace}.{self.name}"


class SequenceFacts(_Fact):
    """Where a sequence stood before and after the dump: sequences are outside of snapshots and may move meanwhile."""

    namespace: str
    name: str
    before: int
    after: int
    called_before: bool
    called_after: bool

    @property
    def label(self) -> str:
        return f"{self.namespace}.{self.name}"


class LargeObjects(_Fact):
    """The large objects, and a sum over hashes of their bytes."""

    count: int
    content: str


class Extension(_Fact):
    name: str
    version: str


class Role(_Fact):
    """A role that the dump names: as owner, in grants, in row-level policies or user mappings."""

    name: str
    owns: bool
    granted: bool
    policies: bool


class Grant(_Fact):
    """A right on the database itself. An empty grantee is everybody."""

    grantee: str
    privilege: str
    grantable: bool


class SettingOf(_Fact):
    """ALTER DATABASE … SET, for one role or (empty) for all."""

    role: str
    name: str
    value: str


class DatabaseProperties(_Fact):
    """What belongs to the database itself and is in no dump of its content."""

    owner: str
    encoding: str
    collate: str
    ctype: str
    provider: str
    """c: the system's library, i: ICU, b: built in."""
    locale: str | None
    icu_rules: str | None
    connection_limit: int
    comment: str | None
    settings: list[SettingOf]
    grants: list[Grant] | None
    """None: what every database has."""


class DatabaseFacts(_Fact):
    """Everything read in the snapshot."""

    database: str
    server_version: str
    server_major: int
    system_id: str | None
    """Which cluster it was, where the user may ask."""
    properties: DatabaseProperties
    size_bytes: int
    """On the server's disk, indexes and all: what a restore needs there."""
    table_bytes: int
    tables: list[TableFacts]
    sequences: list[SequenceFacts]
    large_objects: LargeObjects
    extensions: list[Extension]
    extension_tables: list[int]
    """Oids of tables that belong to extensions and may be in the dump in part."""
    roles: list[Role]
    tablespaces: list[str]
    schema_objects: dict[str, str]
    """Every object, and a hash of its definition."""
    rights: dict[str, str]
    """Every object, and a hash of its owner and grants."""
    not_dumped: list[str]
    """What stays out of a dump, in words."""

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)

    @property
    def sampled(self) -> list[TableFacts]:
        """Tables too large for every row to be hashed."""
        return [table for table in self.tables if table.one_in > 1]
