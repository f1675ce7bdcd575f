"""When a provider's model is not asked with a key, and how it comes back."""

import time

import pytest

from reanimate.gateway.llm.failover.breaker import RAMP, Breaker, Standing


def _opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    assert breaker.failed(now, now, certain=True)
    return breaker


def _bring_back(breaker: Breaker, now: float) -> float:
    """Give good probes every 0.25 s until it is closed; return when it was."""
    for _ in range(10_000):
        breaker.probed_well(now)
        if breaker.standing is Standing.CLOSED:
            return now
        now += 0.25
    raise AssertionError("it never came back")


def test_breaker__a_certain_failure_opens_it_at_once() -> None:
    """Where nobody listens there is nothing to wait for."""
    breaker = _opened()
    assert breaker.standing is Standing.OPEN
    assert not breaker.admits()


def test_breaker__a_lone_failure_changes_nothing_two_are_a_suspicion_three_open_it() -> None:
    """One 5xx happens; a second one in a row makes others come first, a third one leaves it out."""
    breaker = Breaker()
    assert not breaker.failed(0.1, 0.0)
    assert breaker.standing is Standing.CLOSED
    assert breaker.failed(0.2, 0.1)
    assert breaker.standing is Standing.SUSPECT
    assert breaker.admits()
    assert breaker.failed(0.3, 0.2)
    assert breaker.standing is Standing.OPEN


def test_breaker__in_a_row_means_in_a_row() -> None:
    """A success between failures clears the suspicion."""
    breaker = Breaker()
    for second in range(0, 300, 30):
        breaker.failed(second, second)
        breaker.failed(second + 0.1, second)
        assert breaker.standing is Standing.SUSPECT
        assert breaker.succeeded(second + 1)
        assert breaker.standing is Standing.CLOSED


def test_breaker__half_of_ten_within_ten_seconds_opens_it() -> None:
    """Who fails every other call never fails three times in a row."""
    breaker = Breaker()
    opened = []
    for number in range(10):
        now = number * 0.5
        if number % 2 == 0:
            opened.append(breaker.failed(now, now))
        else:
            breaker.succeeded(now)
    assert opened == [False] * 5
    assert breaker.failed(5.0, 5.0)
    assert breaker.standing is Standing.OPEN


def test_breaker__too_few_samples_say_nothing_of_a_rate() -> None:
    """The same share of failures among nine calls, or spread over minutes, is no reason."""
    few, spread = Breaker(), Breaker()
    for number in range(9):
        (few.failed if number % 2 == 0 else few.succeeded)(number * 0.1, *([0.0] if number % 2 == 0 else []))
    for number in range(60):
        now = number * 3.0
        (spread.failed if number % 2 == 0 else spread.succeeded)(now, *([now] if number % 2 == 0 else []))
    assert few.standing is Standing.CLOSED
    assert spread.standing is Standing.CLOSED


def test_breaker__late_calls_put_it_under_suspicion_and_never_open_it() -> None:
    """Many calls may be late at the same moment for one reason that passes; a sign of life clears it."""
    breaker = Breaker()
    assert not breaker.was_late(0.05, 0.0)
    assert breaker.was_late(0.05, 0.0)
    for number in range(200):
        assert not breaker.was_late(0.06 + number, number)
    assert breaker.standing is Standing.SUSPECT
    assert breaker.admits()
    assert breaker.heard()
    assert breaker.standing is Standing.CLOSED


def test_breaker__slow_calls_count() -> None:
    """Who answers, but late, more often than not, is suspected though no two late calls are in a row."""
    breaker = Breaker()
    for number in range(10):
        now = number * 0.5
        if breaker.was_late(now + 0.1, now):
            break
        breaker.succeeded(now + 0.4)
    assert breaker.standing is Standing.SUSPECT


def test_breaker__late_calls_alone_do_not_make_a_failure_fatal() -> None:
    """A lone reset in a busy moment is a lone reset."""
    breaker = Breaker()
    for _ in range(20):
        breaker.was_late(0.1, 0.0)
    breaker.failed(0.2, 0.1)
    assert breaker.standing is Standing.SUSPECT


def test_breaker__late_calls_on_the_way_back_begin_it_anew() -> None:
    """Not yet well, but not out either."""
    breaker = _opened()
    breaker.probed_well(1.0)
    breaker.probed_well(1.3)
    breaker.probed_well(1.31)
    assert breaker.share == RAMP[1]
    breaker.was_late(1.5, 1.4)
    breaker.was_late(1.5, 1.4)
    assert (breaker.standing, breaker.share) == (Standing.RAMPING, RAMP[0])


