"""Rules of the standby server that need no server: where points live, how numbers print, how lists are fused."""

from typing import Any

import pytest

from reanimate.standby.auth import Keys, Right
from reanimate.standby.config_defaults import changed_config, new_config
from reanimate.standby.errors import ApiError
from reanimate.standby.merging import fuse_by_distribution, fuse_by_rank, merge_facets
from reanimate.standby.points import checked_operation, normal_id
from reanimate.standby.ring import HashRing, siphash24
from reanimate.standby.singles import shortest


def test_siphash__is_the_known_one() -> None:
    """The reference value of SipHash-2-4 for a key of zeros and no data."""
    assert siphash24(b"") == 0x1E924B9D737700D7


def test_ring__is_a_servers() -> None:
    """Ten points lie on two shards exactly as a real server laid them."""
    ring = HashRing([0, 1])
    assert [point for point in range(1, 11) if ring.shard_of(point) == 0] == [1, 3, 4, 5, 7, 8]


@pytest.mark.parametrize(
    ("stored", "printed"),
    [
        (0.0005999727873131633, 0.0005999728),
        (0.15039317309856415, 0.15039317),
        (1.0, 1.0),
        (-0.25, -0.25),
        (84232175.0, 84232176.0),
    ],
)
def test_shortest__is_what_servers_print(stored: float, printed: float) -> None:
    """A single-precision number is printed with as few digits as tell it from its neighbours."""
    assert shortest(stored) == pytest.approx(printed, rel=1e-5)
    assert len(repr(shortest(stored))) <= len(repr(printed)) + 1


@pytest.mark.parametrize("value", [-1, 1 << 64, True, 1.5, "not-a-uuid", None, []])
def test_point_id__that_is_none(value: Any) -> None:
    """Ids are unsigned 64-bit integers or UUIDs."""
    with pytest.raises(ApiError) as refused:
        normal_id(value)
    assert refused.value.status == 400


def test_point_id__uuid_forms() -> None:
    """A UUID is the same point in every way of writing it."""
    text = "5c56c793-69f3-4fbf-87e6-c4bf54c28c26"
    assert normal_id(text.replace("-", "")) == normal_id(text.upper()) == normal_id(f"urn:uuid:{text}") == text


def _hits(*ids: int) -> list[dict[str, Any]]:
    return [{"id": one, "score": 1.0 - 0.1 * rank} for rank, one in enumerate(ids)]


def test_rank_fusion__as_recorded() -> None:
    """First in one list and second in the other is 1/2 + 1/3, as a server scored it."""
    fused = fuse_by_rank([_hits(10, 9), _hits(2, 10, 9)], 2, None)
    assert [(hit["id"], hit["score"]) for hit in fused[:2]] == [(10, 0.8333333), (9, 0.5833333)]


def test_rank_fusion__weights_must_fit() -> None:
    """There is a weight for each list, or none at all."""
    with pytest.raises(ApiError, match="weights"):
        fuse_by_rank([_hits(1)], 2, [1.0, 2.0])


def test_distribution_fusion__of_single_hits() -> None:
    """A list of one says nothing about its distribution and counts half."""
    assert fuse_by_distribution([_hits(1), _hits(1)])[0]["score"] == 1.0


def test_facets__add_up() -> None:
    """The same value on several shards is one value; truth values are no numbers."""
    parts = [[{"value": 1, "count": 2}, {"value": True, "count": 1}], [{"value": 1, "count": 3}]]
    assert merge_facets(parts, 10) == [{"value": 1, "count": 5}, {"value": True, "count": 1}]


CONFIG = new_config({"vectors": {"size": 4, "distance": "Dot"}, "metadata": {"a": 1}})


def test_new_config__has_a_servers_defaults() -> None:
    """What was not asked for is what a server takes."""
    assert CONFIG["params"]["shard_number"] == 1
    assert CONFIG["optimizer_config"]["indexing_threshold"] == 10000
    assert CONFIG["wal_config"] == {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1}


def test_changed_config__keeps_the_rest() -> None:
    """A change names what changes; the old config is not touched."""
    changed = changed_config(
        CONFIG, {"hnsw_config": {"m": 32}, "metadata": {"b": 2}, "vectors": {"": {"on_disk": True}}}
    )
    assert changed["hnsw_config"] == {**CONFIG["hnsw_config"], "m": 32}
    assert changed["metadata"] == {"a": 1, "b": 2}
    assert changed["params"]["vectors"] == {"size": 4, "distance": "Dot", "on_disk": True}
    assert CONFIG["hnsw_config"]["m"] == 16
    assert "on_disk" not in CONFIG["params"]["vectors"]


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        ({"upsert": {"points": [{"id": 1, "vector": [1.0]}]}}, 400),
        ({"upsert": {"points": [{"id": 1, "vector": [[1.0] * 4]}]}}, 400),
        ({"upsert": {"points": [{"id": 1, "vector": {"other": [1.0] * 4}}]}}, 400),
        ({"upsert": {"points": []}}, 400),
        ({"upsert": {"batch": {"ids": [1, 2], "vectors": [[1.0] * 4]}}}, 400),
        ({"delete": {}}, 400),
        ({"set_payload": {"points": [1]}}, 400),
        ({"delete": {"points": [1], "shard_key": "a"}}, 501),
        ({"nonsense": {}}, 400),
        ([], 400),
    ],
)
def test_operation__that_is_none(operation: Any, status: int) -> None:
    """What cannot be done is refused before any shard sees it."""
    with pytest.raises(ApiError) as refused:
        checked_operation(operation, CONFIG)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("headers", "right", "status"),
    [
        ({}, Right.OPEN, None),
        ({}, Right.READ, 401),
        ({"api-key": "wrong"}, Right.READ, 401),
        ({"api-key": "look"}, Right.READ, None),
        ({"api-key": "look"}, Right.WRITE, 403),
        ({"api-key": "full"}, Right.WRITE, None),
        ({"authorization": "Bearer full"}, Right.WRITE, None),
        ({"authorization": "Basic full"}, Right.READ, 401),
    ],
)
def test_keys(headers: dict[str, str], right: Right, status: int | None) -> None:
    """The full key does everything, the read-only key reads, no key is needed for health."""
    keys = Keys(full="full", read_only="look")
    if status is None:
        keys.check(right, headers)
        return
    with pytest.raises(ApiError) as refused:
        keys.check(right, headers)
    assert refused.value.status == status
    assert "look" not in repr(keys)
