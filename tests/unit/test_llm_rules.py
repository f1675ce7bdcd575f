"""Degradation rules: when they begin to hold, what a missing or thin figure means, and how they let go."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reanimate.gateway.llm.policies.degradation.rules import Reading, State, claims_of, judge, steps_of
from reanimate.llm_policies import RULES, RuleSettings, rules_in_force
from reanimate.llm_settings import LlmSettings
from reanimate.switches.document import Claim

BY_NAME = {rule.name: rule for rule in RULES}
ERRORS = BY_NAME["errors"]

Readings = dict[str, Reading | None]


def run(rules: Sequence[RuleSettings], readings: Readings, now: float = 0.0, state: State | None = None) -> State:
    """Judge once, with the signals' readings by rule name, the same in every scope and window."""
    scopes = {rule.name: ["chat"] for rule in rules}
    return judge(rules, scopes, lambda rule, _scope, _window_s: readings.get(rule.name), now, state or {})


def held(rules: Sequence[RuleSettings], state: State) -> set[tuple[str, Any]]:
    claims = claims_of(rules, state, lambda _: True)
    return {(claim.switch, claim.value) for each in claims.values() for claim in each}


@pytest.mark.parametrize(
    ("rule", "at", "over", "claim"),
    [
        ("quota_low", 0.9, 0.91, ("llm_tier", "cheaper")),
        ("failures_in_a_row", 5, 6, ("llm_cache", "first")),
        ("slow", 30.0, 30.1, ("llm_concurrency", 5)),
        ("errors", 0.10, 0.11, ("llm_static", 100)),
    ],
)
def test_judge__the_four_rules(rule: str, at: float, over: float, claim: tuple[str, Any]) -> None:
    """Each of the four begins just above its bound, not at it, and holds what it is for."""
    assert run(RULES, {rule: Reading(at, 100)}) == {}
    assert held(RULES, run(RULES, {rule: Reading(over, 100)})) == {claim}


def test_judge__all_matching_rules_hold() -> None:
    """No rule hides another: each one that matches holds, by a cause of its own."""
    readings: Readings = {rule.name: Reading(rule.above * 2, 100) for rule in RULES}
    state = run(RULES, readings)
    assert held(RULES, state) == {
        ("llm_tier", "cheaper"),
        ("llm_cache", "first"),
        ("llm_concurrency", 5),
        ("llm_static", 100),
    }
    assert set(claims_of(RULES, state, lambda _: True)) == {f"rule {rule.name} chat" for rule in RULES}


def test_judge__one_that_lets_go_does_not_clear_another() -> None:
    """The quota is there again; the failures go on, and so does the hold for them."""
    bad: Readings = {"quota_low": Reading(1.0, 1), "failures_in_a_row": Reading(9, 9)}
    state = run(RULES, bad)
    state = run(RULES, {**bad, "quota_low": Reading(0.1, 1)}, 61.0, state)
    assert held(RULES, state) == {("llm_cache", "first")}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_judge__missing_figure_changes_nothing(rule: RuleSettings) -> None:
    """A missing figure neither begins a hold nor ends one, however long it is missing."""
    assert run(RULES, {rule.name: None}) == {}
    state = run(RULES, {rule.name: Reading(rule.above * 2, 100)})
    assert run(RULES, {rule.name: None}, 1e6, state) == state


def test_judge__too_few_samples_say_nothing() -> None:
    """One failed call of one is no error rate of 100 %."""
    assert run(RULES, {"errors": Reading(1.0, 1)}) == {}
    assert run(RULES, {"errors": Reading(1.0, ERRORS.min_samples - 1)}) == {}
    assert run(RULES, {"errors": Reading(1.0, ERRORS.min_samples)}) != {}


def test_judge__hysteresis() -> None:
    """Between the two bounds nothing changes: neither does it begin there nor does it let go."""
    between: Readings = {"errors": Reading(0.07, 100)}
    assert run(RULES, between) == {}
    state = run(RULES, {"errors": Reading(0.2, 100)})
    for now in (31.0, 100.0, 10_000.0):
        assert held(RULES, run(RULES, between, now, state)) == {("llm_static", 100)}


def test_judge__lets_go_step_by_step() -> None:
    """After the hold time it takes its steps, each watched for a while, and only then is it over."""
    state = run(RULES, {"errors": Reading(0.2, 100)})
    seen = []
    for second in range(1, 80):
        state = run(RULES, {"errors": Reading(0.0, 100)}, float(second), state)
        seen.append(next(iter(held(RULES, state)), ("", 0))[1])
    assert list(dict.fromkeys(seen)) == [100, 50, 25, 12, 0]
    assert [seen.index(share) + 1 for share in (50, 25, 12, 0)] == [30, 40, 50, 60]


