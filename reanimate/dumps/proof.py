"""Prove a dump: restore it on a server where nothing else is, and hold it against what was in the snapshot."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from reanimate.backups.catalog import Catalog
from reanimate.backups.scratch import require_room, scratch_folder
from reanimate.backups.stored_parts import fetch_part
from reanimate.clock import utcnow
from reanimate.dumps.backup import with_settings
from reanimate.dumps.dump import Progress
from reanimate.dumps.login import Login
from reanimate.dumps.manifest import PostgresManifest
from reanimate.dumps.programs import Programs
from reanimate.dumps.rename import discard
from reanimate.dumps.restore import DumpToRestore, restore_beside
from reanimate.dumps.scratch_server import throwaway_server
from reanimate.dumps.verification import Verification

__all__ = ["fetched", "prove_dump"]


@asynccontextmanager
async def fetched(
    catalog: Catalog, manifest: PostgresManifest, on_progress: Progress | None = None
) -> AsyncIterator[DumpToRestore]:
    """Bring a dump here for the block, its bytes held against the manifest before anybody uses them. Stage: download.

    Raises:
        NotFound, Damaged: the part is missing in the store or is not what the manifest says.
        Unreachable: the store could not be read.
        ConfigInvalid: not enough room, or the keys that it is encrypted to are not here.
    """
    async with scratch_folder(catalog.scratch, "restore") as folder:
        part = manifest.dump
        require_room(folder, part.size, f"the dump {part.blob}")
        file = folder / part.name
        report = (lambda done, total: on_progress("download", done, total)) if on_progress else None
        await fetch_part(catalog, part, file, report)
        facts = manifest.facts
        if (apart := manifest.settings) is not None:
            await fetch_part(catalog, apart, folder / apart.name)
            facts = with_settings(facts, await asyncio.to_thread((folder / apart.name).read_bytes))
        yield DumpToRestore(file, manifest.id, facts, manifest.made_by_major)


async def prove_dump(
    catalog: Catalog,
    manifest: PostgresManifest,
    found: Sequence[Programs],
    *,
    server: Login | None = None,
    pg_bin: Path | None = None,
    on_progress: Progress | None = None,
) -> Verification:
    """Restore a dump on a scratch server and return what was found; differences are told, not raised.

    Without `server` a throwaway one is started for it. Roles that the server lacks are made there, without a login, so
    that owners and grants are proven too. Stages of progress: download, restore, verify.

    Raises:
        ReanimateError: as `fetched` and `restore_beside`.
    """
    async with fetched(catalog, manifest, on_progress) as dump, _scratch(catalog.scratch, server, pg_bin) as login:
        target = login.at(f"proof-{manifest.subject}")
        beside = await restore_beside(
            target, dump, found, utcnow(), make_roles=True, scratch=True, on_progress=on_progress
        )
        if server is not None:
            await discard(target, beside.name)
        return replace(beside.verification, database=manifest.facts.database)


@asynccontextmanager
async def _scratch(scratch: Path, server: Login | None, pg_bin: Path | None) -> AsyncIterator[Login]:
    if server is not None:
        yield server
        return
    async with throwaway_server(scratch, pg_bin) as login:
        yield login
