"""Filters as the REST API writes them, turned into the engine's. Runs in shard processes."""

from __future__ import annotations  # the engine's stubs name types that do not exist when it runs

from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

import qdrant_edge as edge

from reanimate.standby.errors import format_error, invalid_body
from reanimate.standby.points import normal_id

__all__ = ["build_filter", "point_id"]

Json = dict[str, Any]

_CLAUSES = ("must", "should", "must_not")
_RANGE_KEYS = ("gte", "gt", "lte", "lt")


def point_id(value: Any) -> int | UUID:
    """Return the id as the engine wants it.

    Raises:
        ApiError: 400, it is neither an unsigned integer nor a UUID.
    """
    checked = normal_id(value)
    return checked if isinstance(checked, int) else UUID(checked)


def build_filter(given: Any, where: str = "filter") -> edge.Filter | None:
    """Turn `{"must": […], …}` into the engine's filter; nothing stays nothing.

    Raises:
        ApiError: 400 when it has not the form of a filter, 422 when a condition asks for nothing.
    """
    if given is None:
        return None
    if not isinstance(given, dict):
        raise format_error("data did not match any variant of untagged enum Filter")
    if unknown := set(given) - {*_CLAUSES, "min_should"}:
        raise format_error(
            f"unknown field `{sorted(unknown)[0]}`, expected one of `should`, `min_should`, `must`, `must_not`"
        )
    parts: Json = {}
    for clause in _CLAUSES:
        if (conditions := given.get(clause)) is not None:
            parts[clause] = _conditions(conditions, f"{where}.{clause}")
    if (least := given.get("min_should")) is not None:
        try:
            parts["min_should"] = edge.MinShould(
                _conditions(least["conditions"], f"{where}.min_should.conditions"), least["min_count"]
            )
        except (KeyError, TypeError, OverflowError) as error:
            raise format_error(f"min_should needs conditions and min_count: {error}") from None
    return edge.Filter(**parts)


def _conditions(given: Any, where: str) -> list[edge.ConditionType]:
    several = given if isinstance(given, list) else [given]
    return [build_condition(one, f"{where}[{index}]") for index, one in enumerate(several)]


def build_condition(given: Any, where: str) -> edge.ConditionType:
    """Turn one condition, or a filter inside a filter, into the engine's."""
    if not isinstance(given, dict):
        raise format_error("data did not match any variant of untagged enum Condition")
    try:
        if "key" in given:
            return _field(given, where)
        for name, build in _OTHERS.items():
            if name in given:
                return build(given[name], where)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise format_error(f"data did not match any variant of untagged enum Condition ({where}: {error})") from None
    if set(given) & {*_CLAUSES, "min_should"} or not given:
        inner = build_filter(given, where)
        return inner if inner is not None else edge.Filter()
    raise format_error(f"data did not match any variant of untagged enum Condition ({where})")


def _nested(given: Json, where: str) -> edge.ConditionType:
    inner = build_filter(given["filter"], f"{where}.nested.filter")
    return edge.NestedCondition(given["key"], inner if inner is not None else edge.Filter())


_OTHERS: dict[str, Callable[[Any, str], edge.ConditionType]] = {
    "has_id": lambda given, _: edge.HasIdCondition({point_id(one) for one in given}),
    "has_vector": lambda given, _: edge.HasVectorCondition(given),
    "is_empty": lambda given, _: edge.IsEmptyCondition(given["key"]),
    "is_null": lambda given, _: edge.IsNullCondition(given["key"]),
    "nested": _nested,
}


def _field(given: Json, where: str) -> edge.ConditionType:
    parts: Json = {}
    for name, build in _FIELD_PARTS.items():
        if (value := given.get(name)) is not None:
            parts[name] = build(value)
    if not parts:
        raise invalid_body(f"{where}.__all__", "Validation error: At least one field condition must be specified [{}]")
    return edge.FieldCondition(given["key"], **parts)


def _match(given: Any) -> edge.MatchType:
    for name, build in _MATCHES.items():
        if name in given:
            return build(given[name])
    raise ValueError("data did not match any variant of untagged enum MatchInterface")


def _match_value(value: Any) -> edge.MatchValue:
    if not isinstance(value, (str, int, bool)):
        raise ValueError(f"{value!r} is not a value to match")
    return edge.MatchValue(_numpy_truth(value) if isinstance(value, bool) else value)


def _numpy_truth(value: bool) -> bool:
    """Return a truth value that the engine takes for one: it takes Python's own for the numbers 0 and 1."""
    from numpy import bool_  # only here, since few filters need it and it is large

    return cast("bool", bool_(value))


_MATCHES: dict[str, Callable[[Any], edge.MatchType]] = {
    "value": _match_value,
    "text": edge.MatchText,
    "text_any": edge.MatchTextAny,
    "phrase": edge.MatchPhrase,
    "any": edge.MatchAny,
    "except": edge.MatchExcept,
}


def _range(given: Json) -> edge.RangeType:
    bounds = {name: given[name] for name in _RANGE_KEYS if given.get(name) is not None}
    if any(isinstance(bound, str) for bound in bounds.values()):
        return edge.RangeDateTime(**bounds)
    return edge.RangeFloat(**bounds)


def _values_count(given: Json) -> edge.ValuesCount:
    return edge.ValuesCount(**{name: given[name] for name in _RANGE_KEYS if given.get(name) is not None})


def geo_point(given: Json) -> edge.GeoPoint:
    return edge.GeoPoint(lon=given["lon"], lat=given["lat"])


def _ring(given: Json) -> list[edge.GeoPoint]:
    return [geo_point(one) for one in given["points"]]


_FIELD_PARTS: dict[str, Callable[[Any], Any]] = {
    "match": _match,
    "range": _range,
    "values_count": _values_count,
    "geo_bounding_box": lambda given: edge.GeoBoundingBox(
        geo_point(given["top_left"]), geo_point(given["bottom_right"])
    ),
    "geo_radius": lambda given: edge.GeoRadius(geo_point(given["center"]), given["radius"]),
    "geo_polygon": lambda given: edge.GeoPolygon(
        _ring(given["exterior"]), [_ring(one) for one in given.get("interiors") or ()]
    ),
    "is_empty": lambda given: given,
    "is_null": lambda given: given,
}