def test_breaker__no_users_call_brings_back_what_is_open() -> None:
    """An answer to what was asked before it opened says nothing."""
    breaker = _opened()
    assert not breaker.succeeded(1.0)
    assert breaker.standing is Standing.OPEN


def test_breaker__comes_back_in_steps() -> None:
    """Five calls of a hundred, then twenty-five, fifty, all; each step wants time and good answers."""
    breaker = _opened()
    assert breaker.probed_well(1.0)
    shares = []
    now = 1.0
    while breaker.standing is Standing.RAMPING:
        admitted = sum(breaker.admits() for _ in range(100))
        shares.append((breaker.share, admitted))
        now += 0.26
        breaker.probed_well(now)
        breaker.probed_well(now)
    assert [share for share, _ in shares] == list(RAMP)
    assert all(abs(admitted - share * 100) <= 1 for share, admitted in shares)
    assert breaker.standing is Standing.CLOSED
    assert now - 1.0 < 1.0


def test_breaker__the_first_call_after_the_probe_is_among_those_that_go_there() -> None:
    """So that a route with few calls is back as soon as a busy one."""
    breaker = _opened()
    breaker.probed_well(1.0)
    assert breaker.admits()
    assert not any(breaker.admits() for _ in range(18))


def test_breaker__a_failure_on_the_way_back_opens_it_again() -> None:
    """Five calls of a hundred are enough to see that it is not well."""
    breaker = _opened()
    breaker.probed_well(1.0)
    assert breaker.failed(1.2, 1.1)
    assert breaker.standing is Standing.OPEN


def test_breaker__what_was_asked_before_it_came_back_says_nothing() -> None:
    """A probe that has hung since the outage fails after the outage."""
    breaker = _opened()
    breaker.probed_well(1.0)
    assert not breaker.failed(1.2, 0.3)
    assert not breaker.was_late(1.2, 0.3)
    assert breaker.standing is Standing.RAMPING


def _returns(breaker: Breaker, count: int) -> list[float]:
    """Have it come back and fall again a second later; return how long it took from the first call to all of them."""
    now, took = 0.0, []
    for _ in range(count):
        began = now
        while breaker.standing is Standing.OPEN:
            breaker.probed_well(now)
            assert now - began <= 0.5, "the first call goes there as soon as probes are good, whatever was before"
            now += 0.25
        back = _bring_back(breaker, now)
        took.append(back - now + 0.25)
        now = back + 1.0
        breaker.failed(now, now, certain=True)
    return took


def test_breaker__a_relapse_makes_the_next_return_slower_up_to_a_bound() -> None:
    """Hysteresis: who flaps is trusted less each time. All calls come back within 12 s, or what is set."""
    # The first time it would be 0.75 s if calls came beside the probes: each step wants two good answers.
    assert _returns(_opened(), 8) == [1.5, 1.5, 3.0, 6.0, 12.0, 12.0, 12.0, 12.0]
    breaker = _opened()
    breaker.return_max_s = 3.0
    assert _returns(breaker, 5) == [1.5, 1.5, 3.0, 3.0, 3.0]


def test_breaker__a_good_while_forgives() -> None:
    breaker = _opened()
    took = _returns(breaker, 3)
    now = _bring_back(breaker, 100.0) + 60.0
    breaker.failed(now, now, certain=True)
    assert _bring_back(breaker, now) - now == pytest.approx(took[0])


def test_breaker__who_asks_for_a_pause_is_left_alone_that_long() -> None:
    """Also when it asks again, for longer."""
    breaker = Breaker()
    assert breaker.hold(10.0, 12.0)
    assert breaker.standing is Standing.OPEN
    assert breaker.probe_at == 12.0
    assert not breaker.hold(11.0, 20.0)
    assert breaker.probe_at == 20.0


def test_breaker__costs_next_to_nothing() -> None:
    """Half a microsecond for a call: may it go there, and it went well. The best of several rounds is what it costs."""
    breaker = Breaker()
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(10_000):
            if breaker.standing is Standing.CLOSED and breaker.troubled:
                breaker.succeeded(0.0)
        best = min(best, time.perf_counter() - began)
    assert best / 10_000 < 0.5e-6
    breaker.failed(0.0, 0.0)
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(1000):
            breaker.admits()
            breaker.succeeded(0.0)
        best = min(best, time.perf_counter() - began)
        breaker = Breaker()
        breaker.failed(0.0, 0.0)
    assert best / 1000 < 2e-6
