"""From what was counted to what is held: the rules at work over figures, without a gateway process."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from policy_calls import a_call

from reanimate.gateway.llm.policies.degradation.kept import KeptHolds, outline
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

    def __init__(self, settings: LlmSettings = SETTINGS, *, file: Path | None = None, now: float | None = None) -> None:
        self.counts = Window()
        self.quota: dict[str, float] | None = {}
        self.now = time.time() if now is None else now
        self.file = KeptHolds(file) if file is not None else None
        self.policies = Policies(
            settings, Underway(), window=lambda _: self.counts, quota_used=lambda: self.quota, kept=self.file
        )
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


BAD = {"chat": Counts(samples=100, failed=20)}


def held_and_kept(file: Path) -> Day:
    """A day on which a rule holds, at its second step back, when the gateway dies."""
    day = Day(file=file).after(1, **BAD)
    day.after(31).after(1)
    assert day.held == {("llm_static", "chat", 50)}
    assert day.file is not None
    day.file.write(day.policies.degradation._state)
    return day


def test_kept__holds_from_the_beginning_and_goes_on_step_by_step(tmp_path: Path) -> None:
    """A gateway that is started anew holds what it held, before anything was judged, and lets go as it would have."""
    died = held_and_kept(tmp_path / "rules.json")
    again = Day(file=tmp_path / "rules.json", now=died.now)
    assert again.held == {("llm_static", "chat", 50)}
    assert again.policies.modes.level is not Level.NORMAL
    assert again.after(5).held == {("llm_static", "chat", 50)}, "its step is not over"
    seen = [sorted(value for _, _, value in again.after(11).held) for _ in range(3)]
    assert seen == [[25], [12], []]


def test_kept__bad_again_holds_all_of_it_for_longer(tmp_path: Path) -> None:
    """The trial goes wrong: how often it has is remembered too."""
    died = held_and_kept(tmp_path / "rules.json")
    again = Day(file=tmp_path / "rules.json", now=died.now).after(2, **BAD)
    assert again.held == {("llm_static", "chat", 100)}
    assert again.after(59).held == {("llm_static", "chat", 100)}
    assert again.policies.degradation._state["errors", "chat"].times == 2


def test_kept__a_long_absence_is_no_recovery(tmp_path: Path) -> None:
    """Nobody has judged meanwhile: it goes back by one step, not by all of them."""
    died = held_and_kept(tmp_path / "rules.json")
    again = Day(file=tmp_path / "rules.json", now=died.now + 86_400)
    assert again.held == {("llm_static", "chat", 50)}
    assert again.after(1).held == {("llm_static", "chat", 25)}


def test_kept__clock_set_back_holds_no_longer_than_a_rule_may(tmp_path: Path) -> None:
    died = held_and_kept(tmp_path / "rules.json")
    rule = next(rule for rule in RULES if rule.name == "errors")
    now = died.now - 86_400
    (held,) = KeptHolds(tmp_path / "rules.json").read(RULES, now).values()
    assert (held.since, held.changed_at, held.until) == (now, now, now + 8 * rule.hold_s)


def test_kept__rules_that_are_gone_hold_nothing(tmp_path: Path) -> None:
    """Settings may have changed: a rule that is off holds nothing, one with fewer steps holds its last one."""
    held_and_kept(tmp_path / "rules.json")
    rules = tuple(rule.model_copy(update={"enabled": False}) for rule in RULES)
    assert Day(SETTINGS.model_copy(update={"rules": rules}), file=tmp_path / "rules.json").held == set()
    short = tuple(rule.model_copy(update={"static": 10}) for rule in RULES if rule.name == "errors")
    day = Day(SETTINGS.model_copy(update={"rules": short}), file=tmp_path / "rules.json")
    assert day.held == {("llm_static", "chat", 10)}


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"{", b"[]", b"\x00" * 64, b'{"held": 5}', b'{"held": [{}]}', b'{"held": [5]}',
        b'{"held": [{"rule": "errors", "scope": 1}]}',
        b'{"held": [{"rule": "errors", "scope": "chat", "since": "x", "changed_at": 1, "until": 1, "value": 1, '
        b'"step": 0, "times": 1}]}',
        b'{"held": [{"rule": "errors", "scope": "chat", "since": 1, "changed_at": 1, "until": 1, "value": 1, '
        b'"step": -1, "times": 1}]}',
    ],
)  # fmt: skip
def test_kept__damaged_is_told_and_begins_anew(tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be read is no reason not to start: the rules find out by themselves."""
    (tmp_path / "rules.json").write_bytes(damage)
    day = Day(file=tmp_path / "rules.json")
    assert day.held == set()
    assert "begin anew" in caplog.text
    assert day.after(1, **BAD).held == {("llm_static", "chat", 100)}


def test_kept__a_full_disk_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    KeptHolds(tmp_path / "file" / "rules.json").write({})
    assert "a restart will forget" in caplog.text


def test_kept__only_what_matters_is_written(tmp_path: Path) -> None:
    """That the signal gets worse is no reason to write; a step is."""
    day = Day(file=tmp_path / "rules.json").after(1, **BAD)
    first = outline(day.policies.degradation._state)
    day.after(1, chat=Counts(samples=100, failed=50))
    assert outline(day.policies.degradation._state) == first
    assert outline(day.after(40).policies.degradation._state) != first
