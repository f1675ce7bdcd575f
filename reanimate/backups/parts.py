"""A snapshot file looked at without the engine: is it whole, loadable by a current server, and of this collection?"""

import asyncio
from pathlib import Path

from reanimate.errors import Damaged
from reanimate.vector.archive import inspect_archive
from reanimate.vector.config import Json, vector_shapes

__all__ = ["OtherVectors", "check_part"]


class OtherVectors(Damaged):
    """A snapshot of vectors of another size, distance or name than the collection's config says."""


async def check_part(file: Path, config: Json, what: str) -> None:
    """Check a shard snapshot against the config of its collection. A server itself compares none of this.

    Raises:
        OtherVectors: its vectors are of another shape.
        Damaged: cut, no snapshot, or in a format that no current server loads.
    """
    archive = await asyncio.to_thread(inspect_archive, file)
    if archive.partial:
        raise Damaged(f"{what} is a partial snapshot: it holds only what changed since another one")
    if archive.rocksdb_relics:
        raise Damaged(
            f"{what} holds segments of an old format ({archive.rocksdb_relics[0]}) that no current server can load",
            hint="let the server rewrite them: upgrade it to 1.17 and start it once",
        )
    expected = vector_shapes(config)
    found = {name: (shape["size"], shape["distance"].lower()) for name, shape in archive.vectors.items()}
    if archive.segments and found != expected:
        raise OtherVectors(f"{what} holds vectors {found}, and the collection's config says {expected}")
