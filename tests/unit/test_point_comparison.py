"""Hashes of points, answers to known queries, and counts: when is data the same?"""

import math
from typing import Any

import numpy as np
import pytest
from manifests import manifest

from reanimate.backups.backup import count_warnings
from reanimate.backups.comparison import answer_problem, own_point_problem, tally
from reanimate.backups.hashing import point_hash, shortest_floats
from reanimate.backups.manifest import GoldenHit, GoldenQuery, Sentinel
from reanimate.errors import Damaged


class Sparse:
    """As the engine gives a sparse vector: an object, where a server sends a mapping."""

    def __init__(self, indices: list[int], values: list[float]) -> None:
        self.indices, self.values = indices, values


def hits(*pairs: tuple[int, float]) -> list[GoldenHit]:
    return [GoldenHit(id=point, score=score) for point, score in pairs]


def golden(*pairs: tuple[int, float], limit: int = 3) -> GoldenQuery:
    return GoldenQuery(using="", point=1, vector=[1.0], limit=limit, hits=hits(*pairs))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([0.1, 0.2], [np.float32(0.1).item(), np.float32(0.2).item()]),
        ([0.1, 0.2], {"": [0.1, 0.2]}),
        ([-0.0, 1], [0.0, 1.0]),
        ({"late": [[1, 0], [0, 1]]}, {"late": [[1.0, 0.0], [0.0, 1.0]]}),
        ({"bm25": {"indices": [3, 1], "values": [0.5, 1]}}, {"bm25": Sparse([1, 3], [1.0, 0.5])}),
        (None, {}),
        ({"a": [1.0], "b": None}, {"a": [1.0]}),
    ],
)
def test_point_hash__is_the_same_for_the_same_vectors(left: Any, right: Any) -> None:
    """However the engine or JSON writes a vector, equal float32 values give an equal hash."""
    assert point_hash(1, left, {}) == point_hash(1, right, None)


@pytest.mark.parametrize(
    ("point_id", "vectors", "payload"),
    [
        ("1", [0.1], {"n": 1}),
        (1, [0.1000001], {"n": 1}),
        (1, [0.1], {"n": 1.0}),
        (1, [0.1], {"n": True}),
        (1, {"a": [0.1]}, {"n": 1}),
        (1, [[0.1]], {"n": 1}),
        (1, {"": {"indices": [0], "values": [0.1]}}, {"n": 1}),
        (1, [0.1], {"n": 1, "m": None}),
    ],
)
def test_point_hash__differs_for_anything_else(point_id: Any, vectors: Any, payload: Any) -> None:
    """Another id, vector, kind of vector, number type or key changes the hash."""
    assert point_hash(point_id, vectors, payload) != point_hash(1, [0.1], {"n": 1})


def test_point_hash__does_not_care_for_the_order_of_keys() -> None:
    """Payload and vectors are mappings; their order means nothing."""
    assert point_hash(1, {"a": [1], "b": [2]}, {"x": 1, "y": 2}) == point_hash(
        1, {"b": [2], "a": [1]}, {"y": 2, "x": 1}
    )


def test_shortest_floats__are_the_same_float32() -> None:
    """The short form sent to a server is the stored value, bit for bit."""
    values = np.random.default_rng(7).normal(size=200).astype(np.float32)
    short = shortest_floats(values.tolist())
    assert np.array_equal(np.asarray(short, dtype=np.float32), values)
    assert max(len(str(value)) for value in short) < 16


