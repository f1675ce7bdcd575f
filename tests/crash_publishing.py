"""Publishes a backup again and again, killed each time a little later: `python crash_publishing.py HOME POINTS`.

One process imports everything and forks one child for each point; a child counts the calls that the library makes, in
all its threads, and kills itself at its own number. HOME gets a folder for each point, beginning with that of no kill.
"""

import asyncio
import os
import shutil
import signal
import sys
import threading
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from manifests import TAKEN, manifest

import reanimate
from reanimate.backups.catalog import Catalog, backup_prefix
from reanimate.backups.keyring import Keyring
from reanimate.backups.manifest import ShardPart
from reanimate.backups.memory import Memory
from reanimate.backups.stored_parts import store_part
from reanimate.backups.unfinished import Unfinished
from reanimate.clock import utcnow
from reanimate.storage.stores import open_url

FIRST, SECOND = "20261123T013000Z-kb-0001", "20261123T023000Z-kb-0002"
_OURS = str(Path(reanimate.__file__).parent)


def catalog_of(home: Path) -> Catalog:
    """Open the repository below a folder, with the same key in every process."""
    keyring = Keyring(Ed25519PrivateKey.from_private_bytes(b"\7" * 32))
    return Catalog(open_url((home / "blobs").as_uri()), home / "scratch", keyring, Memory(home / "memory.json"))


async def publish(home: Path, backup_id: str) -> None:
    """Take a backup of two files that are there: one in parts, one in a single piece."""
    catalog = catalog_of(home)
    prefix = backup_prefix("kb", backup_id)
    journal = Unfinished(catalog.store, prefix, "primary", "kb", utcnow())
    await journal.begin()
    parts = []
    for shard_id, name in enumerate(("large", "small")):
        key = f"{prefix}/shard-{shard_id}.snapshot"
        part = await store_part(catalog, key, home / name, "vectors")
        parts.append(ShardPart(**part.model_dump(), shard_id=shard_id))
    hours = 1 if backup_id == SECOND else 0
    await catalog.publish(manifest(id=backup_id, parts=parts, taken_at=TAKEN + timedelta(hours=hours)))
    await journal.done()


class _Calls:
    """Counts calls of the library and kills the process at one of them."""

    def __init__(self, kill_at: int) -> None:
        self._kill_at = kill_at
        self.seen = 0

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(_OURS):
            self.seen += 1
            if self.seen == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def _child(home: Path, kill_at: int) -> int:
    calls = _Calls(kill_at)
    threading.setprofile(calls)
    sys.setprofile(calls)
    asyncio.run(publish(home, SECOND))
    sys.setprofile(None)
    return calls.seen


def _fork(home: Path, kill_at: int) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            (home / "calls").write_text(str(_child(home, kill_at)))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def _main(home: Path, points: int) -> None:
    before = home / "before"
    before.mkdir()
    (before / "large").write_bytes(os.urandom(24 << 20))
    (before / "small").write_bytes(os.urandom(1000))
    pid = os.fork()  # the store's own threads must not be there when we fork again
    if pid == 0:
        asyncio.run(publish(before, FIRST))
        os._exit(0)
    os.waitpid(pid, 0)
    folders = [home / f"{number:03}" for number in range(points + 1)]
    for folder in folders:
        shutil.copytree(before, folder, copy_function=os.link)  # nothing here is written in place
    _fork(folders[0], 0)
    total = int((folders[0] / "calls").read_text())
    for number, folder in enumerate(folders[1:]):
        _fork(folder, 1 + number * (total - 1) // (points - 1))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
