"""Ask a restored collection everything that a proof wants to know; what it should answer is in the manifest."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from reanimate.backups.checks import Check
from reanimate.backups.comparison import ask_all
from reanimate.backups.hashing import IdsHash
from reanimate.backups.manifest import VectorManifest
from reanimate.errors import NotFound, Refused, ServerFailed
from reanimate.proofs.judging import (
    aliases_check,
    description_checks,
    dimension_check,
    exact_check,
    ids_checks,
    index_check,
    points_checks,
)
from reanimate.vector.server import Json, VectorServer

__all__ = ["examine"]

_IDS_A_PAGE = 20_000
_POINTS_AT_ONCE = 100
_TIMEOUT_S = 60.0


async def examine(server: VectorServer, name: str, manifest: VectorManifest, aliases: dict[str, str]) -> list[Check]:
    """Hold the restored collection `name` against its manifest.

    `aliases` says for every alias of the manifest by which one it is tried on this server.

    Raises:
        Unreachable, ServerFailed: the server does not answer, which tells nothing about the backup.
    """
    info = await server.info(name)
    alias_check, entry = await _try_aliases(server, name, aliases)
    (count, ids), points, (exact, through_index) = await asyncio.gather(
        _ids_of(server, name),
        _points_of(server, name, [sentinel.id for sentinel in manifest.sentinels]),
        _answers(server, entry, manifest),
    )
    return [
        *description_checks(manifest, info),
        alias_check,
        *ids_checks(manifest, count, ids.count, ids.hexdigest()),
        *points_checks(manifest.sentinels, points),
        dimension_check(manifest, points),
        exact_check(manifest.golden, exact),
        index_check(manifest, through_index),
    ]


async def _try_aliases(server: VectorServer, name: str, aliases: dict[str, str]) -> tuple[Check, str]:
    """Point the aliases at the collection, in one call as a restore does; return by which name to ask it from here."""
    wanted = list(aliases)
    if not wanted:
        return aliases_check([], []), name
    actions = [{"create_alias": {"collection_name": name, "alias_name": on_server}} for on_server in aliases.values()]
    try:
        await server.update_aliases(actions)
    except Refused as error:
        return Check("aliases", False, ", ".join(wanted), str(error)), name
    pointing = await server.aliases()
    leading = [
        alias
        for alias, on_server in aliases.items()
        if pointing.get(on_server) == name and await _is_reached(server, on_server)
    ]
    return aliases_check(wanted, leading), aliases[leading[0]] if leading else name


async def _is_reached(server: VectorServer, alias: str) -> bool:
    """Say whether a request by that name finds anything: not every name that an alias may have can be asked for."""
    try:
        await server.info(alias)
    except (NotFound, Refused):
        return False
    return True


async def _ids_of(server: VectorServer, name: str) -> tuple[int, IdsHash]:
    """Count the points exactly, and list every id."""
    ids = IdsHash()
    offset: int | str | None = None
    while True:
        page = await _scroll(server, name, {"limit": _IDS_A_PAGE, "offset": offset, "with_payload": False})
        await asyncio.to_thread(ids.add_all, [point["id"] for point in page["points"]])
        offset = page["next_page_offset"]
        if offset is None:
            return await server.count(name), ids


async def _points_of(server: VectorServer, name: str, ids: Sequence[int | str]) -> list[Json]:
    """Read points with all that they have, by a filter: that finds a point in whichever shard it is."""
    points: list[Json] = []
    for some in _some(ids):
        body = {"filter": {"must": [{"has_id": some}]}, "limit": len(some), "with_payload": True, "with_vector": True}
        points += (await _scroll(server, name, body))["points"]
    return points


def _some(ids: Sequence[int | str]) -> Iterable[list[int | str]]:
    return ([*ids[at : at + _POINTS_AT_ONCE]] for at in range(0, len(ids), _POINTS_AT_ONCE))


async def _scroll(server: VectorServer, name: str, body: Json) -> Json:
    doing = f"listing the points of {name!r}"
    answer = await server.request(
        "POST", server.path(name, "points/scroll"), doing=doing, json=body, timeout_s=_TIMEOUT_S
    )
    try:
        page: Json = orjson.loads(answer.content)["result"]
    except (ValueError, KeyError, TypeError) as error:
        raise ServerFailed(f"{doing} on {server.name} ({server.url}): the answer cannot be read: {error!r}") from error
    return page


async def _answers(server: VectorServer, name: str, manifest: VectorManifest) -> tuple[Any, Any]:
    if not manifest.golden:
        return [], []
    exact = await ask_all(server, name, manifest.golden, exact=True)
    return exact, await ask_all(server, name, manifest.golden, exact=False)
