"""Queries as the REST API writes them, ids already replaced by vectors, turned into the engine's.

Runs in shard processes.
"""

from __future__ import annotations  # the engine's stubs name types that do not exist when it runs

from collections.abc import Callable
from typing import Any

import qdrant_edge as edge

from reanimate.standby.errors import format_error, invalid_body, not_implemented
from reanimate.standby.filters import build_filter
from reanimate.standby.formulas import build_formula

__all__ = ["build_order_by", "build_query_request", "build_vector", "payload_selector", "vector_selector"]

Json = dict[str, Any]

_DEFAULT_LIMIT = 10
_RRF_K = 2
_MMR_LAMBDA = 0.5


def build_query_request(given: Json) -> edge.QueryRequest:
    """Turn the body of one query into the engine's request.

    Raises:
        ApiError: 400 or 422 as a server would say it.
    """
    try:
        return edge.QueryRequest(
            limit=_limit(given),
            offset=given.get("offset") or 0,
            query=_scoring(given),
            prefetches=_prefetches(given),
            with_vector=vector_selector(given.get("with_vector")),
            with_payload=payload_selector(given.get("with_payload")),
            filter=build_filter(given.get("filter"), "internal.filter"),
            score_threshold=given.get("score_threshold"),
            params=_params(given.get("params")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise format_error(f"not a query: {error}") from None


def _limit(given: Json) -> int:
    limit = given.get("limit")
    if limit is None:
        return _DEFAULT_LIMIT
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise format_error(f"invalid value: `{limit}`, expected usize")
    if limit == 0:
        raise invalid_body("internal.limit", "value 0 invalid, must be 1 or larger")
    return limit


def _prefetches(given: Json) -> list[edge.Prefetch]:
    prefetch = given.get("prefetch")
    if prefetch is None:
        return []
    return [_prefetch(one) for one in (prefetch if isinstance(prefetch, list) else [prefetch])]


def _prefetch(given: Json) -> edge.Prefetch:
    return edge.Prefetch(
        limit=_limit(given),
        query=_scoring(given),
        prefetches=_prefetches(given),
        params=_params(given.get("params")),
        filter=build_filter(given.get("filter"), "internal.prefetch.filter"),
        score_threshold=given.get("score_threshold"),
    )


def build_vector(given: Any) -> Any:
    """Return a dense, sparse or multi vector as the engine takes it.

    Two lists of which the first holds whole numbers only are read as a sparse vector, as a server does.

    Raises:
        ApiError: 400 or 422, it is no vector.
    """
    if isinstance(given, dict) and "indices" in given:
        return _sparse(given["indices"], given["values"])
    if isinstance(given, dict):
        raise not_implemented("inference of vectors from text, images and objects")
    if not isinstance(given, list):
        raise format_error("Expected some form of vector, id, or a type of query")
    if given and isinstance(given[0], list):
        if len(given) == 2 and given[0] and all(isinstance(value, int) for value in given[0]):
            return _sparse(given[0], given[1])
        return [[float(value) for value in row] for row in given]
    return [float(value) for value in given]


def _sparse(indices: list[int], values: list[float]) -> edge.SparseVector:
    if len(set(indices)) != len(indices):
        raise invalid_body("internal.query.indices", "Validation error: must be unique [{}]")
    if len(indices) != len(values):
        raise invalid_body("internal.query.values", "Validation error: must be the same length as indices [{}]")
    return edge.SparseVector(indices, [float(value) for value in values])


def _scoring(given: Json) -> edge.ScoringQueryType | None:
    query, using = given.get("query"), given.get("using")
    if query is None:
        return None
    if isinstance(query, dict):
        for name, build in _FORMS.items():
            if name in query:
                return build(query, using)
    return edge.Query.Nearest(build_vector(query), using=using)


def _nearest(query: Json, using: str | None) -> edge.ScoringQueryType:
    vector = build_vector(query["nearest"])
    mmr = query.get("mmr")
    if mmr is None:
        return edge.Query.Nearest(vector, using=using)
    diversity = mmr.get("diversity")
    return edge.Mmr(
        vector,
        _MMR_LAMBDA if diversity is None else 1.0 - diversity,
        mmr.get("candidates_limit") or _DEFAULT_LIMIT,
        using=using,
    )


def _recommend(query: Json, using: str | None) -> edge.ScoringQueryType:
    given = query["recommend"]
    examples = edge.RecommendQuery(
        [build_vector(one) for one in given.get("positive") or ()],
        [build_vector(one) for one in given.get("negative") or ()],
    )
    if given.get("strategy") == "sum_scores":
        return edge.Query.RecommendSumScores(examples, using=using)
    return edge.Query.RecommendBestScore(examples, using=using)


def _pairs(given: Any) -> list[edge.ContextPair]:
    several = given if isinstance(given, list) else [given]
    return [edge.ContextPair(build_vector(one["positive"]), build_vector(one["negative"])) for one in several if one]


def _discover(query: Json, using: str | None) -> edge.ScoringQueryType:
    given = query["discover"]
    target = build_vector(given["target"])
    return edge.Query.Discover(edge.DiscoverQuery(target, _pairs(given.get("context") or [])), using=using)


def _fusion(query: Json, _using: str | None) -> Any:
    if query["fusion"] == "rrf":
        return edge.Fusion.Rrf(k=_RRF_K)
    if query["fusion"] == "dbsf":
        return edge.Fusion.Dbsf()
    raise format_error(f"unknown variant `{query['fusion']}`, expected `rrf` or `dbsf`")


def _rrf(query: Json, _using: str | None) -> Any:
    given = query["rrf"]
    return edge.Fusion.Rrf(k=given.get("k") or _RRF_K, weights=given.get("weights"))


def build_order_by(given: Any) -> edge.OrderBy:
    """Turn a field's name, or an object with `key`, into the engine's order."""
    if isinstance(given, str):
        return edge.OrderBy(given)
    directions = {None: None, "asc": edge.Direction.Asc, "desc": edge.Direction.Desc}
    try:
        return edge.OrderBy(given["key"], directions[given.get("direction")], given.get("start_from"))
    except (KeyError, TypeError) as error:
        raise format_error(f"data did not match any variant of untagged enum OrderByInterface ({error})") from None


def _sample(query: Json, _using: str | None) -> edge.ScoringQueryType:
    if query["sample"] != "random":
        raise format_error(f"unknown variant `{query['sample']}`, expected `random`")
    return edge.Sample.Random


def _unsupported(name: str) -> Callable[[Json, str | None], edge.ScoringQueryType]:
    def refuse(_query: Json, _using: str | None) -> edge.ScoringQueryType:
        raise not_implemented(name)

    return refuse


_FORMS: dict[str, Callable[[Json, str | None], edge.ScoringQueryType]] = {
    "nearest": _nearest,
    "recommend": _recommend,
    "discover": _discover,
    "context": lambda query, using: edge.Query.Context(edge.ContextQuery(_pairs(query["context"])), using=using),
    "order_by": lambda query, _using: build_order_by(query["order_by"]),
    "fusion": _fusion,
    "rrf": _rrf,
    "formula": lambda query, _using: build_formula(query),
    "sample": _sample,
    "relevance_feedback": _unsupported("relevance feedback queries"),
}


def _params(given: Json | None) -> edge.SearchParams | None:
    if not given:
        return None
    quantization, acorn = given.get("quantization"), given.get("acorn")
    return edge.SearchParams(
        hnsw_ef=given.get("hnsw_ef"),
        exact=given.get("exact") or False,
        indexed_only=given.get("indexed_only") or False,
        quantization=(
            edge.QuantizationSearchParams(
                ignore=quantization.get("ignore") or False,
                rescore=quantization.get("rescore"),
                oversampling=quantization.get("oversampling"),
            )
            if quantization
            else None
        ),
        acorn=(
            edge.AcornSearchParams(enable=acorn.get("enable") or False, max_selectivity=acorn.get("max_selectivity"))
            if acorn
            else None
        ),
    )


def payload_selector(given: Any, default: bool = False) -> Any:
    """Turn `with_payload` (truth, list of fields, include or exclude) into the engine's selector."""
    if given is None:
        return default
    if isinstance(given, dict):
        if "include" in given:
            return edge.PayloadSelector.Include(given["include"])
        if "exclude" in given:
            return edge.PayloadSelector.Exclude(given["exclude"])
        raise format_error("data did not match any variant of untagged enum WithPayloadInterface")
    return given


def vector_selector(given: Any) -> Any:
    """Turn `with_vector` (truth, or list of names) into the engine's selector."""
    return False if given is None else given
