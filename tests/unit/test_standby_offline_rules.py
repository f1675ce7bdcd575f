"""What an offline standby adds to requests and answers: exactness, and its age."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from reanimate.standby.errors import ApiError
from reanimate.standby.exactness import EXACT_BELOW, FILTERED_EXACT_BELOW, made_exact
from reanimate.standby.held import AGE_HEADER, TAKEN_AT_HEADER, Held, marked, oldest
from reanimate.standby.http import Response

TAKEN = datetime(2026, 11, 23, 1, 30, tzinfo=UTC)
HELD = Held("20261123T013000Z-kb-1a2b", "kb", TAKEN, TAKEN + timedelta(hours=1), 100, "ab" * 32)
FILTER = {"must": [{"key": "lang", "match": {"value": "de"}}]}
JSON = [("content-type", "application/json")]


@pytest.mark.parametrize(
    ("request_", "points", "params"),
    [
        ({"query": [1.0]}, EXACT_BELOW - 1, {"exact": True}),
        ({"query": [1.0]}, EXACT_BELOW, {}),
        ({"query": [1.0], "params": {"hnsw_ef": 64, "indexed_only": True}}, EXACT_BELOW, {"hnsw_ef": 64}),
        ({"query": [1.0], "filter": FILTER}, EXACT_BELOW, {"exact": True}),
        (
            {"query": [1.0], "filter": FILTER},
            FILTERED_EXACT_BELOW,
            {"acorn": {"enable": True, "max_selectivity": 1.0}, "hnsw_ef": 256},
        ),
        ({"query": [1.0], "filter": FILTER, "params": {"exact": True}}, FILTERED_EXACT_BELOW, {"exact": True}),
    ],
)
def test_made_exact__by_size_and_filter(request_: dict[str, Any], points: int, params: dict[str, Any]) -> None:
    """Small collections and filtered searches are exact; what is too large for that goes the filter-safe way."""
    assert made_exact(request_, points) == {**request_, "params": params}


def test_made_exact__a_filter_anywhere_counts_everywhere() -> None:
    """A filter in a prefetch makes the whole query exact, and one at the root its prefetches."""
    inner = {"query": [1.0], "filter": FILTER, "limit": 50}
    for request in (
        {"prefetch": [inner, {"query": [0.5]}], "query": {"fusion": "rrf"}},
        {"prefetch": {"prefetch": inner, "query": [0.5]}, "query": [2.0]},
        {"prefetch": {"query": [0.5]}, "query": [2.0], "filter": FILTER},
    ):
        changed = made_exact(request, EXACT_BELOW)
        assert changed["params"] == {"exact": True}
        assert all(one["params"] == {"exact": True} for one in changed["prefetch"])


def test_held__goes_out_and_comes_back() -> None:
    """What is stored is what is read; times without a zone and other things are refused."""
    assert Held.of(orjson.loads(orjson.dumps(HELD.as_json()))) == HELD
    for wrong in (
        {},
        {**HELD.as_json(), "taken_at": "2026-11-23T01:30:00"},
        {**HELD.as_json(), "points": "many"},
        None,
    ):
        with pytest.raises(ApiError, match="not the description of a held backup"):
            Held.of(wrong)


def test_oldest__speaks_for_all() -> None:
    """An answer about no collection in particular is as old as the oldest copy."""
    older = Held("older", "docs", TAKEN - timedelta(days=1), TAKEN, 1, "cd" * 32)
    assert oldest([HELD, older]) is older
    assert oldest([]) is None


def test_marked__says_the_age_in_headers_and_beside_the_result() -> None:
    """The envelope keeps its fields, what is no JSON object its body; no clock makes anything younger than new."""
    now = TAKEN + timedelta(hours=2)
    answer = marked(Response(200, b'{"result":[1],"status":"ok","time":0.1}', JSON), HELD, now)
    assert dict(answer.headers)[AGE_HEADER] == "7200"
    assert dict(answer.headers)[TAKEN_AT_HEADER] == "2026-11-23T01:30:00+00:00"
    assert isinstance(answer.body, bytes)
    assert orjson.loads(answer.body) == {
        "result": [1],
        "status": "ok",
        "time": 0.1,
        "snapshot": {"backup_id": HELD.backup_id, "taken_at": "2026-11-23T01:30:00+00:00", "age_s": 7200},
    }
    assert orjson.loads(marked(Response(200, b"{}", JSON), HELD, now).body)["snapshot"]["age_s"] == 7200  # type: ignore[arg-type]
    plain = marked(Response(404, b"no {such} thing}"), HELD, TAKEN - timedelta(days=1))
    assert (plain.body, dict(plain.headers)[AGE_HEADER]) == (b"no {such} thing}", "0")
