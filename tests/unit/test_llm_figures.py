"""What the LLM plane counts: by second, route, target and tenant; quantiles; failures in a row; what windows say."""

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_answers_by_hand import route_of
from llm_calls import call_of

from reanimate.gateway.llm.accounts.account import is_unanswered
from reanimate.gateway.llm.accounts.buckets import Bucket, Names
from reanimate.gateway.llm.accounts.figures import Figures
from reanimate.gateway.llm.accounts.spread import Spread, bin_of
from reanimate.gateway.llm.call import Attempt, Call, Ending, Tenant, Usage
from reanimate.gateway.llm.failures import Failure, Help, Rejected

START = 1_800_000_000.0
DOWN = Failure("http_500", Help.RETRY, "500", 500)
BAD_REQUEST = Failure("bad_request", Help.NONE, "400", 400, counts=False)
CATALOGUE = route_of()


class Rig:
    """Figures whose clock is set by hand."""

    def __init__(self) -> None:
        self.now = START
        self.figures = Figures(lambda: self.now)

    def end(
        self,
        ending: Ending = Ending.ANSWERED,
        *,
        took: float = 0.1,
        failures: dict[str, Failure] | None = None,
        by: str | None = "main/large",
        error: Rejected | None = None,
        tenant: str = "t",
        cache: str = "off",
        **attempt: Any,
    ) -> Call:
        """Count a call that took so long, with attempts that failed and one that answered."""
        call = call_of({"model": "chat"}, catalogue=CATALOGUE)
        call.tenant = Tenant(tenant, tenant)
        call.began, call.ending, call.error, call.cache = 1.0, ending, error, cache
        for name, failure in (failures or {}).items():
            call.attempts.append(Attempt(CATALOGUE.targets[name], None, 1.0, ended=1.02, failure=failure))
        if by is not None:
            attempt = {"served": True, "usage": Usage(10, 20), "first_token_at": 1.05, **attempt}
            began = 1.02 if failures else 1.0
            call.attempts.append(Attempt(CATALOGUE.targets[by], None, began, ended=1 + took, **attempt))
        self.figures.ended(call, 1.0 + took)
        return call

    def since(self, seconds: float) -> dict[str, Any]:
        return self.figures.since(datetime.fromtimestamp(self.now, UTC) - timedelta(seconds=seconds))


@pytest.fixture
def rig() -> Rig:
    return Rig()


ALL_FAILED = Rejected(502, "all_failed", "nobody answered")


def test_figures__what_a_call_adds(rig: Rig) -> None:
    """A call that failed over: its attempts, its tokens, who answered, how long it took."""
    rig.end(Ending.DEGRADED, failures={"main/large": DOWN}, by="spare/small", purpose="next")
    found = rig.since(10)
    assert found["calls"] == {"asked": 1, "degraded": 1}
    assert (found["samples"], found["failed"], found["error_rate"]) == (1, 0, 0.0)
    assert found["targets"]["main/large"]["attempts"] == {"http_500": 1}
    assert found["targets"]["main/large"]["error_rate"] == 1
    assert found["targets"]["spare/small"]["attempts"] == {"answered": 1}
    assert found["targets"]["spare/small"]["tokens"] == {"input": 10, "output": 20}
    assert found["routes"]["chat"]["again"] == {"next": 1}
    assert found["tokens"] == 30
    assert found["p99_ms"] == pytest.approx(100, rel=0.05)
    assert found["first_token_p99_ms"] == pytest.approx(50, rel=0.05)


def test_figures__a_window_moves(rig: Rig) -> None:
    """Each second has its own counts; an hour later they are gone, but not from those since the start."""
    rig.end()
    rig.now += 30
    rig.end(Ending.FAILED, by=None, failures={"main/large": DOWN}, error=ALL_FAILED)
    assert (rig.figures.window(10).total.samples, rig.figures.window(10).total.failed) == (1, 1)
    assert (rig.figures.window(31).total.samples, rig.figures.window(30).total.samples) == (2, 1)
    for _ in range(1_000):
        rig.now += 5
        rig.end()
    assert rig.since(4_000)["calls"]["asked"] in range(719, 723)  # an hour, to the ten seconds
    assert rig.since(60)["calls"]["asked"] == 13
    assert sum(count for key, count in rig.figures.counts().items() if key[0] == "calls") == 1_002


def test_figures__what_is_kept_instead_of_answers_is_no_health(rig: Rig) -> None:
    """A call with a static answer had nobody who answered: a rule that gives static answers must not heal itself."""
    call = rig.end(Ending.DEGRADED, by=None, failures={"main/large": DOWN}, error=ALL_FAILED, cache="static")
    assert is_unanswered(call)
    rig.end(Ending.DEGRADED, by=None, error=Rejected(503, "held", "held"), cache="static")
    rig.end(Ending.FAILED, by=None, error=Rejected(503, "not_cached", "only what is kept"))
    found = rig.since(10)
    # Of the others nobody was to be asked: they say nothing, or the rule that holds them would never let go.
    assert (found["samples"], found["failed"], found["calls"]["degraded"]) == (1, 1, 2)
    assert found["cache_results"] == {"static": 2, "off": 1}


