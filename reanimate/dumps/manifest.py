"""What a dump says of itself, signed and chained like every backup."""

from typing import Literal, Self

from pydantic import model_validator

from reanimate.backups.manifest import Manifest, Part, Server
from reanimate.dumps.facts import DatabaseFacts

__all__ = ["DUMP", "SETTINGS", "PostgresManifest"]

DUMP = "database.dump"
SETTINGS = "settings.json"


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
        """The dump itself."""
        return next(part for part in self.parts if part.name == DUMP)

    @property
    def settings(self) -> Part | None:
        """What ALTER DATABASE … SET had set, if anything. Its values may be secrets, so they are no text in here."""
        return next((part for part in self.parts if part.name == SETTINGS), None)

    @model_validator(mode="after")
    def _has_a_dump(self) -> Self:
        if sum(part.name == DUMP for part in self.parts) != 1:
            raise ValueError(f"it does not have one part called {DUMP}")
        return self
