"""Changes to points and indexes as the REST API writes them, turned into the engine's. Runs in shard processes."""

from __future__ import annotations  # the engine's stubs name types that do not exist when it runs

from collections.abc import Callable
from typing import Any

import qdrant_edge as edge

from reanimate.standby.engine_config import index_params
from reanimate.standby.errors import bad_request, format_error
from reanimate.standby.filters import build_filter, point_id
from reanimate.standby.queries import build_vector

__all__ = ["build_update"]

Json = dict[str, Any]
U = edge.UpdateOperation

_MODES = {
    "upsert": edge.UpdateMode.Upsert,
    "insert_only": edge.UpdateMode.InsertOnly,
    "update_only": edge.UpdateMode.UpdateOnly,
}


def build_update(operation: Json) -> edge.UpdateOperation:
    """Turn one operation, `{"upsert": {…}}` and so on, into the engine's.

    Raises:
        ApiError: 400 or 422, it has not the form of an operation.
    """
    for name, build in _OPERATIONS.items():
        if name in operation:
            try:
                return build(operation[name])
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                raise format_error(f"not a valid `{name}`: {error}") from None
    raise format_error("data did not match any variant of untagged enum UpdateOperation")


def _point_vector(given: Any) -> Any:
    if isinstance(given, dict):
        return {name: build_vector(one) for name, one in given.items()}
    return build_vector(given)


def _upsert(given: Json) -> edge.UpdateOperation:
    points = [
        edge.Point(point_id(one["id"]), _point_vector(one["vector"]), one.get("payload") or {})
        for one in given["points"]
    ]
    mode = given.get("update_mode")
    return U.upsert_points(
        points, build_filter(given.get("update_filter"), "update_filter"), _MODES[mode] if mode else None
    )


def _update_vectors(given: Json) -> edge.UpdateOperation:
    vectors = [edge.PointVectors(point_id(one["id"]), _point_vector(one["vector"])) for one in given["points"]]
    return U.update_vectors(vectors, build_filter(given.get("update_filter"), "update_filter"))


def _selected(
    given: Json,
    by_ids: Callable[[list[Any]], edge.UpdateOperation],
    by_filter: Callable[[edge.Filter], edge.UpdateOperation],
) -> edge.UpdateOperation:
    """Choose the form by what the request names: points, or else a filter."""
    if given.get("points") is not None:
        return by_ids([point_id(one) for one in given["points"]])
    selected = build_filter(given.get("filter"))
    if selected is None:
        raise bad_request("No filter or points selected")
    return by_filter(selected)


def _set_payload(given: Json) -> edge.UpdateOperation:
    payload, key = given["payload"], given.get("key")
    return _selected(
        given,
        lambda ids: U.set_payload(ids, payload, key),
        lambda selected: U.set_payload_by_filter(selected, payload, key),
    )


def _overwrite_payload(given: Json) -> edge.UpdateOperation:
    payload, key = given["payload"], given.get("key")
    return _selected(
        given,
        lambda ids: U.overwrite_payload(ids, payload, key),
        lambda selected: U.overwrite_payload_by_filter(selected, payload, key),
    )


def _delete_payload(given: Json) -> edge.UpdateOperation:
    keys = given["keys"]
    return _selected(
        given,
        lambda ids: U.delete_payload(ids, keys),
        lambda selected: U.delete_payload_by_filter(selected, keys),
    )


def _delete_vectors(given: Json) -> edge.UpdateOperation:
    names = given["vector"]
    return _selected(
        given,
        lambda ids: U.delete_vectors(ids, names),
        lambda selected: U.delete_vectors_by_filter(selected, names),
    )


def _create_index(given: Json) -> edge.UpdateOperation:
    return U.create_field_index(given["field_name"], index_params(given["field_schema"]))


_OPERATIONS: dict[str, Callable[[Json], edge.UpdateOperation]] = {
    "upsert": _upsert,
    "delete": lambda given: _selected(given, U.delete_points, U.delete_points_by_filter),
    "set_payload": _set_payload,
    "overwrite_payload": _overwrite_payload,
    "delete_payload": _delete_payload,
    "clear_payload": lambda given: _selected(given, U.clear_payload, U.clear_payload_by_filter),
    "update_vectors": _update_vectors,
    "delete_vectors": _delete_vectors,
    "create_index": _create_index,
    "delete_index": lambda given: U.delete_field_index(given["field_name"]),
}
