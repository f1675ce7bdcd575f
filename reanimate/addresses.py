"""Where the running parts listen, as `reanimate up` decided it: `run/addresses.json` in the home directory."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from reanimate.errors import NotFound
from reanimate.files import write_atomically

__all__ = ["Addresses"]


@dataclass(frozen=True)
class Addresses:
    """Base URLs, without a trailing slash. `vector` maps a target's name to its URL."""

    web: str
    prefect_api: str
    prefect_ui: str
    gateway: str
    gateway_control: str
    watch: str
    database: str
    """SQLAlchemy URL without the password; see `secrets.py`."""
    vector: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def file(home: Path) -> Path:
        return home / "run" / "addresses.json"

    @classmethod
    def load(cls, home: Path) -> "Addresses":
        """Read what `up` wrote.

        Raises:
            NotFound: the system has never been started in this home directory.
        """
        try:
            return cls(**json.loads(cls.file(home).read_bytes()))
        except FileNotFoundError:
            raise NotFound(f"nothing has been started in {home}", hint="run `reanimate up` first") from None

    def save(self, home: Path) -> None:
        write_atomically(self.file(home), json.dumps(asdict(self), indent=2).encode())
