"""What a proof holds against a manifest, each thing a check with a name of its own. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reanimate.backups.checks import Check
from reanimate.backups.comparison import SCORE_TOLERANCE
from reanimate.backups.hashing import payload_hash, point_hash, vectors_hash
from reanimate.backups.manifest import GoldenHit, GoldenQuery, Sentinel, VectorManifest
from reanimate.vector.config import dense_vectors, payload_schema, schema_differences, vector_differences

__all__ = [
    "RECALL",
    "aliases_check",
    "description_checks",
    "dimension_check",
    "exact_check",
    "ids_checks",
    "index_check",
    "points_checks",
    "recall",
]

Json = dict[str, Any]
Id = int | str

RECALL = 0.99
"""The least share of the known neighbours that must be found."""
_SLACK = 0.01
"""Below what the index found when the backup was taken: two servers walk the same graph in slightly other ways."""
_SHOWN = 5
_ANSWERING = ("green", "yellow", "grey")
"""Yellow still optimizes and grey waits to: both answer fully, and nobody waits for a scratch collection."""


def _check(name: str, problem: str, expected: str) -> Check:
    return Check(name, not problem, expected, problem or expected)


def description_checks(manifest: VectorManifest, info: Json) -> list[Check]:
    """Judge what the server says of the restored collection: status, schema, payload indexes."""
    status = str(info["status"])
    return [
        Check("status", status in _ANSWERING, "green", status),
        _check("schema", "; ".join(vector_differences(manifest.config, info["config"])), "vectors as backed up"),
        _check(
            "indexes",
            "; ".join(schema_differences(manifest.payload_schema, payload_schema(info))),
            f"{len(manifest.payload_schema)} payload indexes",
        ),
    ]


def ids_checks(manifest: VectorManifest, count: int, listed: int, ids_sha256: str) -> list[Check]:
    """Judge how many points there are, counted and listed, and which."""
    expected = manifest.exact_count
    checks = [Check("count", count == listed == expected, str(expected), f"{count} counted, {listed} listed")]
    if manifest.ids_sha256 is not None:
        checks.append(Check("ids", ids_sha256 == manifest.ids_sha256, manifest.ids_sha256, ids_sha256))
    return checks


def points_checks(sentinels: Sequence[Sentinel], points: Iterable[Mapping[str, Any]]) -> list[Check]:
    """Judge sampled points by their hashes: are they there, and are their vectors and payloads what they were."""
    found = {point["id"]: point for point in points}
    there = [one for one in sentinels if one.id in found]
    missing = [one.id for one in sentinels if one.id not in found]
    vectors = [one.id for one in there if _differs(one.vectors_sha256, vectors_hash(found[one.id].get("vector")))]
    payloads = [one.id for one in there if _differs(one.payload_sha256, payload_hash(found[one.id].get("payload")))]
    known = {*vectors, *payloads}
    whole = [one.id for one in there if one.id not in known and _hash(found[one.id]) != one.sha256]
    what = f"{len(sentinels)} sampled"
    return [
        _check("points", _named("missing", missing) or _named("different", whole), f"{what} there and the same"),
        _check("vectors", _named("different", vectors), f"{what} the same"),
        _check("payloads", _named("different", payloads), f"{what} the same"),
    ]


def _hash(point: Mapping[str, Any]) -> str:
    return point_hash(point["id"], point.get("vector"), point.get("payload"))


def _differs(expected: str | None, found: str) -> bool:
    """An older manifest knows only one hash over all of a point."""
    return expected is not None and found != expected


def _named(what: str, ids: Sequence[Id]) -> str:
    if not ids:
        return ""
    return f"{len(ids)} {what}: {', '.join(map(str, ids[:_SHOWN]))}{', …' if len(ids) > _SHOWN else ''}"


def dimension_check(manifest: VectorManifest, points: Iterable[Mapping[str, Any]]) -> Check:
    """Judge the length of stored vectors: a server serves a shard of another dimension without a word."""
    sizes = {name: int(params["size"]) for name, params in dense_vectors(manifest.config).items()}
    wrong = {
        f"{name or 'the vector'} of {len(row)} instead of {sizes[name]}"
        for point in points
        for name, vector in _by_name(point.get("vector")).items()
        if name in sizes
        for row in (vector if vector and isinstance(vector[0], list) else [vector])
        if len(row) != sizes[name]
    }
    model = manifest.embedding
    if model is not None and sizes and model.dimension not in sizes.values():
        wrong.add(f"the model {model.model} makes {model.dimension}")
    expected = ", ".join(f"{name or 'vector'} {size}" for name, size in sizes.items()) or "no dense vectors"
    return _check("dimensions", "; ".join(sorted(wrong)), expected)


def _by_name(vector: Any) -> dict[str, Any]:
    named = vector if isinstance(vector, Mapping) else {"": vector}
    return {name: one for name, one in named.items() if isinstance(one, list)}


def aliases_check(wanted: Sequence[str], leading: Iterable[str]) -> Check:
    """Judge whether the restored collection is reached by every alias that the manifest names."""
    found = sorted(leading)
    return Check("aliases", found == sorted(wanted), ", ".join(sorted(wanted)) or "none", ", ".join(found) or "none")


def recall(golden: Sequence[GoldenQuery], answers: Sequence[Sequence[GoldenHit]]) -> float | None:
    """Return the share of the known hits that was found; None when none are known.

    At the end of a list equal scores may come in any choice: another one that is as near counts.
    """
    known = sum(len(one.hits) for one in golden)
    if not known:
        return None
    return sum(map(_found, golden, answers)) / known


def _found(one: GoldenQuery, hits: Sequence[GoldenHit]) -> int:
    ids = {hit.id for hit in hits}
    missing = [hit for hit in one.hits if hit.id not in ids]
    if not missing:
        return len(one.hits)
    known = {hit.id for hit in one.hits}
    last = one.hits[-1].score
    tied = sum(_close(hit.score, last) for hit in missing)
    instead = sum(hit.id not in known and _close(hit.score, last) for hit in hits)
    return len(one.hits) - len(missing) + min(tied, instead)


def _close(left: float, right: float) -> bool:
    return abs(left - right) <= SCORE_TOLERANCE * max(1.0, abs(left))  # False for NaN, as it should be


def exact_check(golden: Sequence[GoldenQuery], answers: Sequence[Sequence[GoldenHit]]) -> Check:
    """Judge the exact answers to the golden queries: the neighbours that were, with the scores that they had."""
    name, expected = "queries, exact", f"recall@10 ≥ {RECALL:g} with the same scores"
    share = recall(golden, answers)
    if share is None:
        return Check(name, True, "no query is known", "none was asked")
    scores = {(at, hit.id): hit.score for at, hits in enumerate(answers) for hit in hits}
    off = [
        f"point {hit.id} scores {scores[at, hit.id]:.6g} instead of {hit.score:.6g}"
        for at, one in enumerate(golden)
        for hit in one.hits
        if (at, hit.id) in scores and not _close(hit.score, scores[at, hit.id])
    ]
    found = f"{share:.4f} over {len(golden)} queries"
    return Check(name, share >= RECALL and not off, expected, "; ".join([found, *off[:_SHOWN]]))


def index_check(manifest: VectorManifest, answers: Sequence[Sequence[GoldenHit]]) -> Check:
    """Judge the answers through the index, fairly: it need not be better than it was when the backup was taken."""
    name = "queries, through the index"
    share = recall(manifest.golden, answers)
    if share is None:
        return Check(name, True, "no query is known", "none was asked")
    then = manifest.index_recall
    least = RECALL if then is None or then >= RECALL else max(0.0, then - _SLACK)
    said = "" if then is None else f", {then:.4f} when it was taken"
    return Check(name, share >= least, f"recall@10 ≥ {least:.4g}", f"{share:.4f} over {len(manifest.golden)}{said}")
