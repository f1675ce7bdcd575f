"""A collection's config when little was asked for, and what may be asked: a server's rules and defaults."""

from copy import deepcopy
from typing import Any

from reanimate.standby.errors import ApiError, bad_request, format_error, invalid_body, not_implemented

__all__ = ["changed_config", "check_collection_name", "named_vectors", "new_config", "sparse_names"]

Json = dict[str, Any]

_DISTANCES = ("Cosine", "Euclid", "Dot", "Manhattan")
_LARGEST_VECTOR = 65536
_MOST_SHARDS = 32
"""A process each."""

_PARAMS: Json = {"shard_number": 1, "replication_factor": 1, "write_consistency_factor": 1, "on_disk_payload": True}
_HNSW: Json = {
    "m": 16,
    "ef_construct": 100,
    "full_scan_threshold": 10000,
    "max_indexing_threads": 0,
    "on_disk": False,
}
_OPTIMIZER: Json = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "max_segment_size": None,
    "memmap_threshold": None,
    "indexing_threshold": 10000,
    "flush_interval_sec": 5,
    "max_optimization_threads": None,
    "prevent_unoptimized": None,
}
_WAL: Json = {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1}
_VECTOR_KEYS = ("hnsw_config", "quantization_config", "on_disk", "datatype", "multivector_config")


def check_collection_name(name: str, *, new: bool) -> None:
    """Refuse names that cannot be.

    Raises:
        ApiError: 422, as a server says it.
    """
    forbidden = '<>:"/\\|?*\0\u001f' if new else "/\0"
    for char in forbidden:
        if char in name:
            raise ApiError(
                422,
                f'Validation error in path parameters: [collection_name: collection name cannot contain "{char}" char]',
            )
    if new and not 1 <= len(name.encode()) <= 255:
        raise ApiError(422, "Validation error in path parameters: [collection_name: must be from 1 to 255 characters]")


def new_config(asked: Json) -> Json:
    """Build the config of a new collection from the body of its creation.

    Raises:
        ApiError: 400, 422 or 501, as a server says it, or by name when this one does not do it.
    """
    if asked.get("sharding_method") not in (None, "auto"):
        raise not_implemented("custom sharding")
    params: Json = {"vectors": _vectors(asked.get("vectors"))}
    params |= {name: _positive(asked, name, default) for name, default in _PARAMS.items() if name != "on_disk_payload"}
    if params["shard_number"] > _MOST_SHARDS:
        raise bad_request(f"shard_number {params['shard_number']}: this server gives each shard a process, at most 32")
    on_disk = asked.get("on_disk_payload")
    params["on_disk_payload"] = True if on_disk is None else bool(on_disk)
    if sparse := asked.get("sparse_vectors"):
        params["sparse_vectors"] = {name: _present(shape) for name, shape in _object(sparse, "sparse_vectors").items()}
    config: Json = {
        "params": params,
        "hnsw_config": _merged(_HNSW, asked.get("hnsw_config")),
        "optimizer_config": _merged(_OPTIMIZER, asked.get("optimizers_config") or asked.get("optimizer_config")),
        "wal_config": _merged(_WAL, asked.get("wal_config")),
        "quantization_config": asked.get("quantization_config") or asked.get("quantization"),
    }
    for name in ("strict_mode_config", "metadata"):
        if asked.get(name) is not None:
            config[name] = _object(asked[name], name)
    return config


def changed_config(config: Json, asked: Json) -> Json:
    """Apply the body of `PATCH /collections/{c}`; what is not named stays.

    Raises:
        ApiError: 400, a vector is named that does not exist.
    """
    config = deepcopy(config)
    config["hnsw_config"] = _merged(config["hnsw_config"], asked.get("hnsw_config"))
    optimizers = asked.get("optimizers_config") or asked.get("optimizer_config")
    config["optimizer_config"] = _merged(config["optimizer_config"], optimizers)
    config["params"] = _merged(config["params"], asked.get("params"))
    if (quantization := asked.get("quantization_config")) is not None:
        config["quantization_config"] = None if quantization == "Disabled" else quantization
    vectors = named_vectors(config)
    for name, change in (asked.get("vectors") or {}).items():
        if name not in vectors:
            raise ApiError(400, f"Wrong input: Not existing vector name error: {name}")
        vectors[name].update(_present(change))
    if metadata := asked.get("metadata"):
        merged = {**config.get("metadata", {}), **metadata}
        config["metadata"] = {key: value for key, value in merged.items() if value is not None}
    elif metadata == {}:
        config.pop("metadata", None)
    if (strict := asked.get("strict_mode_config")) is not None:
        config["strict_mode_config"] = {**config.get("strict_mode_config", {}), **strict}
    return config


def named_vectors(config: Json) -> dict[str, Json]:
    """Return the dense vectors by name; the unnamed one has the name ""."""
    vectors: Json = config["params"].get("vectors") or {}
    return {"": vectors} if "size" in vectors else vectors


def sparse_names(config: Json) -> set[str]:
    return set(config["params"].get("sparse_vectors") or ())


def _vectors(asked: Any) -> Json:
    if asked is None:
        return {}
    try:
        if "size" in asked or "distance" in asked:
            return _vector(asked)
        return {name: _vector(shape) for name, shape in asked.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise format_error("data did not match any variant of untagged enum VectorsConfig") from None


def _vector(asked: Json) -> Json:
    size, distance = asked["size"], asked["distance"]
    if not isinstance(size, int) or isinstance(size, bool) or size < 1 or distance not in _DISTANCES:
        raise ValueError("no vector has this size or distance")
    if size > _LARGEST_VECTOR:
        raise invalid_body("vectors.size", f"value {size} invalid, must be from 1 to {_LARGEST_VECTOR}")
    if asked.get("datatype") not in (None, "float32", "float16", "uint8"):
        raise not_implemented(f"vectors of datatype {asked['datatype']}")
    return {"size": size, "distance": distance, **{name: asked[name] for name in _VECTOR_KEYS if asked.get(name)}}


def _positive(asked: Json, name: str, default: int) -> int:
    value = asked.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise format_error(f"invalid value for {name}: `{value}`, expected u32")
    if value == 0:
        raise invalid_body(name, "value 0 invalid, must be 1 or larger")
    return value


def _merged(defaults: Json, asked: Any) -> Json:
    return {**defaults, **_present(asked)}


def _present(asked: Any) -> Json:
    return {name: value for name, value in _object(asked or {}, "config").items() if value is not None}


def _object(asked: Any, name: str) -> Json:
    if not isinstance(asked, dict):
        raise format_error(f"invalid type for {name}, expected a map")
    return asked
