"""Points as clients send them: checked as a whole before any shard sees a part, then divided among the shards."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from reanimate.standby.config_defaults import named_vectors, sparse_names
from reanimate.standby.errors import bad_request, format_error, not_implemented, wrong_input

__all__ = ["checked_operation", "divide", "normal_id"]

Json = dict[str, Any]
PointId = int | str

_POINT_OPERATIONS = (
    "upsert",
    "delete",
    "set_payload",
    "overwrite_payload",
    "delete_payload",
    "clear_payload",
    "update_vectors",
    "delete_vectors",
)


def normal_id(value: Any) -> PointId:
    """Return an unsigned integer, or a UUID in its usual text form.

    Raises:
        ApiError: 400, it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64:
        return value
    if isinstance(value, str):
        try:
            return str(UUID(value))
        except ValueError:
            pass  # told below
    raise format_error(f"value {value} is not a valid point ID, valid values are either an unsigned integer or a UUID")


def checked_operation(operation: Any, config: Json) -> Json:
    """Check one operation, `{"upsert": {…}}` and so on, against the collection, and bring it into one form.

    Raises:
        ApiError: 400 as a server says it; nothing has been changed.
    """
    if not isinstance(operation, dict) or len(operation) != 1:
        raise format_error("data did not match any variant of untagged enum UpdateOperation")
    ((kind, given),) = operation.items()
    if kind not in _POINT_OPERATIONS:
        raise format_error(f"unknown variant `{kind}`, expected one of {', '.join(_POINT_OPERATIONS)}")
    if not isinstance(given, dict):
        if kind not in ("delete", "clear_payload") or not isinstance(given, list):
            raise format_error(f"invalid type for {kind}, expected a map")
        given = {"points": given}
    if given.get("shard_key") is not None:
        raise not_implemented("custom sharding")
    if kind == "upsert":
        return {kind: _checked_upsert(given, config)}
    if kind == "update_vectors":
        return {kind: {**given, "points": _checked_points(given.get("points"), config)}}
    return {kind: _checked_selection(kind, given)}


def _checked_selection(kind: str, given: Json) -> Json:
    ids = given.get("points")
    if ids is None and given.get("filter") is None:
        if kind in ("delete", "clear_payload"):
            raise format_error("data did not match any variant of untagged enum PointsSelector")
        raise format_error("Either list of point ids or filter must be provided")
    for needed, of in (
        ("payload", "set_payload overwrite_payload"),
        ("keys", "delete_payload"),
        ("vector", "delete_vectors"),
    ):
        if kind in of.split() and needed not in given:
            raise format_error(f"missing field `{needed}`")
    if ids is None:
        return given
    if not isinstance(ids, list):
        raise format_error("invalid type for points, expected a sequence")
    return {**given, "points": [normal_id(one) for one in ids]}


def _checked_upsert(given: Json, config: Json) -> Json:
    points = _from_batch(given["batch"]) if "batch" in given else given.get("points")
    checked = _checked_points(points, config)
    if not checked:
        raise bad_request("Empty update request")
    rest = {name: given[name] for name in ("update_filter", "update_mode") if given.get(name) is not None}
    return {"points": checked, **rest}


def _from_batch(batch: Any) -> list[Json]:
    """Turn columns (ids, vectors, payloads) into points."""
    try:
        ids, vectors, payloads = batch["ids"], batch["vectors"], batch.get("payloads")
        if isinstance(vectors, dict):
            names = list(vectors)
            vectors = [dict(zip(names, row, strict=True)) for row in zip(*vectors.values(), strict=True)]
        payloads = payloads if payloads is not None else [None] * len(ids)
        return [
            {"id": point, "vector": vector, "payload": payload}
            for point, vector, payload in zip(ids, vectors, payloads, strict=True)
        ]
    except (KeyError, TypeError, AttributeError):
        raise format_error("data did not match any variant of untagged enum PointInsertOperations") from None
    except ValueError:
        raise bad_request("Batch has different numbers of ids, vectors and payloads") from None


def _checked_points(points: Any, config: Json) -> list[Json]:
    if not isinstance(points, list):
        raise format_error("data did not match any variant of untagged enum PointInsertOperations")
    dense, sparse = named_vectors(config), sparse_names(config)
    return [_checked_point(point, dense, sparse) for point in points]


def _checked_point(point: Any, dense: dict[str, Json], sparse: set[str]) -> Json:
    if not isinstance(point, dict):
        raise format_error("invalid type for a point, expected a map")
    for needed in ("id", "vector"):
        if needed not in point:
            raise format_error(f"missing field `{needed}`")
    payload, vector = point.get("payload"), point["vector"]
    if payload is not None and not isinstance(payload, dict):
        raise format_error("invalid type for payload, expected a map")
    if isinstance(vector, dict) and "text" not in vector and "image" not in vector:
        for name, value in vector.items():
            _check_vector(name, value, dense, sparse)
    else:
        _check_vector("", vector, dense, sparse)
    return {"id": normal_id(point["id"]), "vector": vector, "payload": payload}


def _check_vector(name: str, value: Any, dense: dict[str, Json], sparse: set[str]) -> None:
    if isinstance(value, dict) and "indices" not in value:
        raise not_implemented("inference of vectors from text, images and objects")
    if name in sparse:
        if not isinstance(value, dict):
            raise wrong_input(f"Conversion between multi and regular vectors failed: {name} is a sparse vector")
        return
    if name not in dense:
        raise wrong_input(f"Not existing vector name error: {name}")
    if not isinstance(value, list):
        raise format_error("data did not match any variant of untagged enum VectorStruct")
    multi = bool(value) and isinstance(value[0], list)
    if multi and not dense[name].get("multivector_config") and not _reads_as_sparse(value):
        raise wrong_input(f"Conversion between multi and regular vectors failed: {name} is a single vector")
    rows = value if multi else [value]
    for row in rows:
        if len(row) != dense[name]["size"] and not _reads_as_sparse(value):
            raise wrong_input(f"Vector dimension error: expected dim: {dense[name]['size']}, got {len(row)}")
        if not all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in row):
            raise format_error("data did not match any variant of untagged enum VectorStruct")


def _reads_as_sparse(value: list[Any]) -> bool:
    """Two lists, the first of whole numbers: a server takes that for a sparse vector; the shard answers accordingly."""
    return len(value) == 2 and isinstance(value[0], list) and all(isinstance(number, int) for number in value[0])


def divide(operation: Json, shards: list[int], shard_of: Callable[[PointId], int]) -> dict[int, Json]:
    """Return each shard's part of an operation. What names points goes where they are, anything else to all."""
    ((kind, given),) = operation.items()
    points = given.get("points")
    if points is None or len(shards) == 1:
        return dict.fromkeys(shards, operation)
    parts: dict[int, list[Any]] = {}
    for point in points:
        parts.setdefault(shard_of(point["id"] if isinstance(point, dict) else point), []).append(point)
    return {shard: {kind: {**given, "points": part}} for shard, part in parts.items()}
