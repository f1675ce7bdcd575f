"""The vendor's rule of versions. Nothing in a snapshot says it; a server would try, and fail halfway."""

import re

from reanimate.backups.manifest import Server
from reanimate.vector.server import ServerIdentity

__all__ = ["engine_problem", "version_problem"]

_ENGINE_LOADS = ((1, 16), (1, 20))
"""Minor versions of servers whose snapshots the engine of our own loads."""


def version_problem(made_by: Server, server: ServerIdentity) -> str | None:
    """Say why a snapshot made by one version cannot be loaded by another, or None.

    The same minor version can load it, or the next one.
    """
    source, target = _minor(made_by.version), _minor(server.version)
    if source is None or target is None:
        return f"the versions {made_by.version!r} and {server.version!r} cannot be compared"
    if source[0] == target[0] and source[1] <= target[1] <= source[1] + 1:
        return None
    return (
        f"made by version {made_by.version}, and this server is {server.version}: "
        "only the same minor version or the next one can load it"
    )


def engine_problem(made_by: Server) -> str | None:
    """Say why the engine of our own cannot load what a server has made, or None. It loads several minor versions."""
    source = _minor(made_by.version)
    oldest, newest = _ENGINE_LOADS
    if source is not None and oldest <= source <= newest:
        return None
    return (
        f"made by version {made_by.version}, and the engine of our own loads "
        f"{'.'.join(map(str, oldest))} to {'.'.join(map(str, newest))}"
    )


def _minor(version: str) -> tuple[int, int] | None:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None
