"""When a target, or a name on it, is not asked, and when it is again."""

from reanimate.gateway.vector.breaker import Breaker, Health, Standing


def _out(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    assert breaker.failed(now, certain=True)
    return breaker


def test_breaker__a_certain_failure_takes_it_out_at_once() -> None:
    """A refused connection leaves nothing to be waited for."""
    assert _out().standing is Standing.OUT


def test_breaker__an_uncertain_failure_is_a_suspicion_and_a_second_one_is_enough() -> None:
    """One hang may be one slow query; two in a row are the server."""
    breaker = Breaker()
    assert not breaker.failed(0.0)
    assert breaker.standing is Standing.SUSPECT
    assert breaker.failed(0.1)
    assert breaker.standing is Standing.OUT


def test_breaker__a_success_between_failures_clears_the_suspicion() -> None:
    """In a row means in a row."""
    breaker = Breaker()
    for second in range(10):
        breaker.failed(second * 5.0)
        breaker.succeeded(second * 5.0 + 1)
    assert breaker.standing is Standing.UP


def test_breaker__half_of_five_within_two_seconds_is_too_many() -> None:
    """Successes in between do not save a target that fails every other request."""
    breaker = Breaker()
    went_out = []
    for number in range(5):
        now = number * 0.2
        if number % 2 == 0:
            went_out.append(breaker.failed(now))
        else:
            breaker.succeeded(now)
    assert went_out == [False, False, True]


def test_breaker__old_failures_are_forgotten() -> None:
    """The same failures spread over more than 2 s are no reason."""
    breaker = Breaker()
    for number in range(10):
        assert not breaker.failed(number * 1.5)
        breaker.succeeded(number * 1.5 + 0.5)


def test_breaker__no_success_of_a_user_brings_back_what_is_out() -> None:
    """Only two good probes in a row do, so that no user pays for finding out."""
    breaker = _out()
    breaker.succeeded(1.0)
    assert breaker.standing is Standing.OUT
    assert not breaker.probed_well(1.0)
    breaker.failed(1.1)
    assert not breaker.probed_well(1.2)
    assert breaker.probed_well(1.3)
    assert breaker.standing is Standing.UP


def test_breaker__a_relapse_wants_twice_the_probes_and_a_good_while_forgives() -> None:
    """What flaps stays out longer each time; what stayed up for 10 s starts afresh."""
    breaker = _out()
    now = 0.0
    for wanted in (2, 4, 8):
        count = 1
        while not breaker.probed_well(now):
            count += 1
        assert count == wanted
        now += 1.0
        breaker.failed(now, certain=True)
    while not breaker.probed_well(now):
        pass
    breaker.failed(now + 60, certain=True)
    assert not breaker.probed_well(now + 60)
    assert breaker.probed_well(now + 60)


def test_breaker__a_suspicion_ends_with_one_good_probe_and_two_failures_confirm_it() -> None:
    """A user's hang makes others be preferred until the next probe, which may be the second failure."""
    breaker = Breaker()
    breaker.suspect()
    assert breaker.standing is Standing.SUSPECT
    breaker.probed_well(0.1)
    assert breaker.standing is Standing.UP
    breaker.suspect()
    assert breaker.failed(0.2)


def test_health__a_broken_collection_does_not_take_the_server_out() -> None:
    """Writes to other collections go on while one is passed over."""
    health = Health()
    health.name_failed("bad", 0.0)
    health.name_failed("bad", 0.1)
    assert health.standing("bad") is Standing.OUT
    assert health.standing("good") is Standing.UP
    assert not health.is_out
    assert health.is_troubled


def test_health__names_that_were_served_and_are_not_listed_count_as_missing() -> None:
    """A server that comes back empty is up, and yet no choice for what it has lost."""
    health = Health()
    health.answered("kb", 0.0)
    health.answered("other", 0.0)
    assert health.compare(["other", "new"], None) == ({"kb"}, set())
    assert health.standing("kb") is Standing.MISSING
    assert health.standing("other") is Standing.UP
    assert health.standing(None) is Standing.UP
    assert health.compare([], {"kb", "other"}) == ({"other"}, set())
    assert health.standing(None) is Standing.MISSING, "nothing is left of what it had, so its list is worth nothing"
    assert health.compare(["kb", "other"], None) == (set(), {"kb", "other"})
    assert not health.is_troubled


def test_health__what_nobody_has_any_more_is_forgotten() -> None:
    """A collection that was deleted everywhere is gone: it is neither looked for nor protected for ever."""
    health = Health()
    health.answered("old", 0.0)
    health.answered("kb", 0.0)
    health.lost("older")
    assert health.compare([], {"kb"}) == ({"kb"}, set())
    assert health.missing == {"kb"}
    assert set(health.served) == {"kb"}


def test_health__out_is_worse_than_suspect_for_every_name() -> None:
    """The whole server's standing holds for each name."""
    health = Health()
    health.whole.failed(0.0, certain=True)
    assert health.standing("kb") is Standing.OUT
    assert health.is_out