def test_judge__failed_trial_holds_all_of_it_again_and_longer() -> None:
    """When the errors are back at the first step, everything is held again, each time longer, up to a bound."""
    state: State = {}
    lengths, began, full = [], 0.0, False
    for second in range(3000):
        now = float(second)
        trying = bool(state) and next(iter(state.values())).step > 0
        reading = Reading(1.0, 100) if not state or trying else Reading(0.0, 0)
        state = run(RULES, {"errors": reading}, now, state)
        was, full = full, held(RULES, state) == {("llm_static", 100)}
        if full and not was:
            began = now
        elif was and not full:
            lengths.append(now - began)
    assert lengths[:5] == [30, 60, 120, 240, 240]


def test_judge__nobody_asks_any_more() -> None:
    """Where static answers keep all calls away, or at night, time makes the steps: only a trial can tell."""
    state = run(RULES, {"errors": Reading(0.5, 100)})
    for second in range(1, 61):
        state = run(RULES, {"errors": Reading(0.0, 0)}, float(second), state)
    assert state == {}


def test_judge__each_step_is_judged_by_what_came_after_it() -> None:
    """The window that is asked for never reaches back behind the last change."""
    asked: list[float] = []

    def read(_rule: RuleSettings, _scope: str, window_s: float) -> Reading:
        asked.append(window_s)
        return Reading(0.0, 100) if asked[1:] else Reading(0.5, 100)

    state: State = {}
    for now in (0.0, 10.0, 31.0, 36.0, 300.0):
        state = judge([ERRORS], {"errors": ["chat"]}, read, now, state)
    assert asked == [60.0, 10.0, 31.0, 5.0, 60.0]


@given(
    st.lists(st.one_of(st.none(), st.builds(Reading, st.floats(0, 100), st.integers(0, 200))), min_size=1, max_size=60),
    st.sampled_from(RULES),
)
def test_judge__never_less_careful_without_cause(readings: list[Reading | None], rule: RuleSettings) -> None:
    """Whatever comes: a hold begins only on a clear signal, and no step back is taken before its time."""
    state: State = {}
    for number, reading in enumerate(readings):
        now = number * 5.0
        before = state.get((rule.name, "chat"))
        state = run([rule], {rule.name: reading}, now, state)
        after = state.get((rule.name, "chat"))
        if before is None and after is not None:
            assert reading is not None
            assert reading.value > rule.above
            assert reading.samples >= rule.min_samples
        if before is not None and (after is None or after.step > before.step):
            assert reading is not None
            assert now >= before.until
            assert reading.samples < rule.min_samples or reading.value < rule.clear_below


@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        ("quota_low", [{"llm_tier": "cheaper"}]),
        ("failures_in_a_row", [{"llm_cache": "first"}]),
        ("slow", [{"llm_concurrency": bound} for bound in (5, 10, 20, 40)]),
        ("errors", [{"llm_static": share} for share in (100, 50, 25, 12)]),
    ],
)
def test_steps__of_the_four_rules(rule: str, steps: list[dict[str, Any]]) -> None:
    """What each rule claims at each of its steps."""
    assert [dict(step) for step in steps_of(BY_NAME[rule])] == steps


def test_claims__static_only_where_there_is_a_static_answer() -> None:
    """A route without a static answer is not kept from its providers for one."""
    state = run(RULES, {"errors": Reading(0.5, 100)})
    assert claims_of(RULES, state, lambda scope: scope == "chat") == {
        "rule errors chat": [Claim("llm_static", "chat", 100)]
    }
    assert claims_of(RULES, state, lambda _: False) == {"rule errors chat": []}


def test_settings__shipped_rules_can_be_changed_and_switched_off() -> None:
    """What a rule of the same name does not say stays as shipped; further rules are added."""
    settings = LlmSettings.model_validate(
        {
            "rules": [
                {"name": "slow", "above": 10, "clear_below": 8},
                {"name": "errors", "enabled": False},
                {"name": "busy", "signal": "waiting", "above": 50, "clear_below": 5, "cache": "first"},
            ]
        }
    )
    rules = {rule.name: rule for rule in rules_in_force(settings.rules)}
    assert list(rules) == ["quota_low", "failures_in_a_row", "slow", "busy"]
    assert (rules["slow"].above, rules["slow"].concurrency) == (10, 5)
    assert rules_in_force(()) == RULES


@pytest.mark.parametrize(
    "rule",
    [
        {"name": "slow", "above": 1},
        {"name": "new", "signal": "p99_s", "above": 1, "clear_below": 0.5},
        {"name": "new", "signal": "moon", "above": 1, "clear_below": 0.5, "static": 100},
        {"name": "quota_low", "concurrency": 5},
        {"name": "errors", "static": 0},
    ],
)
def test_settings__refuses_rules_that_make_no_sense(rule: dict[str, Any]) -> None:
    """A rule that lets go before it begins, holds nothing, or knows no such signal is an error at the start."""
    with pytest.raises(ValidationError, match="rules"):
        LlmSettings.model_validate({"rules": [rule]})
