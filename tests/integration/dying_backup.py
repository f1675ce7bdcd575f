"""A backup that dies: `python dying_backup.py URL NAME FOLDER STAGE partial|full` is killed by SIGKILL at a stage.

The key comes in QDRANT_API_KEY. Stages: asked (the server is making the snapshot), download, base, check, store,
publish (just before the manifest is written), published (just after).
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
from obstore.store import LocalStore

from reanimate.backups import materialise as materialising
from reanimate.backups.backup import BackupOptions, take_backup
from reanimate.backups.catalog import Catalog
from reanimate.backups.keyring import Keyring
from reanimate.backups.unfinished import Unfinished
from reanimate.config import BackupSettings
from reanimate.vector.server import VectorServer


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(stage: str) -> None:
    """Make the stages die that no progress tells of."""
    asking, publish = Unfinished.asking, Catalog.publish
    fetch_part = materialising.fetch_part

    async def ask_and_die(self: Unfinished, *asked: Any) -> None:
        await asking(self, *asked)
        asyncio.get_running_loop().call_later(0.01, die)  # the request is under way, or answered already

    async def publish_and_die(self: Catalog, manifest: Any) -> Any:
        if stage == "publish":
            die()
        published = await publish(self, manifest)
        die()
        return published

    async def fetch_and_die(*arguments: Any) -> None:
        await fetch_part(*arguments)
        die()

    if stage == "asked":
        Unfinished.asking = ask_and_die  # type: ignore[method-assign]
    if stage in ("publish", "published"):
        Catalog.publish = publish_and_die  # type: ignore[method-assign,assignment]
    if stage == "base":
        materialising.fetch_part = fetch_and_die


async def main(url: str, name: str, folder: str, stage: str, partial: bool) -> None:
    """Take the backup; what is not killed says so."""
    arm(stage)

    def progress(at: str, done: int, total: int) -> None:
        if at == stage and (stage == "check" or done > 0):
            die()

    keyring = Keyring.load_or_create(Path(folder), BackupSettings())
    catalog = Catalog(LocalStore(prefix=Path(folder) / "blobs", mkdir=True), Path(folder) / "scratch", keyring)
    async with httpx.AsyncClient(trust_env=False) as http:
        server = VectorServer("primary", url, os.environ.get("QDRANT_API_KEY"), http)
        options = BackupOptions(partial_share=100.0)
        await take_backup(server, name, catalog, options, partial=partial, on_progress=progress)
    sys.exit("it was not killed")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5], sys.argv[5] == "partial"))
