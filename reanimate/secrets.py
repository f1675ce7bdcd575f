"""Secrets that this installation made for itself: `secrets.json` in the home directory, readable by its owner only.

They never enter settings, logs, Prefect or a page; parts that need one load it here.
"""

import json
import secrets
from dataclasses import dataclass, fields
from pathlib import Path

from reanimate.errors import ConfigInvalid
from reanimate.files import write_atomically

__all__ = ["Secrets"]


@dataclass(frozen=True, repr=False)
class Secrets:
    """Generated once; all are URL-safe text."""

    postgres_password: str
    control_key: str
    """Signs switch documents, and authenticates gateways to the control plane."""
    intake_token: str
    """Bearer token of our own watch at the alert intake; good for a first sender too."""

    def __repr__(self) -> str:
        return "Secrets(***)"

    @staticmethod
    def file(home: Path) -> Path:
        return home / "secrets.json"

    @classmethod
    def load_or_create(cls, home: Path) -> "Secrets":
        """Read the secrets; make those that are missing.

        Raises:
            ConfigInvalid: the file exists but is not readable as what it should be. It is never overwritten then.
        """
        path = cls.file(home)
        stored: dict[str, str] = {}
        if path.exists():
            try:
                stored = json.loads(path.read_bytes())
                if not all(isinstance(value, str) for value in stored.values()):
                    raise ValueError("a value is not text")
            except (ValueError, AttributeError, OSError) as error:
                raise ConfigInvalid(
                    f"{path} is not readable as secrets: {error}",
                    hint="restore it, or move it away to have new ones made",
                ) from error
        names = [item.name for item in fields(cls)]
        complete = {name: stored.get(name) or secrets.token_urlsafe(24) for name in names}
        if complete != stored:
            write_atomically(path, json.dumps(complete, indent=2).encode(), mode=0o600)
        return cls(**complete)