def test_figures__who_was_refused_or_left_says_nothing_of_providers(rig: Rig) -> None:
    rig.end(Ending.REJECTED, by=None, error=Rejected(429, "quota_exhausted", "no"))
    rig.end(Ending.ABANDONED, served=False)
    rig.end(by=None, cache="hit")
    found = rig.since(10)
    assert (found["calls"]["asked"], found["samples"]) == (3, 0)
    assert found["routes"]["chat"]["errors"] == {"quota_exhausted": 1}


def test_figures__failures_in_a_row(rig: Rig) -> None:
    """Counted until the next success, however long that takes; what is the caller's own fault is none."""
    for _ in range(3):
        rig.end(Ending.FAILED, by=None, failures={"main/large": DOWN}, error=ALL_FAILED)
        rig.now += 4_000
    assert rig.figures.window(10).total.in_a_row == 3
    assert rig.figures.in_a_row("route", "chat") == 3
    rig.end(Ending.REJECTED, by=None, failures={"main/large": BAD_REQUEST}, error=Rejected(400, "bad_request", "no"))
    rig.end(by="spare/small")
    assert (rig.figures.in_a_row("route", "*"), rig.figures.in_a_row("target", "main/large")) == (0, 3)
    rig.end()
    assert rig.figures.in_a_row("target", "main/large") == 0


def test_figures__a_lost_race_is_no_failure_and_its_cost_is_told(rig: Rig) -> None:
    """A hedge: the slower one was cancelled, and what it cost was not for the caller."""
    catalogue = route_of()
    call = call_of({"model": "chat"}, catalogue=catalogue)
    call.began, call.ending = 1.0, Ending.ANSWERED
    call.attempts += [
        Attempt(catalogue.targets["main/large"], None, 1.0, ended=1.2, lost_race=True, usage=Usage(5, 0)),
        Attempt(catalogue.targets["spare/small"], None, 1.1, "hedge", ended=1.2, served=True, usage=Usage(5, 5)),
    ]
    rig.figures.ended(call, 1.2)
    found = rig.since(10)
    assert found["targets"]["main/large"]["attempts"] == {"lost": 1}
    assert found["targets"]["main/large"]["samples"] == 0
    assert found["routes"]["chat"]["again"] == {"hedge": 1, "hedge_won": 1}
    assert found["tokens"] == 15


def test_figures__how_answers_ended(rig: Rig) -> None:
    """For whom watches over the quality of what a model says."""
    for finish in ("stop", "stop", "length", "empty"):
        rig.end(finish=finish)
    assert rig.since(10)["targets"]["main/large"]["finishes"] == {"stop": 2, "length": 1, "empty": 1}


def test_figures__names_of_tenants_are_bounded(rig: Rig) -> None:
    """A caller who makes up a name for each call fills no memory."""
    for number in range(1_000):
        rig.end(tenant=f"t{number}")
    tenants = rig.since(10)["tenants"]
    assert len(tenants) == 201
    assert tenants["(others)"]["calls"] == 800


@given(st.lists(st.floats(0.0001, 1_000), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_spread__quantiles_are_at_most_one_bin_off(seconds: list[float], share: float) -> None:
    counts: dict[int, int] = {}
    for each in seconds:
        counts[bin_of(each)] = counts.get(bin_of(each), 0) + 1
    found = Spread(counts).quantile_ms(share)
    exact = sorted(seconds)[max(0, -(-len(seconds) * int(share * 100) // 100) - 1)] * 1_000
    assert found == pytest.approx(exact, rel=0.05, abs=0.001)


def test_spread__of_nothing() -> None:
    assert Spread({}).quantile_ms(0.5) is None


_COUNTS = st.dictionaries(st.tuples(st.sampled_from("abc"), st.text(max_size=3)), st.integers(1, 10**9), max_size=50)


@given(st.lists(_COUNTS, max_size=5))
def test_buckets__packed_they_are_the_same(several: list[dict[tuple[str, str], float]]) -> None:
    names, plain, through = Names(), Bucket(0), Bucket(0)
    for second, counts in enumerate(several):
        bucket = Bucket(second)
        bucket.add({**counts})
        plain.add({**counts})
        names.unpack(names.pack(bucket), through)
    assert through.counts == plain.counts


def test_buckets__an_hour_of_seconds_takes_little_memory() -> None:
    """What is kept of a second with a hundred keys takes 12 bytes for each of them."""
    names = Names()
    bucket = Bucket(1)
    bucket.add({("took", "chat", number): 1.0 for number in range(100)})
    packed = names.pack(bucket)
    assert sys.getsizeof(packed.numbers) + sys.getsizeof(packed.counts) < 1_500 < sys.getsizeof(bucket.counts)
