"""Scoring formulas as the REST API writes them, turned into the engine's. Runs in shard processes."""

from __future__ import annotations  # the engine's stubs name types that do not exist when it runs

from collections.abc import Callable
from typing import Any

import qdrant_edge as edge

from reanimate.standby.errors import format_error
from reanimate.standby.filters import build_condition, geo_point

__all__ = ["build_formula"]

Json = dict[str, Any]
E = edge.Expression


def build_formula(given: Json) -> edge.Formula:
    """Turn `{"formula": …, "defaults": {…}}` into the engine's formula.

    Raises:
        ApiError: 400, it is not a formula.
    """
    try:
        return edge.Formula(_expression(given["formula"]), defaults=given.get("defaults") or {})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise format_error(f"data did not match any variant of untagged enum Expression ({error})") from None


def _expression(given: Any) -> edge.Expression:
    if isinstance(given, bool):
        raise ValueError("a truth value is not an expression")
    if isinstance(given, (int, float)):
        return E.Constant(float(given))
    if isinstance(given, str):
        return E.Variable(given)
    for name, build in _FORMS.items():
        if name in given:
            return build(given[name])
    return E.Condition(build_condition(given, "formula"))


def _several(given: list[Any]) -> list[edge.Expression]:
    return [_expression(one) for one in given]


def _division(given: Json) -> edge.Expression:
    return E.Div(_expression(given["left"]), _expression(given["right"]), given.get("by_zero_default"))


def _decay(kind: edge.DecayKind) -> Callable[[Json], edge.Expression]:
    def build(given: Json) -> edge.Expression:
        target = given.get("target")
        return E.Decay(
            kind,
            _expression(given["x"]),
            _expression(target) if target is not None else None,
            given.get("midpoint"),
            given.get("scale"),
        )

    return build


_FORMS: dict[str, Callable[[Any], edge.Expression]] = {
    "mult": lambda given: E.Mult(_several(given)),
    "sum": lambda given: E.Sum(_several(given)),
    "neg": lambda given: E.Neg(_expression(given)),
    "abs": lambda given: E.Abs(_expression(given)),
    "div": _division,
    "sqrt": lambda given: E.Sqrt(_expression(given)),
    "pow": lambda given: E.Pow(_expression(given["base"]), _expression(given["exponent"])),
    "exp": lambda given: E.Exp(_expression(given)),
    "log10": lambda given: E.Log10(_expression(given)),
    "ln": lambda given: E.Ln(_expression(given)),
    "geo_distance": lambda given: E.GeoDistance(geo_point(given["origin"]), given["to"]),
    "datetime": lambda given: E.Datetime(given),
    "datetime_key": lambda given: E.DatetimeKey(given),
    "lin_decay": _decay(edge.DecayKind.Lin),
    "exp_decay": _decay(edge.DecayKind.Exp),
    "gauss_decay": _decay(edge.DecayKind.Gauss),
}
