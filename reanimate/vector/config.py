"""A collection's config as `GET` gives it, turned into what `PUT` takes, and compared with another one."""

from collections.abc import Mapping
from typing import Any

__all__ = [
    "Json",
    "creation_body",
    "dense_vectors",
    "index_schema",
    "params_after_creation",
    "payload_schema",
    "schema_differences",
    "smaller_is_nearer",
    "vector_differences",
    "vector_shapes",
]

Json = dict[str, Any]

_FROM_PARAMS = (
    "vectors",
    "sparse_vectors",
    "shard_number",
    "sharding_method",
    "replication_factor",
    "write_consistency_factor",
    "on_disk_payload",
)
_FROM_CONFIG = {
    "hnsw_config": "hnsw_config",
    "optimizer_config": "optimizers_config",
    "wal_config": "wal_config",
    "quantization_config": "quantization_config",
    "strict_mode_config": "strict_mode_config",
    "metadata": "metadata",
}
_AFTER_CREATION = ("read_fan_out_factor", "read_fan_out_delay_ms")
_VECTOR_KEYS = ("size", "distance", "datatype", "multivector_config")
_DEFAULTS: Mapping[str, Any] = {"datatype": "float32"}


def creation_body(config: Json) -> Json:
    """Return the body of `PUT /collections/{name}` that makes a collection of this config.

    One that is sharded by custom keys has no shards then: they come with the keys.
    """
    params = config.get("params") or {}
    body = {key: params[key] for key in _FROM_PARAMS if params.get(key) is not None}
    body |= {name: config[key] for key, name in _FROM_CONFIG.items() if config.get(key) is not None}
    cleaned: Json = _without_nulls(body)
    return cleaned


def params_after_creation(config: Json) -> Json:
    """Return the parameters that only `PATCH` takes; often none."""
    params = config.get("params") or {}
    return {key: params[key] for key in _AFTER_CREATION if params.get(key) is not None}


def _without_nulls(value: Any) -> Any:
    """A null in an answer means `not set`; sent back it can mean `off` or be refused."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


# -- vectors -----------------------------------------------------------------------------------------------------------


def dense_vectors(config: Json) -> dict[str, Json]:
    """Return name -> parameters of every dense vector, multivectors included; the unnamed one is called ''."""
    vectors = (config.get("params") or {}).get("vectors") or {}
    if "size" in vectors and not isinstance(vectors["size"], dict):
        return {"": vectors}
    return dict(vectors)


def vector_shapes(config: Json) -> dict[str, tuple[int, str]]:
    """Return name -> (size, distance in lower case) of every dense vector."""
    return {
        name: (int(params["size"]), str(params["distance"]).lower()) for name, params in dense_vectors(config).items()
    }


def smaller_is_nearer(distance: str) -> bool:
    """Say whether, by this distance, a lower score is a better one."""
    return distance.lower() in ("euclid", "manhattan")


def _vector_shape(config: Json) -> Json:
    """Return what decides whether vectors of one collection mean the same in another."""
    dense = {
        f"vector {name!r}": {key: params.get(key) or _DEFAULTS.get(key) for key in _VECTOR_KEYS}
        for name, params in dense_vectors(config).items()
    }
    sparse = (config.get("params") or {}).get("sparse_vectors") or {}
    return dense | {
        f"sparse vector {name!r}": {"modifier": (params or {}).get("modifier") or "none"}
        for name, params in sparse.items()
    }


def vector_differences(expected: Json, found: Json) -> list[str]:
    """Name every vector whose size, distance, datatype or kind differs between two collection configs."""
    left, right = _vector_shape(expected), _vector_shape(found)
    return [
        f"{name}: expected {left.get(name, 'none')}, found {right.get(name, 'none')}"
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    ]


# -- payload indexes ---------------------------------------------------------------------------------------------------


def payload_schema(info: Json) -> dict[str, Json]:
    """Return field -> {data_type, params} without the point counts, which move."""
    schema = info.get("payload_schema") or {}
    return {
        field: {key: row[key] for key in ("data_type", "params") if row.get(key) is not None}
        for field, row in sorted(schema.items())
    }


def index_schema(row: Json) -> Any:
    """Return the `field_schema` that creates this index again."""
    params = _without_nulls(row.get("params") or {})
    return {"type": row["data_type"], **params} if params else row["data_type"]


def schema_differences(expected: Mapping[str, Json], found: Mapping[str, Json]) -> list[str]:
    """Name every payload index that is missing or of another kind. Indexes that were added do no harm."""
    return [
        f"index {field!r}: expected {row}, found {found.get(field, 'none')}"
        for field, row in expected.items()
        if not _covers(row, found.get(field))
    ]


def _covers(expected: Json, found: Json | None) -> bool:
    """Say whether everything asked for is there; a newer server adds parameters of its own."""
    if found is None or found.get("data_type") != expected.get("data_type"):
        return False
    params = found.get("params") or {}
    return all(params.get(key) == value for key, value in (expected.get("params") or {}).items() if value is not None)
