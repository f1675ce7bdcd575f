"""Who may answer a read, and who is asked first."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reanimate.gateway.vector.shares import Plan, divide


@pytest.mark.parametrize(
    ("bounds", "shares"),
    [
        ((100, 100), (100, 0)),
        ((10, 100), (10, 90)),
        ((50, 20), (50, 20)),
        ((0, 100), (0, 100)),
        ((30, 50, 100), (30, 50, 20)),
        ((0, 0), (0, 0)),
    ],
)
def test_divide__each_takes_what_its_bound_allows_of_what_is_left(
    bounds: tuple[int, ...], shares: tuple[int, ...]
) -> None:
    """The primary comes first; replicas share what its bound leaves over."""
    assert divide(bounds) == shares


@given(st.lists(st.integers(-5, 105), min_size=1, max_size=5), st.floats(0, 1, exclude_max=True))
def test_plan__a_held_target_is_never_asked(bounds: list[int], draw: float) -> None:
    """A bound of 0 holds for failover too: wrong data is worse than none. All others are asked, each once."""
    plan = Plan.of([(str(number), bound) for number, bound in enumerate(bounds)])
    order = plan.order(draw)
    assert sorted(order) == sorted(str(number) for number, bound in enumerate(bounds) if bound > 0)


@pytest.mark.parametrize("share", [10, 50, 99])
def test_plan__the_first_choice_follows_the_shares(share: int) -> None:
    """Over all draws the primary is asked first exactly as often as its share says."""
    plan = Plan.of([("primary", share), ("replica", 100)])
    firsts = Counter(plan.order(number / 1000)[0] for number in range(1000))
    assert firsts["primary"] == share * 10


def test_plan__bounds_that_do_not_add_up_are_weights() -> None:
    """Two targets bound to 20 and 60 serve all reads between them, one to three."""
    plan = Plan.of([("primary", 20), ("replica", 60)])
    firsts = Counter(plan.order(number / 1000)[0] for number in range(1000))
    assert firsts["primary"] == pytest.approx(250, abs=1)


def test_plan__without_switches_the_primary_is_first_and_the_replica_second() -> None:
    """The default needs no draw."""
    assert Plan.of([("primary", 100), ("replica", 100)]).order(0.999) == ("primary", "replica")
