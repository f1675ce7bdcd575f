"""Searches made right rather than fast: filters thin out an index, and an offline standby answers few clients.

An HNSW graph loses hits when a filter leaves holes in it (recall 0.94 measured at 100,000 points); exact search never
does, and below some hundred thousand points its milliseconds cost nobody anything.
"""

from typing import Any

__all__ = ["EXACT_BELOW", "FILTERED_EXACT_BELOW", "made_exact"]

Json = dict[str, Any]

EXACT_BELOW = 200_000
"""Points; 16 ms at 384 dimensions."""
FILTERED_EXACT_BELOW = 2_000_000
"""Above, a filtered search goes through the index in the way that was made for filters."""
_WIDE_EF = 256


def made_exact(request: Json, points: int) -> Json:
    """Return a query, prefetches included, with the parameters under which a collection of that size answers it right.

    What the client asked for otherwise (quantization, oversampling) is kept where it still means something.
    """
    filtered = _is_filtered(request)
    return _with_params(request, points < (FILTERED_EXACT_BELOW if filtered else EXACT_BELOW), filtered)


def _prefetches(request: Json) -> list[Json]:
    prefetch = request.get("prefetch")
    return prefetch if isinstance(prefetch, list) else [] if prefetch is None else [prefetch]


def _is_filtered(request: Json) -> bool:
    return bool(request.get("filter")) or any(_is_filtered(one) for one in _prefetches(request))


def _with_params(request: Json, exact: bool, filtered: bool) -> Json:
    params = dict(request.get("params") or {})
    params.pop("indexed_only", None)  # it would leave out what no index covers
    if exact:
        params["exact"] = True
    elif filtered and not params.get("exact"):
        params["acorn"] = {"enable": True, "max_selectivity": 1.0}
        params["hnsw_ef"] = max(int(params.get("hnsw_ef") or 0), _WIDE_EF)
    changed = {**request, "params": params}
    if request.get("prefetch") is not None:
        changed["prefetch"] = [_with_params(one, exact, filtered) for one in _prefetches(request)]
    return changed
