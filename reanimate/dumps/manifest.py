"""What a dump says of itself, signed and chained like every backup."""

from typing import Literal

from reanimate.backups.manifest import Manifest, Part, Server
from reanimate.dumps.facts import DatabaseFacts

__all__ = ["PostgresManifest"]


class PostgresManifest(Manifest):
    """A backup of a Postgres database. Its subject is the database's name in the settings, not on the server."""

    ROOT = "dumps"

    kind: Literal["postgres"] = "postgres"
    server: Server
    made_by: str
    """pg_dump's version; a pg_restore of this major version or a newer one reads the dump."""
    facts: DatabaseFacts

    @property
    def made_by_major(self) -> int:
        return int(self.made_by.split(".")[0])

    @property
    def dump(self) -> Part:
        """The one part there is."""
        (part,) = self.parts
        return part
