"""What may be spent on asking again, on asking twice, on probes; and a provider's own limits."""

import random

import pytest

from reanimate.gateway.llm.failover.budget import HedgeBudget, RetryBudget, full_jitter
from reanimate.gateway.llm.failover.limits import Limits
from reanimate.gateway.llm.failover.probes import ProbeBudget
from reanimate.llm_settings import ModelSettings


def test_retry_budget__no_outage_is_made_worse_by_more_than_a_tenth() -> None:
    """A thousand calls that all fail are at most 110 retries: a tenth, and what was saved up."""
    budget = RetryBudget()
    retries = 0
    for _ in range(1000):
        budget.asked()
        retries += budget.spend()
    assert retries <= 110


def test_hedge_budget__at_most_the_routes_share_is_asked_twice() -> None:
    """And never any where the share is 0."""
    budget = HedgeBudget(0.1)
    hedges = 0
    for _ in range(1000):
        budget.asked()
        hedges += budget.spend()
    assert 100 <= hedges <= 105
    none = HedgeBudget(0.0)
    none.asked()
    assert not none.spend()


def test_full_jitter__spreads_over_the_whole_of_a_bound_that_doubles() -> None:
    """From 0 on, and never above the cap."""
    dice = random.Random(5)
    waits = [full_jitter(dice.random(), attempt, base_s=0.1, cap_s=1.0) for attempt in (0, 2, 10) for _ in range(500)]
    assert min(waits) < 0.01
    assert max(waits[:500]) <= 0.1 < max(waits[500:1000]) <= 0.4 < max(waits) <= 1.0


def test_probe_budget__no_hour_sees_more_than_its_tokens() -> None:
    """Half is there at once, half comes over the hour; what was not billed is given back."""
    budget = ProbeBudget(1200, 0.0)
    spent = sum(12 for second in range(3600) if budget.spend(12, float(second)))
    assert 1100 < spent <= 1200
    refunded = ProbeBudget(240, 0.0)
    for _ in range(1000):
        assert refunded.spend(12, 0.0)
        refunded.give_back(12)
    assert not ProbeBudget(0, 0.0).spend(12, 10_000.0)


def _limits(**limits: int) -> Limits:
    found = Limits.of(ModelSettings.model_validate({"name": "m", **limits}))
    assert found is not None
    return found


def test_limits__no_minute_sees_more_requests_than_allowed() -> None:
    """Whenever it begins; and how long it takes until there is room is known."""
    limits = _limits(requests_per_min=3)
    sent: list[float] = []
    now = 0.0
    while now < 300.0:
        if (room := limits.room_in(10, now)) == 0.0:
            limits.begin(10, now)
            sent.append(now)
            now += 0.5
        else:
            now += room
    assert all(sum(at <= other < at + 59.0 for other in sent) <= 3 for at in sent)
    assert len(sent) >= 13


def test_limits__tokens_are_corrected_by_what_was_used() -> None:
    """An estimate that was too high gives its room back."""
    limits = _limits(tokens_per_min=1000)
    limits.begin(900, 0.0)
    assert limits.room_in(200, 1.0) == pytest.approx(59.0)
    limits.end(900, 100, 0.0, 1.0)
    assert limits.room_in(200, 1.0) == 0.0


def test_limits__a_call_larger_than_a_minute_goes_when_the_minute_is_empty() -> None:
    """Else it would never go."""
    limits = _limits(tokens_per_min=1000)
    assert limits.room_in(5000, 0.0) == 0.0
    limits.begin(10, 0.0)
    assert limits.room_in(5000, 0.5) > 50.0


def test_limits__so_many_at_once() -> None:
    """A place is free when one has ended."""
    limits = _limits(concurrency=2)
    limits.begin(1, 0.0)
    limits.begin(1, 0.0)
    assert limits.room_in(1, 0.0) > 0
    limits.end(1, None, 0.0, 0.1)
    assert limits.room_in(1, 0.1) == 0.0


def test_limits__without_any_there_is_nothing_to_count() -> None:
    """The usual case costs nothing."""
    assert Limits.of(ModelSettings.model_validate({"name": "m"})) is None
