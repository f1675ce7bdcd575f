"""From what was counted to what is held: the rules at work over figures, without a gateway process."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from policy_calls import a_call

from reanimate.gateway.llm.policies.degradation.quotas import used_by_scope
from reanimate.gateway.llm.policies.degradation.signals import Signals
from reanimate.gateway.llm.policies.modes import Level
from reanimate.gateway.llm.policies.policies import Policies
from reanimate.gateway.llm.underway import Underway
from reanimate.llm_policies import RULES, RuleSettings
from reanimate.llm_settings import LlmSettings
from reanimate.switches.document import Claim


@dataclass(frozen=True)
class Counts:
    """Figures as a test wants them."""

    samples: int = 0
    failed: int = 0
    in_a_row: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    first_token_p99_ms: float | None = None


@dataclass(frozen=True)
class Window:
    """The figures of all routes."""

    routes: Mapping[str, Counts] = field(default_factory=dict)
    total: Counts = field(default_factory=Counts)


SETTINGS = LlmSettings.model_validate(
    {
        "providers": [{"name": "main", "url": "http://127.0.0.1:9/v1", "models": [{"name": "m"}]}],
        "routes": [
            {"name": "chat", "targets": ["main/m"], "static_answer": "Please come back later."},
            {"name": "other", "targets": ["main/m"]},
        ],
    }
)


class Day:
    """A gateway's policies over figures that a test sets, with a clock of its own."""

    def __init__(self, settings: LlmSettings = SETTINGS) -> None:
        self.counts = Window()
        self.quota: dict[str, float] | None = {}
        self.now = 1_790_000_000.0
        self.policies = Policies(settings, Underway(), window=lambda _: self.counts, quota_used=lambda: self.quota)
        self.policies.degradation._clock = lambda: self.now

    def after(self, seconds: float, **routes: Counts) -> "Day":
        self.now += seconds
        self.counts = Window(routes)
        self.policies.degradation.turn()
        return self

    @property
    def held(self) -> set[tuple[str, str, object]]:
        return {(claim.switch, claim.scope, claim.value) for claim in self.policies.switches.claims}


def test_turn__each_route_for_itself() -> None:
    """One route's failures hold nothing of another; the level and the causes are shown."""
    day = Day().after(1, chat=Counts(samples=100, failed=20), other=Counts(samples=100))
    assert day.held == {("llm_static", "chat", 100)}
    status = day.policies.status()
    assert status["level"] is Level.MINIMAL
    assert list(status["by_rules"]) == ["rule errors chat"]
    assert [rule["name"] for rule in status["rules"] if rule["holds"]] == ["errors"]
    assert day.policies.modes.of(a_call("chat")).static
    assert not day.policies.modes.of(a_call("other")).static


def test_turn__no_static_answer_to_give() -> None:
    """A route without a static answer goes on asking its providers, and is shown as in trouble all the same."""
    day = Day().after(1, other=Counts(samples=100, failed=90, in_a_row=9))
    assert day.held == {("llm_cache", "other", "first")}
    assert [rule["name"] for rule in day.policies.status()["rules"] if rule["holds"]] == ["failures_in_a_row", "errors"]


def test_turn__quota_by_tenant() -> None:
    """A tenant that runs low gets cheaper models; the others keep theirs. A quota that is not known changes nothing."""
    day = Day()
    day.quota = {"tenant:poor": 0.95, "tenant:rich": 0.2}
    assert day.after(1).held == {("llm_tier", "tenant:poor", "cheaper")}
    day.quota = None
    assert day.after(600).held == {("llm_tier", "tenant:poor", "cheaper")}
    day.quota = {"tenant:poor": 0.0, "tenant:rich": 0.2}
    assert day.after(1).held == set()


