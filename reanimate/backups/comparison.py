"""Are these points, and these answers, the ones that the manifest knows? Pure, but for the asking."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reanimate.backups.hashing import point_hash
from reanimate.backups.manifest import GoldenHit, GoldenQuery, Sentinel
from reanimate.errors import Refused
from reanimate.vector.config import smaller_is_nearer
from reanimate.vector.server import VectorServer

__all__ = [
    "SCORE_TOLERANCE",
    "Tally",
    "answer_problem",
    "ask_all",
    "check_answer",
    "check_answers",
    "check_own_point",
    "count_points",
    "own_point_problem",
    "tally",
]

SCORE_TOLERANCE = 1e-4
"""Relative above one, absolute below: the same arithmetic on another processor differs in the last bits."""

Id = int | str


@dataclass(frozen=True)
class Tally:
    """What became of the sentinels."""

    same: tuple[Id, ...]
    changed: tuple[Id, ...]
    missing: tuple[Id, ...]

    def __str__(self) -> str:
        text = f"{len(self.same)} the same, {len(self.changed)} changed, {len(self.missing)} missing"
        odd = [*self.changed, *self.missing]
        return f"{text} (ids {', '.join(map(str, odd[:5]))}{', …' if len(odd) > 5 else ''})" if odd else text


def tally(sentinels: Iterable[Sentinel], points: Iterable[Mapping[str, Any]]) -> Tally:
    """Sort the sentinels by what was read back of them."""
    found = {point["id"]: point_hash(point["id"], point.get("vector"), point.get("payload")) for point in points}
    same: list[Id] = []
    changed: list[Id] = []
    missing: list[Id] = []
    for sentinel in sentinels:
        kind = missing if sentinel.id not in found else same if found[sentinel.id] == sentinel.sha256 else changed
        kind.append(sentinel.id)
    return Tally(tuple(same), tuple(changed), tuple(missing))


def answer_problem(golden: GoldenQuery, hits: Sequence[GoldenHit]) -> str | None:
    """Say what is wrong with the answer to a golden query, or None.

    Scores must be equal place by place; ids as well, but equal scores may come in any order and, at the end of the
    list, in any choice.
    """
    if len(hits) != len(golden.hits):
        return f"{len(golden.hits)} hits expected, {len(hits)} found"
    for expected, found in zip(golden.hits, hits, strict=True):
        if not _close(expected.score, found.score):
            return f"score {expected.score:.6g} of point {expected.id} expected, {found.score:.6g} of {found.id} found"
    last = golden.hits[-1].score if golden.hits else 0.0
    whole = len(golden.hits) < golden.limit
    needed = {hit.id for hit in golden.hits if whole or not _close(hit.score, last)}
    if lacking := needed - {hit.id for hit in hits}:
        return f"points {', '.join(map(str, sorted(lacking, key=str)))} expected among the hits"
    return None


def _close(left: float, right: float) -> bool:
    return abs(left - right) <= SCORE_TOLERANCE * max(1.0, abs(left))  # False for NaN, as it should be


def own_point_problem(golden: GoldenQuery, distance: str, hits: Sequence[GoldenHit]) -> str | None:
    """Say what is wrong when the neighbours of a point's own vector are asked for in data that has moved on, or None.

    Newer points may have come in between, so only the point itself is looked for: it must be among the hits with the
    score it had, unless all the places are taken by others that are at least as near and not impossibly near.
    """
    own = next((hit for hit in golden.hits if hit.id == golden.point), None)
    if own is None or not golden.hits:
        return None
    found = next((hit for hit in hits if hit.id == own.id), None)
    if found is not None:
        right = _close(own.score, found.score)
        return None if right else f"point {own.id} scores {found.score:.6g} by its own vector, {own.score:.6g} expected"
    sign = -1.0 if smaller_is_nearer(distance) else 1.0
    nearer = all(sign * hit.score >= sign * own.score or _close(own.score, hit.score) for hit in hits)
    possible = distance.lower() != "cosine" or all(abs(hit.score) <= 1 + SCORE_TOLERANCE for hit in hits)
    if len(hits) == golden.limit and nearer and possible:
        return None
    instead = ", ".join(f"{hit.id} ({hit.score:.4g})" for hit in hits[:3]) or "no hits"
    return f"point {own.id} is not found by its own vector but {instead}"


async def check_own_point(server: VectorServer, name: str, golden: GoldenQuery, distance: str) -> str | None:
    """Ask for the neighbours of a point's own vector; see `own_point_problem`. Nothing is said under strict mode."""
    try:
        hits = await _ask(server, name, golden, {"limit": golden.limit, "params": {"exact": True}})
    except Refused as error:
        if not _strict_mode(error):
            raise
        return None
    return own_point_problem(golden, distance, hits)


async def check_answer(server: VectorServer, name: str, golden: GoldenQuery) -> str | None:
    """Ask a golden query and say what is wrong with the answer, or None.

    Where strict mode forbids exact search or a limit of ten, only the first hit is held against the manifest.
    """
    try:
        return answer_problem(
            golden, await _ask(server, name, golden, {"limit": golden.limit, "params": {"exact": True}})
        )
    except Refused as error:
        if not _strict_mode(error):
            raise
    hits = await _ask(server, name, golden, {"limit": 1})
    return answer_problem(golden.model_copy(update={"hits": golden.hits[:1], "limit": 1}), hits)


async def check_answers(server: VectorServer, name: str, golden: Sequence[GoldenQuery]) -> list[str | None]:
    """Ask many golden queries in one request; see `check_answer`."""
    if not golden:
        return []
    try:
        answers = await ask_all(server, name, golden, exact=True)
    except Refused as error:
        if not _strict_mode(error):
            raise
        return [await check_answer(server, name, one) for one in golden]
    return [answer_problem(one, hits) for one, hits in zip(golden, answers, strict=True)]


async def ask_all(
    server: VectorServer, name: str, golden: Sequence[GoldenQuery], *, exact: bool
) -> list[list[GoldenHit]]:
    """Ask golden queries in one request, exactly or as clients ask them, and return the hits of each."""
    bodies = [_body(one, {"limit": one.limit, **({"params": {"exact": True}} if exact else {})}) for one in golden]
    return [[_hit(hit) for hit in hits] for hits in await server.query_batch(name, bodies)]


async def count_points(server: VectorServer, name: str) -> tuple[int, bool]:
    """Return the number of points and whether it is exact; strict mode can forbid exact counting."""
    try:
        return await server.count(name), True
    except Refused as error:
        if not _strict_mode(error):
            raise
    return await server.count(name, exact=False), False


async def _ask(server: VectorServer, name: str, golden: GoldenQuery, how: dict[str, Any]) -> list[GoldenHit]:
    return [_hit(hit) for hit in await server.query(name, _body(golden, how))]


def _body(golden: GoldenQuery, how: dict[str, Any]) -> dict[str, Any]:
    return {"query": golden.vector, **how, **({"using": golden.using} if golden.using else {})}


def _hit(given: Mapping[str, Any]) -> GoldenHit:
    return GoldenHit(id=given["id"], score=given["score"])


def _strict_mode(error: Refused) -> bool:
    """Strict mode's refusals say how to help it and nothing else does; they tell nothing about the data."""
    return "Help: " in str(error)
