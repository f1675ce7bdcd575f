"""A collection's config, from what a server answers to what it takes."""

import pytest

from reanimate.vector.config import (
    creation_body,
    dense_vectors,
    index_schema,
    payload_schema,
    schema_differences,
    vector_differences,
)

# As a real server 1.18.3 answered.
MULTI = {
    "params": {
        "vectors": {
            "dense": {"size": 4, "distance": "Dot"},
            "late": {"size": 4, "distance": "Cosine", "multivector_config": {"comparator": "max_sim"}},
        },
        "shard_number": 2,
        "replication_factor": 1,
        "write_consistency_factor": 1,
        "on_disk_payload": True,
        "sparse_vectors": {"bm25": {"modifier": "idf"}},
    },
    "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000, "max_indexing_threads": 0},
    "optimizer_config": {"deleted_threshold": 0.2, "max_segment_size": None, "indexing_threshold": 10000},
    "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1},
    "quantization_config": None,
    "strict_mode_config": {"enabled": True, "max_query_limit": 5},
    "metadata": {"owner": "docs"},
    "uuid": None,
}
SINGLE = {"params": {"vectors": {"size": 8, "distance": "Cosine"}}}


def test_creation_body__has_all_that_can_be_asked_for() -> None:
    """Names change where the server's do, nulls are dropped, what it does not know is not sent."""
    body = creation_body(MULTI)
    assert body["vectors"] == MULTI["params"]["vectors"]
    assert body["sparse_vectors"] == {"bm25": {"modifier": "idf"}}
    assert body["shard_number"] == 2
    assert body["optimizers_config"] == {"deleted_threshold": 0.2, "indexing_threshold": 10000}
    assert body["strict_mode_config"]["max_query_limit"] == 5
    assert body["metadata"] == {"owner": "docs"}
    assert "quantization_config" not in body
    assert "uuid" not in body
    assert "optimizer_config" not in body


def test_creation_body__keeps_custom_shard_keys() -> None:
    """A collection that was sharded by keys is so again; its shards come with the keys."""
    body = creation_body({"params": {"vectors": {}, "sharding_method": "custom", "shard_number": 2}})
    assert body == {"vectors": {}, "sharding_method": "custom", "shard_number": 2}


def test_dense_vectors__named_and_unnamed() -> None:
    """The unnamed vector has the empty name; a vector may well be called `size`."""
    assert dense_vectors(SINGLE) == {"": {"size": 8, "distance": "Cosine"}}
    assert dense_vectors(MULTI).keys() == {"dense", "late"}
    assert dense_vectors({"params": {"vectors": {"size": {"size": 4, "distance": "Dot"}}}}).keys() == {"size"}
    assert dense_vectors({"params": {}}) == {}


@pytest.mark.parametrize(
    "other",
    [
        {"params": {"vectors": {"size": 4, "distance": "Cosine"}}},
        {"params": {"vectors": {"size": 8, "distance": "Dot"}}},
        {"params": {"vectors": {"size": 8, "distance": "Cosine", "datatype": "float16"}}},
        {"params": {"vectors": {"x": {"size": 8, "distance": "Cosine"}}}},
        {"params": {"vectors": {"size": 8, "distance": "Cosine"}, "sparse_vectors": {"s": {}}}},
    ],
)
def test_vector_differences__names_what_differs(other: dict[str, object]) -> None:
    """Size, distance, datatype, name and sparse vectors must be equal: a server compares none of them for a shard."""
    assert vector_differences(SINGLE, other)


def test_vector_differences__ignores_how_vectors_are_kept() -> None:
    """Where a vector lies and a default that is written out change no answer."""
    other = {"params": {"vectors": {"size": 8, "distance": "Cosine", "on_disk": True, "datatype": "float32"}}}
    assert vector_differences(SINGLE, other) == []


def test_payload_schema__without_counts_and_back() -> None:
    """An index is kept as what creates it again; added indexes and added parameters do no harm."""
    info = {
        "payload_schema": {
            "tenant": {"data_type": "keyword", "params": {"type": "keyword", "is_tenant": True}, "points": 189},
            "year": {"data_type": "integer", "points": 188},
        }
    }
    schema = payload_schema(info)
    assert index_schema(schema["tenant"]) == {"type": "keyword", "is_tenant": True}
    assert index_schema(schema["year"]) == "integer"
    more = {**schema, "year": {"data_type": "integer", "params": {"type": "integer", "lookup": True}}, "x": {}}
    assert schema_differences(schema, more) == []
    assert schema_differences(schema, {"year": {"data_type": "float"}}) == [
        f"index 'tenant': expected {schema['tenant']}, found none",
        "index 'year': expected {'data_type': 'integer'}, found {'data_type': 'float'}",
    ]
