"""Points that a live collection has and a restored one lacks, found by walking through both, and carried over.

Both come in the order of their ids, so two pages are all that is held at a time.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from reanimate.backups.hashing import point_hash
from reanimate.errors import ServerFailed, VerificationFailed
from reanimate.vector.server import Json, VectorServer

__all__ = ["Carried", "Carry", "carry_over", "hash_of", "write_checked"]

Id = int | str
Progress = Callable[[int], None]
"""Called with the number of points looked at."""

_PAGE = 500
_SHOWN = 20


@dataclass(frozen=True)
class Carry:
    """What is carried over from the collection that was live."""

    added: bool = True
    """Points whose ids the backup does not have."""
    changed: bool = False
    """Points that differ from the backup's. What went wrong may have changed them."""


@dataclass
class Carried:
    """How a live collection differs from a restored one, and what of that was carried over. Ids are examples."""

    added: int = 0
    changed: int = 0
    deleted: int = 0
    """In the backup and not in the live collection: they come back with the restore."""
    carried: int = 0
    added_ids: list[Id] = field(default_factory=list)
    changed_ids: list[Id] = field(default_factory=list)
    deleted_ids: list[Id] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


async def carry_over(
    server: VectorServer,
    old: str,
    new: str,
    carry: Carry,
    *,
    seen: set[Id],
    late: bool = False,
    on_progress: Progress | None = None,
) -> Carried:
    """Compare two collections, and write into `new` what `old` has more, as far as `carry` says.

    Every id that is met is added to `seen`. A `late` look, when `new` is live already, takes only ids that the first
    look has not seen and that are still not there: what clients do in `new` is never undone.

    Raises:
        VerificationFailed: what was written reads back differently.
        ServerFailed: points do not come in the order of their ids, as where several shard keys hold the same id.
        NotFound, Refused, Unreachable, ServerFailed: as the calls of the server.
    """
    found = Carried()
    waiting: list[Json] = []
    done = 0

    async def write() -> None:
        if late:
            there = {point["id"] for point in await server.retrieve(new, [point["id"] for point in waiting])}
            waiting[:] = [point for point in waiting if point["id"] not in there]
        await write_checked(server, new, waiting)
        found.carried += len(waiting)
        waiting.clear()

    async for point_id, ours, theirs in _paired(_points(server, old), _points(server, new)):
        done += 1
        if on_progress and done % _PAGE == 0:
            on_progress(done)
        fresh = not late or point_id not in seen
        if not late:
            seen.add(point_id)
        if ours is None:
            if not late:
                found.deleted += 1
                _show(found.deleted_ids, point_id)
            continue
        if theirs is None:
            if fresh:
                found.added += 1
                _show(found.added_ids, point_id)
                if carry.added:
                    waiting.append(ours)
        elif not late and hash_of(ours) != hash_of(theirs):
            found.changed += 1
            _show(found.changed_ids, point_id)
            if carry.changed:
                waiting.append(ours)
        if len(waiting) >= _PAGE:
            await write()
    if waiting:
        await write()
    if on_progress:
        on_progress(done)
    return found


async def write_checked(server: VectorServer, name: str, points: Iterable[Json]) -> None:
    """Write points as they were read elsewhere, and read them back: payload and vectors must be the same to the bit.

    Raises:
        VerificationFailed: they are not.
    """
    by_key: dict[str | int | None, list[Json]] = {}
    for point in points:
        by_key.setdefault(point.get("shard_key"), []).append(point)
    for key, some in by_key.items():
        wanted = {point["id"]: hash_of(point) for point in some}
        body = [
            {"id": point["id"], "vector": point.get("vector") or {}, "payload": point.get("payload") or {}}
            for point in some
        ]
        await server.upsert(name, body, shard_key=key)
        found = {point["id"]: hash_of(point) for point in await server.retrieve(name, wanted, shard_key=key)}
        if wrong := [point_id for point_id, sha256 in wanted.items() if found.get(point_id) != sha256]:
            raise VerificationFailed(
                f"writing {len(some)} points into {name!r} on {server.name}: {len(wrong)} read back differently "
                f"(ids {', '.join(map(str, wrong[:5]))})"
            )


def hash_of(point: Json) -> str:
    """Return the hash of a point as a server gives it."""
    return point_hash(point["id"], point.get("vector"), point.get("payload"))


def _show(ids: list[Id], point_id: Id) -> None:
    if len(ids) < _SHOWN:
        ids.append(point_id)


async def _points(server: VectorServer, name: str) -> AsyncIterator[Json]:
    """Give every point in the order of ids.

    Raises:
        ServerFailed: the server has another order; what is only in one of two could not be told then.
    """
    offset: Id | None = None
    last: tuple[int, int, str] | None = None
    while True:
        page = await server.scroll(name, limit=_PAGE, offset=offset)
        for point in page["points"]:
            at = _order(point["id"])
            if last is not None and at <= last:
                raise ServerFailed(f"reading {name!r} on {server.name}: points do not come in the order of their ids")
            last = at
            yield point
        offset = page["next_page_offset"]
        if offset is None:
            return


async def _paired(
    left: AsyncIterator[Json], right: AsyncIterator[Json]
) -> AsyncIterator[tuple[Id, Json | None, Json | None]]:
    """Walk through two collections at once: every id of either, with its point in each."""
    one, other = await anext(left, None), await anext(right, None)
    while one is not None or other is not None:
        at = min(_order(point["id"]) for point in (one, other) if point is not None)
        ours = one if one is not None and _order(one["id"]) == at else None
        theirs = other if other is not None and _order(other["id"]) == at else None
        either = ours or theirs
        assert either is not None  # one of them has the smallest id
        yield either["id"], ours, theirs
        if ours is not None:
            one = await anext(left, None)
        if theirs is not None:
            other = await anext(right, None)


def _order(point_id: Id) -> tuple[int, int, str]:
    """Return what servers order by: numbers first, then UUIDs by their bytes, as their text is ordered too."""
    return (0, point_id, "") if isinstance(point_id, int) else (1, 0, point_id)
