"""When a provider is late, when another one is asked beside it, and when it is given up."""

from dataclasses import dataclass
from typing import Any

import pytest

from reanimate.gateway.llm.failover.latency import Latency
from reanimate.gateway.llm.failover.lateness import Lateness
from reanimate.llm_settings import RouteSettings


@dataclass
class _Seen:
    status: int = 0
    last_byte_at: float = 0.0


def _route(**fields: Any) -> RouteSettings:
    return RouteSettings.model_validate({"name": "chat", "targets": ["main/model"], **fields})


def _moments(lateness: Lateness, response: _Seen, until: float = 200.0) -> list[tuple[float, str]]:
    """Look whenever it is due, and never find that a hedge is within the budget; return what was found when."""
    found: list[tuple[float, str]] = []
    while (now := lateness.due) < until:
        if (failure := lateness.given_up(now, response)) is not None:
            return [*found, (now, failure.kind)]
        if lateness.turns_late(now):
            found.append((now, "late"))
        if lateness.may_be_hedged(now):
            if lateness.first_look(now):
                found.append((now, "hedge"))
            if lateness.hangs(now):
                found.append((now, "hangs"))
                lateness.hedged = True
        lateness.next_due(now)
    return found


def test_lateness__a_second_one_is_asked_at_the_providers_own_p95_within_the_routes_bounds() -> None:
    """Known to be quick: at the lower bound. Known to be slow: at the upper one, though it is not late then."""
    quick = _moments(Lateness(_route(), 0.002, 0.0, 60.0, stream=False), _Seen())
    assert quick == [(0.05, "late"), (0.05, "hedge"), (0.4, "hangs"), (20.0, "timeout")]
    usual = _moments(Lateness(_route(), 0.2, 0.0, 60.0, stream=False), _Seen())
    assert usual == [(0.2, "late"), (0.2, "hedge"), (pytest.approx(0.6), "hangs"), (20.0, "timeout")]
    slow = _moments(Lateness(_route(), 3.0, 0.0, 60.0, stream=False), _Seen())
    assert slow == [(0.4, "hedge"), (3.0, "late"), (9.0, "hangs"), (20.0, "timeout")]


def test_lateness__of_an_unknown_provider_nothing_is_concluded_soon() -> None:
    """A second one may be asked at the upper bound; suspicion takes a second."""
    unknown = _moments(Lateness(_route(), None, 0.0, 60.0, stream=False), _Seen())
    assert unknown == [(0.4, "hedge"), (1.0, "late"), (2.0, "hangs"), (20.0, "timeout")]


def test_lateness__without_hedging_it_is_still_seen_to_be_late() -> None:
    """The breaker wants to know."""
    found = _moments(Lateness(_route(hedge=False), 0.002, 0.0, 60.0, stream=False), _Seen())
    assert found == [(0.05, "late"), (20.0, "timeout")]


def test_lateness__the_calls_deadline_comes_before_the_time_to_the_first_token() -> None:
    """Nothing is waited for that would come too late."""
    found = _moments(Lateness(_route(hedge=False), 0.002, 0.0, 5.0, stream=True), _Seen())
    assert found[-1] == (5.0, "timeout")


def test_lateness__an_answer_that_has_begun_may_take_its_time_as_long_as_something_comes() -> None:
    """The head came: then it is the idle limit that counts, and the limit for the whole."""
    idle = _moments(Lateness(_route(hedge=False), 0.002, 0.0, 120.0, stream=False), _Seen(200, 15.0))
    assert idle[-1] == (25.0, "stall")
    lateness = Lateness(_route(hedge=False), 0.002, 0.0, 120.0, stream=False)
    seen = _Seen(200, 19.9)
    now = 20.0
    while lateness.given_up(now, seen) is None:
        lateness.turns_late(now)
        lateness.next_due(now)
        now = lateness.due
        seen.last_byte_at = now - 0.1
    assert now == 60.0


def test_lateness__a_stream_has_until_its_first_token() -> None:
    """A head and pings are no token."""
    found = _moments(Lateness(_route(hedge=False), 0.002, 0.0, 120.0, stream=True), _Seen(200, 19.9))
    assert found[-1] == (20.0, "timeout")


def test_latency__is_what_95_of_100_take() -> None:
    """Of the last 128; little is known of what was asked less than five times."""
    latency = Latency()
    for _ in range(4):
        latency.add(1.0)
    assert latency.p95 is None
    latency.add(1.0)
    assert latency.p95 == 1.0
    for number in range(1, 1001):
        latency.add(number / 1000)
    assert latency.p95 == pytest.approx(0.993, abs=0.02)
    for _ in range(160):
        latency.add(0.01)
    assert latency.p95 == 0.01