def test_turn__slow_then_gradually_back() -> None:
    """Five at a time, then ten, twenty, forty, and as many as come."""
    day = Day().after(1, chat=Counts(samples=50, p99_ms=31_000))
    bounds = []
    for _ in range(160):
        found = [value for switch, _, value in day.after(1, chat=Counts(samples=50, p99_ms=900)).held if switch]
        bounds.append(found[0] if found else None)
    assert list(dict.fromkeys(bounds)) == [5, 10, 20, 40, None]
    assert day.policies.modes.level is Level.NORMAL


def test_turn__own_holds_and_the_control_planes_are_apart() -> None:
    """What a person or a runbook holds stays when a rule lets go, and the other way round."""
    day = Day().after(1, chat=Counts(samples=10, failed=6, in_a_row=6))
    day.policies.switches.obey((Claim("llm_cache", "chat", "only"),))
    assert day.held == {("llm_cache", "chat", "only")}
    day.after(60, chat=Counts(samples=10, in_a_row=0))
    assert day.held == {("llm_cache", "chat", "only")}
    day.policies.switches.obey(())
    assert day.held == set()


def test_turn__begin_and_end_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A person who reads the log sees when a rule begins to hold and when it lets go, each once."""
    with caplog.at_level(logging.WARNING, "reanimate.gateway"):
        day = Day().after(1, chat=Counts(samples=10, failed=6, in_a_row=6))
        for _ in range(30):
            day.after(1, chat=Counts(samples=10))
    assert [record.getMessage() for record in caplog.records] == [
        "rule failures_in_a_row holds chat: llm_cache = first (failures_in_a_row was 6)",
        "rule failures_in_a_row lets go of chat",
    ]


def test_take__rules_switched_off_let_go() -> None:
    """A rule that is switched off in the settings lets go of what it holds."""
    day = Day().after(1, chat=Counts(samples=10, in_a_row=6))
    day.policies.take(LlmSettings(rules=[{"name": "failures_in_a_row", "enabled": False}]))  # type: ignore[list-item]
    assert day.after(1, chat=Counts(samples=10, in_a_row=6)).held == set()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_read__nothing_counted(rule: RuleSettings) -> None:
    """A gateway that nobody asked yet has no signal and holds nothing; neither is it a crash."""
    signals = Signals(lambda _: Window(), {}, {})
    assert signals.scopes(rule) == []
    reading = signals.read(rule, "chat", 60)
    assert reading is not None
    assert reading.samples == 0


def test_read__time_that_is_not_known() -> None:
    """Calls without a time (all cut short) are no proof of speed: the figure is missing."""
    slow = next(rule for rule in RULES if rule.signal == "p99_s")
    assert Signals(lambda _: Window({"chat": Counts(samples=50)}), {}, {}).read(slow, "chat", 60) is None


def test_used_by_scope__the_tightest_of_each() -> None:
    """A tenant's quota is about the tenant, a route's about the route, and one for all about all."""
    settings = LlmSettings.model_validate(
        SETTINGS.model_dump()
        | {
            "quotas": [
                {"name": "each", "per_tenant": True, "tokens": 100},
                {"name": "support", "tenant": "support", "tokens": 100, "money": 5.0},
                {"name": "route", "model": "chat", "requests": 100},
                {"name": "model", "model": "main/m", "requests": 100},
                {"name": "all", "tokens": 100},
            ]
        }
    )
    accounts = [
        {"quota": quota, "tenant": tenant, "pot": pot, "share_left": left}
        for quota, tenant, pot, left in (
            ("each", "a", "normal", 0.5),
            ("each", "support", "normal", 0.9),
            ("support", "", "normal", 0.2),
            ("support", "", "normal", 0.4),
            ("support", "", "reserve", 0.0),
            ("route", "", "normal", 0.25),
            ("model", "", "normal", 0.0),
            ("all", "", "normal", 1.0),
            ("forgotten", "", "normal", 0.0),
        )
    ]
    used = used_by_scope(accounts, settings)
    assert {scope: round(share, 2) for scope, share in used.items()} == {
        "tenant:a": 0.5, "tenant:support": 0.8, "chat": 0.75, "*": 0.0,
    }  # fmt: skip
