"""Is a restored collection what was backed up? Counts prove little; hashes of points and known answers decide."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from reanimate.backups.checks import Check, failures
from reanimate.backups.comparison import check_answers, count_points, tally
from reanimate.backups.hashing import IdsHash
from reanimate.backups.manifest import GoldenQuery, VectorManifest
from reanimate.errors import NotFound, VerificationFailed
from reanimate.vector.config import payload_schema, schema_differences, vector_differences, vector_shapes
from reanimate.vector.server import Json, VectorServer

__all__ = ["DEEP_UP_TO", "Check", "Depth", "Verification", "ids_of", "verify"]

DEEP_UP_TO = 100_000
"""Up to this many points every id is read: a second or two. An incident must not wait for more."""

_PAGE = 25_000

_ANSWERING = ("green", "yellow")
"""Yellow still optimizes, and answers fully."""


class Depth(StrEnum):
    """How closely is looked."""

    QUICK = "quick"  # count, known points, known answers
    DEEP = "deep"  # and every id


@dataclass(frozen=True)
class Verification:
    """Whether a collection holds exactly what its backup holds."""

    collection: str
    backup_id: str
    passed: bool
    checks: tuple[Check, ...]
    depth: Depth = Depth.QUICK

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)

    def require(self, where: str) -> None:
        """Say no if a check failed.

        Raises:
            VerificationFailed: naming each failed check with what was expected and found.
        """
        if not self.passed:
            raise VerificationFailed(
                f"{self.collection!r} on {where} is not what backup {self.backup_id} holds: {failures(self.checks)}"
            )


async def verify(
    server: VectorServer,
    name: str,
    manifest: VectorManifest,
    *,
    depth: Depth | None = None,
    deep_up_to: int = DEEP_UP_TO,
    aliases: Mapping[str, str] | None = None,
) -> Verification:
    """Hold a collection, by its name or an alias, against a manifest; nothing may differ.

    Without a `depth` it is deep up to `deep_up_to` points. `aliases`, each with the collection that it must lead to,
    are looked at too when they are given.

    Raises:
        Unreachable, ServerFailed, Refused: the server did not answer.
    """
    if depth is None:
        depth = Depth.DEEP if manifest.exact_count <= deep_up_to else Depth.QUICK
    if manifest.ids_sha256 is None:
        depth = Depth.QUICK  # of before backups knew their ids
    try:
        info = await server.info(name)
        looks = [_checks_of_points(server, name, manifest)]
        if depth is Depth.DEEP:
            looks.append(_checks_of_ids(server, name, manifest))
        found = await asyncio.gather(*looks)
        checks = [*_checks_of_description(manifest, info), *(check for some in found for check in some)]
    except NotFound as error:
        checks = [Check("collection", False, f"{name} exists", str(error))]
    if aliases is not None:
        checks += _checks_of_aliases(aliases, await server.aliases())
    return Verification(name, manifest.id, all(check.passed for check in checks), tuple(checks), depth)


async def ids_of(server: VectorServer, name: str) -> IdsHash:
    """Read every id of a collection and hash them.

    Raises:
        NotFound, Unreachable, ServerFailed, Refused: the server has no such collection, or did not answer.
    """
    found = IdsHash()
    page = await server.scroll(name, limit=_PAGE, ids_only=True)
    while True:
        ids, offset = [point["id"] for point in page["points"]], page["next_page_offset"]
        if offset is None:
            found.add_all(ids)
            return found
        # The server reads the next page while this one is hashed.
        following = server.scroll(name, limit=_PAGE, offset=offset, ids_only=True)
        _, page = await asyncio.gather(asyncio.to_thread(found.add_all, ids), following)


async def _checks_of_ids(server: VectorServer, name: str, manifest: VectorManifest) -> list[Check]:
    found = await ids_of(server, name)
    same = found.hexdigest() == manifest.ids_sha256
    said = f"{found.count}, {'the' if same else 'not the'} same"
    return [Check("ids", same, f"the {manifest.exact_count} backed up", said)]


def _checks_of_aliases(wanted: Mapping[str, str], found: Mapping[str, str]) -> list[Check]:
    return [
        Check(f"alias {alias}", found.get(alias) == collection, collection, found.get(alias, "missing"))
        for alias, collection in wanted.items()
    ]


def _checks_of_description(manifest: VectorManifest, info: Json) -> list[Check]:
    vectors = "; ".join(vector_differences(manifest.config, info["config"]))
    indexes = "; ".join(schema_differences(manifest.payload_schema, payload_schema(info)))
    status = str(info["status"])
    expected, found = (_sizes(config) for config in (manifest.config, info["config"]))
    return [
        Check("status", status in _ANSWERING, "green", status),
        Check("dimensions", expected == found, expected, found),
        Check("vectors", not vectors, "as backed up", vectors or "as backed up"),
        Check("payload_schema", not indexes, f"{len(manifest.payload_schema)} indexes", indexes or "all there"),
    ]


def _sizes(config: Json) -> str:
    shapes = vector_shapes(config)
    return ", ".join(f"{name} {size}".strip() for name, (size, _) in sorted(shapes.items())) or "none"


async def _checks_of_points(server: VectorServer, name: str, manifest: VectorManifest) -> list[Check]:
    count, _ = await count_points(server, name)
    checks = [Check("count", count == manifest.exact_count, str(manifest.exact_count), str(count))]
    points = []
    ids = [sentinel.id for sentinel in manifest.sentinels]
    for at in range(0, len(ids), 100):
        points += await server.retrieve(name, ids[at : at + 100])
    counted = tally(manifest.sentinels, points)
    whole = not counted.changed and not counted.missing
    checks.append(Check("sentinels", whole, f"{len(ids)} the same", str(counted)))
    problems = await check_answers(server, name, manifest.golden)
    return [*checks, *_checks_of_answers(manifest.golden, problems)]


def _checks_of_answers(golden: Sequence[GoldenQuery], problems: Sequence[str | None]) -> Iterator[Check]:
    """Yield one check for each vector that was asked by, with what is wrong with the first answers that are."""
    for using in dict.fromkeys(query.using for query in golden):
        answers = [problem for query, problem in zip(golden, problems, strict=True) if query.using == using]
        wrong = [problem for problem in answers if problem is not None]
        found = f"{len(answers) - len(wrong)} of {len(answers)}" + (f": {'; '.join(wrong[:3])}" if wrong else "")
        name = f"known answers by {using}" if using else "known answers"
        yield Check(name, not wrong, f"{len(answers)} of {len(answers)}", found)
