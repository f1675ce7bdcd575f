"""The complete snapshot of a shard out of a repository: a full backup's part as it is, or changes on top of theirs.

Restores, proofs, seeding and the offline standby all get their files here, and nowhere else.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import ShardPart, VectorManifest, Whole
from reanimate.backups.parts import check_part
from reanimate.backups.scratch import require_room
from reanimate.backups.stored_parts import fetch_part
from reanimate.errors import Damaged, NotFound
from reanimate.vector.partial import Merged, merge_partial

__all__ = ["Materialised", "base_part", "fetch_bare", "materialise"]

Materialised = Merged
"""Size and SHA-256 of the file that was made; what an upload is sent with."""

Progress = Callable[[int, int], None]


async def materialise(
    catalog: Catalog, manifest: VectorManifest, part: ShardPart, into: Path, on_progress: Progress | None = None
) -> Materialised:
    """Have one shard's complete snapshot as the file `into`, whole, checked by hash, and of the collection's shape.

    Every file is held against its hash before it is used, and so is what is put together of two. For a moment it needs
    room for both beside `into`. Where `into` exists afterwards, it is that file. `on_progress` gets bytes read and
    their total.

    Raises:
        NotFound, Damaged: a part, or the full backup beneath it, is missing or not what the manifest says.
        ConfigInvalid: not enough room, or an age identity that is needed cannot be read.
        Unreachable: the store could not be read.
    """
    about = f"the part {part.blob}"
    require_room(into.parent, part.whole_size, about)
    if part.whole is None:
        await fetch_bare(catalog, part, into, on_progress)
        made = Materialised(part.size, part.sha256)
    else:
        made = await _put_together(catalog, manifest, part, part.whole, into, on_progress)
    try:
        await check_part(into, manifest.config, about)
    except BaseException:
        await asyncio.to_thread(into.unlink, True)
        raise
    return made


async def fetch_bare(catalog: Catalog, part: ShardPart, into: Path, on_progress: Progress | None = None) -> None:
    """Have a part as it was stored, changes only or not. Where `into` exists afterwards, it is the right file.

    Raises:
        NotFound, Damaged, ConfigInvalid, Unreachable: as `fetch_part`.
    """
    require_room(into.parent, part.size, f"the part {part.blob}")
    await fetch_part(catalog, part, into, on_progress)


async def base_part(catalog: Catalog, manifest: VectorManifest, part: ShardPart) -> ShardPart:
    """Return the part of the full backup that a part with changes only goes on top of.

    Raises:
        Damaged: the full backup is gone, cannot be used, or is another one.
        Unreachable: the store could not be read.
    """
    what = f"backup {manifest.id} holds only what changed since {manifest.base}"
    try:
        found = await asyncio.to_thread(catalog.find, manifest.base or "", VectorManifest)
    except (NotFound, Damaged) as error:
        raise Damaged(f"{what}, which cannot be used: {error.args[0]}", hint="restore from another backup") from error
    below = next((one for one in found.manifest.parts if one.shard_id == part.shard_id), None)
    if below is None or below.whole is not None or part.whole is None or below.sha256 != part.whole.base_sha256:
        raise Damaged(
            f"{what}, and the shard {part.shard_id} of that is not the one it was made for",
            hint="restore from another backup",
        )
    return below


async def _put_together(
    catalog: Catalog,
    manifest: VectorManifest,
    part: ShardPart,
    whole: Whole,
    into: Path,
    on_progress: Progress | None,
) -> Materialised:
    below = await base_part(catalog, manifest, part)
    base_file, changes = into.with_name(f"{into.name}.base"), into.with_name(f"{into.name}.changes")
    total = below.size + part.size
    done = 0

    def report(read: int, _: int) -> None:
        if on_progress:
            on_progress(min(done + read, total), total)

    try:
        await fetch_bare(catalog, below, base_file, report)
        done = below.size
        await fetch_bare(catalog, part, changes, report)
        await asyncio.to_thread(into.unlink, True)
        made = await asyncio.to_thread(merge_partial, base_file, changes, into)
    finally:
        for file in (base_file, changes):
            await asyncio.to_thread(file.unlink, True)
    if (made.size, made.sha256) != (whole.size, whole.sha256):
        await asyncio.to_thread(into.unlink, True)
        raise Damaged(
            f"putting {part.blob} on top of {below.blob}: it makes {made.size} bytes with SHA-256 {made.sha256}, "
            f"the manifest says {whole.size} bytes with {whole.sha256}",
            hint="this backup cannot be used; restore from another",
        )
    return made