def test_tally__sorts_sentinels() -> None:
    """Each sentinel is the same, changed or missing."""
    points = [{"id": 1, "vector": [1.0], "payload": {}}, {"id": 2, "vector": [9.0], "payload": {}}]
    known = [Sentinel(id=number, sha256=point_hash(number, [1.0], {})) for number in (1, 2, 3)]
    found = tally(known, points)
    assert (found.same, found.changed, found.missing) == ((1,), (2,), (3,))
    assert str(found) == "1 the same, 1 changed, 1 missing (ids 2, 3)"


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (hits((1, 1.0), (2, 0.5), (3, 0.4)), True),
        (hits((1, 1.00004), (2, 0.50004), (3, 0.4)), True),
        (hits((1, 1.0), (2, 0.5), (9, 0.4)), True),  # another of the same score at the end
        (hits((1, 1.0), (9, 0.5), (3, 0.4)), False),
        (hits((1, 1.0), (2, 0.5)), False),
        (hits((1, 1.0), (2, 0.51), (3, 0.4)), False),
        (hits((1, 7.9e26), (2, 0.5), (3, 0.4)), False),
        (hits((1, math.nan), (2, 0.5), (3, 0.4)), False),
    ],
)
def test_known_answer__tolerates_ties_and_nothing_else(answer: list[GoldenHit], right: bool) -> None:
    """Scores place by place, ids as well but for ties at the cut."""
    assert (answer_problem(golden((1, 1.0), (2, 0.5), (3, 0.4)), answer) is None) is right


def test_known_answer__of_a_small_collection_is_whole() -> None:
    """When fewer points exist than were asked for, all of them must come, ties or not."""
    small = golden((1, 1.0), (2, 0.5), limit=10)
    assert answer_problem(small, hits((1, 1.0), (2, 0.5))) is None
    assert answer_problem(small, hits((1, 1.0), (9, 0.5))) is not None


def test_known_answer__tied_in_another_order() -> None:
    """Equal scores come in any order."""
    tied = golden((1, 1.0), (2, 0.5), (3, 0.5), limit=10)
    assert answer_problem(tied, hits((1, 1.0), (3, 0.5), (2, 0.5))) is None


@pytest.mark.parametrize(
    ("distance", "answer", "right"),
    [
        ("Cosine", hits((7, 1.0), (1, 1.0), (2, 0.5)), True),
        ("Cosine", hits((7, 1.0), (8, 1.0), (9, 1.0)), True),  # newer duplicates took all the places
        ("Cosine", hits((7, 7.9e26), (8, 1.0), (9, 1.0)), False),
        ("Cosine", hits((7, 0.9), (8, 0.8), (9, 0.7)), False),
        ("Cosine", hits((1, 0.3), (8, 0.2), (9, 0.1)), False),
        ("Cosine", hits((7, 1.0)), False),
        ("Dot", hits((7, 9.0), (8, 8.0), (9, 7.0)), True),
        ("Euclid", hits((7, 0.5), (8, 0.6), (9, 0.7)), True),
        ("Euclid", hits((7, 1.5), (8, 1.6), (9, 1.7)), False),
    ],
)
def test_own_point__is_found_by_its_vector_while_data_moves_on(
    distance: str, answer: list[GoldenHit], right: bool
) -> None:
    """Newer points may be nearer, but the point itself keeps its score, or gives way only to nearer ones."""
    assert (own_point_problem(golden((1, 1.0), (2, 0.5)), distance, answer) is None) is right


def test_counts__that_stood_still_must_agree() -> None:
    """Equal counts before and after that differ from the snapshot's: the snapshot is not the collection."""
    with pytest.raises(Damaged, match="holds 9 points, the collection 10"):
        count_warnings("kb", 10, 10, 9)
    assert count_warnings("kb", 10, 12, 11) == []


def test_counts__an_empty_snapshot_needs_an_empty_collection() -> None:
    """Zero points are believed only if the live collection said zero, and are warned of even then."""
    with pytest.raises(Damaged, match="is empty"):
        count_warnings("kb", 10, 12, 0)
    assert "empty" in count_warnings("kb", 0, 0, 0)[0]
    assert "strict mode" in count_warnings("kb", None, None, 5)[0]


def test_manifest_of_tests__is_consistent() -> None:
    """The manifest that rule tests use knows its own golden query's point."""
    assert answer_problem(manifest().golden[0], manifest().golden[0].hits) is None
