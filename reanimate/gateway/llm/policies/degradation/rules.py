"""When rules hold switches, and how they let go again: step by step, on trial, and longer after each failed one. Pure.

A rule begins when its signal is above its bound, with enough calls to say so. It holds for `hold_s` at least. Then it
takes one step back each `step_s`: a bound on concurrency is doubled, half as many calls get the static answer. Each
step is judged only by what came after it. When the signal is above the bound again, all of it is held again, for twice
as long. Where hardly anybody asks, or where what is held keeps calls away from the providers, there is nothing to judge
by: then time alone makes the steps, since only a trial can tell. A figure that is missing changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from reanimate.llm_policies import RuleSettings
from reanimate.switches.document import Claim

__all__ = ["LONGEST_HOLD", "Holding", "Reading", "State", "claims_of", "judge", "steps_of"]

LONGEST_HOLD = 8
"""Times `hold_s`."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A signal, and from how many calls it comes."""

    value: float
    samples: int


@dataclass(frozen=True, slots=True)
class Holding:
    """A rule that holds, for one scope. Times are seconds of one clock."""

    since: float
    changed_at: float
    """When it began, or took its last step: only what came after it counts."""
    until: float
    """When the next step may be taken."""
    value: float
    """The worst that was seen."""
    step: int = 0
    times: int = 1
    """How often it has come to hold all of it since it began."""


State = Mapping[tuple[str, str], Holding]
"""(rule, scope) → that it holds there."""

Read = Callable[[RuleSettings, str, float], Reading | None]
"""A rule's signal in a scope over the last so many seconds; None when the figure is missing."""


def judge(
    rules: Sequence[RuleSettings], scopes: Mapping[str, Sequence[str]], read: Read, now: float, state: State
) -> State:
    """Return what holds at `now`, given what held before. `scopes` has, for each rule, what it is judged for."""
    after: dict[tuple[str, str], Holding] = {}
    for rule in rules:
        held = [scope for name, scope in state if name == rule.name]
        for scope in dict.fromkeys([*scopes.get(rule.name, ()), *held]):
            holding = state.get((rule.name, scope))
            found = _begin(rule, scope, read, now) if holding is None else _go_on(rule, scope, read, now, holding)
            if found is not None:
                after[rule.name, scope] = found
    return after


def _begin(rule: RuleSettings, scope: str, read: Read, now: float) -> Holding | None:
    reading = read(rule, scope, rule.window_s)
    if reading is None or reading.samples < rule.min_samples or reading.value <= rule.above:
        return None
    return Holding(since=now, changed_at=now, until=now + rule.hold_s, value=reading.value)


def _go_on(rule: RuleSettings, scope: str, read: Read, now: float, holding: Holding) -> Holding | None:
    reading = read(rule, scope, min(rule.window_s, max(1.0, now - holding.changed_at)))
    if reading is None:
        return holding
    known = reading.samples >= rule.min_samples
    if known and reading.value > holding.value:
        holding = replace(holding, value=reading.value)
    if known and reading.value > rule.above and holding.step > 0:
        longer = min(2**holding.times, LONGEST_HOLD) * rule.hold_s
        return replace(holding, step=0, changed_at=now, until=now + longer, times=holding.times + 1)
    if now < holding.until or (known and reading.value >= rule.clear_below):
        return holding
    if holding.step + 1 >= len(steps_of(rule)):
        return None
    return replace(holding, step=holding.step + 1, changed_at=now, until=now + rule.step_s)


def steps_of(rule: RuleSettings) -> list[tuple[tuple[str, int | str], ...]]:
    """Return what a rule claims at each step, as (switch, value); after the last one it claims nothing."""
    concurrency, static, cache = rule.concurrency, rule.static, rule.cache
    found: list[tuple[tuple[str, int | str], ...]] = []
    while concurrency or static or cache or (rule.tier and not found):
        claims: list[tuple[str, int | str]] = []
        if rule.tier:
            claims.append(("llm_tier", rule.tier))
        if cache:
            claims.append(("llm_cache", cache))
        if concurrency:
            claims.append(("llm_concurrency", concurrency))
        if static:
            claims.append(("llm_static", static))
        found.append(tuple(claims))
        cache = "first" if cache == "only" else None
        concurrency = concurrency * 2 if concurrency and concurrency * 2 <= 8 * (rule.concurrency or 1) else None
        static = static // 2 if static and static > 20 else None
    return found


def claims_of(
    rules: Sequence[RuleSettings], state: State, can_be_static: Callable[[str], bool]
) -> dict[str, list[Claim]]:
    """Return what each rule that holds claims, by a cause of its own for each scope.

    Calls of a scope that has no static answer are not kept from the providers for one: that would answer nobody.
    """
    by_name = {rule.name: rule for rule in rules}
    found: dict[str, list[Claim]] = {}
    for (name, scope), holding in state.items():
        rule = by_name[name]
        found[f"rule {name} {scope}"] = [
            Claim(switch, scope, value)
            for switch, value in steps_of(rule)[holding.step]
            if switch != "llm_static" or can_be_static(scope)
        ]
    return found
