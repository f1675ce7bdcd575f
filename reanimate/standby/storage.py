"""Where the standby server keeps its state. Every change is one rename: a kill at any line leaves the old or the new.

DATA/aliases.json
DATA/peer.json                         the id that snapshots carry in their names
DATA/collections/{c}/config.json       its presence makes the collection; names the live directory of each shard
DATA/collections/{c}/shards/{N}.{x}/   one engine directory; those that config.json does not name are leftovers
DATA/snapshots/{c}/                    survive their collection, as on a real server
DATA/snapshots/{c}/shards/{N}/
DATA/tmp/                              emptied at every start
"""

import fcntl
import os
import secrets
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from reanimate.errors import ConfigInvalid
from reanimate.files import write_atomically

__all__ = ["CollectionState", "Storage"]

Json = dict[str, Any]


@dataclass
class CollectionState:
    """What `config.json` of a collection holds."""

    config: Json
    shards: dict[int, str] = field(default_factory=dict)
    """Shard id -> name of its live directory below `shards/`."""
    held: Json | None = None
    """On an offline standby: of which backup this is a copy; see `held.py`. Gone as soon as the data changes."""


class Storage:
    """The data directory of one server; only one process may have it open."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tmp = root / "tmp"
        self._lock: int | None = None
        self.peer_id = 0

    def open(self) -> None:
        """Take the directory, sweep what a kill left behind.

        Raises:
            ConfigInvalid: it cannot be written, or another server has it.
        """
        try:
            for directory in (self.root / "collections", self.root / "snapshots"):
                directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigInvalid(
                f"{self.root} is in use by another standby server", hint="give this one its own"
            ) from None
        except OSError as error:
            raise ConfigInvalid(
                f"cannot use {self.root} as data directory: {error}", hint="check its rights"
            ) from error
        shutil.rmtree(self.tmp, ignore_errors=True)
        self.tmp.mkdir()
        self.peer_id = self._load_peer_id()

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _load_peer_id(self) -> int:
        path = self.root / "peer.json"
        if path.exists():
            return int(orjson.loads(path.read_bytes())["peer_id"])
        peer_id = secrets.randbits(53)
        write_atomically(path, orjson.dumps({"peer_id": peer_id}))
        return peer_id

    def collection(self, name: str) -> Path:
        return self.root / "collections" / _file_name(name)

    def shard(self, name: str, directory: str) -> Path:
        return self.collection(name) / "shards" / directory

    def snapshots(self, name: str, shard: int | None = None) -> Path:
        base = self.root / "snapshots" / _file_name(name)
        return base if shard is None else base / "shards" / str(shard)

    def scratch(self) -> Path:
        """Return a path below `tmp/` that nobody uses."""
        return self.tmp / uuid.uuid4().hex

    def new_shard_directory(self, shard: int) -> str:
        """Name a directory for a shard that no earlier life of it had."""
        return f"{shard}.{uuid.uuid4().hex[:8]}"

    def load_collections(self) -> dict[str, CollectionState]:
        """Read every collection; remove directories that a kill left half made."""
        found: dict[str, CollectionState] = {}
        for directory in sorted((self.root / "collections").iterdir()):
            path = directory / "config.json"
            if not path.exists():
                shutil.rmtree(directory, ignore_errors=True)
                continue
            stored = orjson.loads(path.read_bytes())
            shards = {int(shard): live for shard, live in stored["shards"].items()}
            found[stored["name"]] = CollectionState(stored["config"], shards, stored.get("held"))
            for leftover in (directory / "shards").iterdir():
                if leftover.name not in shards.values():
                    shutil.rmtree(leftover, ignore_errors=True)
        return found

    def save_collection(self, name: str, state: CollectionState) -> None:
        """Make the collection, or its changed state, be what the next start sees."""
        content = {"name": name, "config": state.config, "shards": {str(k): v for k, v in state.shards.items()}}
        if state.held is not None:
            content["held"] = state.held
        write_atomically(self.collection(name) / "config.json", orjson.dumps(content, option=orjson.OPT_INDENT_2))

    def remove_collection(self, name: str) -> Path | None:
        """Make the collection be gone by one rename; return what is left to remove."""
        trash = self.scratch()
        try:
            self.collection(name).rename(trash)
        except FileNotFoundError:
            return None
        return trash

    def discard(self, directory: Path) -> None:
        """Remove a directory that nothing names any more; what is left by a kill goes at the next start."""
        shutil.rmtree(directory, ignore_errors=True)

    def load_aliases(self) -> dict[str, str]:
        path = self.root / "aliases.json"
        return dict(orjson.loads(path.read_bytes())) if path.exists() else {}

    def save_aliases(self, aliases: dict[str, str]) -> None:
        write_atomically(self.root / "aliases.json", orjson.dumps(aliases))


def _file_name(name: str) -> str:
    """Collection names may be anything without a slash; `.` and `..` may not be directories."""
    return f"%{name}" if name.startswith((".", "%")) else name
