"""What the watch makes of a gateway's figures: who is accused, when it is believed, and when it is over."""

from typing import Any

import pytest

from reanimate.incidents.faults import Fault
from reanimate.watch.llm_judge import Accusation, State, accuse, ripen
from reanimate.watch.llm_quality import accuse_quality

Json = dict[str, Any]


def figures(**parts: Any) -> Json:
    """Return figures of a quiet day, with parts of it changed."""
    quiet: Json = {
        "health": {name: {"standing": "closed"} for name in ("main/a", "main/b", "backup/m")},
        "targets": {"main/a": {"samples": 100, "failed": 0}},
        "routes": {"chat": {"samples": 100, "failed": 0}},
        "policies": {"level": "normal", "rules": []},
        "tenants": {"t": {"calls": 100, "refused_content": 0}},
    }
    return quiet | parts


def opened(kind: str = "http_500", **fields: Any) -> Json:
    return {"standing": "open", "why": kind, "detail": "it said 500", **fields}


def test_accuse__nothing_on_a_quiet_day() -> None:
    """Neither figures of a good day nor none at all accuse anybody."""
    assert accuse(figures()) == {}
    assert accuse({}) == {}
    assert accuse_quality({}, {}, {}) == {}


def test_accuse__a_single_failed_call_is_no_fault() -> None:
    """One failure, whatever its share, accuses neither the provider nor the route nor the tenant."""
    one = figures(
        targets={"main/a": {"samples": 1, "failed": 1}},
        routes={"chat": {"samples": 1, "failed": 1}},
        tenants={"t": {"calls": 1, "refused_content": 1}},
    )
    assert accuse(one) == {}


def test_accuse__a_model_or_its_provider() -> None:
    """When only one of its models is out, that is said; when all that are asked are, it is the provider."""
    health = figures()["health"]
    found = accuse(figures(health=health | {"main/a": opened()}, targets={"main/b": {"samples": 5, "failed": 0}}))
    assert {item.subject: dict(item.labels) for item in found.values()} == {
        "llm:main/a": {"provider": "main", "model": "a", "kind": "http_500"}
    }
    found = accuse(figures(health=health | {"main/a": opened(), "main/b": opened()}, targets={}))
    assert [item.subject for item in found.values()] == ["llm:main"]
    found = accuse(figures(health=health | {"backup/m": opened()}))
    assert [(item.subject, item.fault) for item in found.values()] == [("llm:backup", Fault.LLM_API_UNAVAILABLE)]


def test_accuse__quota_at_the_provider() -> None:
    """A provider that answers that the money is used up is no outage: another runbook helps."""
    found = accuse(figures(health={"backup/m": opened("quota")}))
    assert [(item.fault, item.fingerprint) for item in found.values()] == [
        (Fault.TOKEN_QUOTA_EXHAUSTED, "watch:llm:backup:quota")
    ]


def test_accuse__being_rate_limited_for_a_moment_is_everyday() -> None:
    """A provider that asks to be left alone gets half a minute before anybody is woken."""
    limited, broken = (
        next(iter(accuse(figures(health={"backup/m": opened(kind)})).values())) for kind in ("rate_limited", "reset")
    )
    assert limited.after_s == 30
    assert broken.after_s == 2


def test_accuse__calls_that_nobody_answered() -> None:
    """A tenth of the calls, and five of them at least."""
    assert accuse(figures(routes={"chat": {"samples": 8, "failed": 4}})) == {}
    assert accuse(figures(routes={"chat": {"samples": 100, "failed": 10}})) == {}
    found = accuse(figures(routes={"chat": {"samples": 100, "failed": 11}}))
    assert [(item.subject, dict(item.labels)) for item in found.values()] == [("llm:chat", {"route": "chat"})]


@pytest.mark.parametrize(
    ("signal", "scope", "fault", "labels"),
    [
        ("error_rate", "chat", Fault.LLM_API_UNAVAILABLE, {"route": "chat"}),
        ("quota_used", "tenant:a", Fault.TOKEN_QUOTA_EXHAUSTED, {"tenant": "a", "threshold": "0.95"}),
        ("p99_s", "*", Fault.LLM_API_UNAVAILABLE, {}),
    ],
)
def test_accuse__every_rule_that_holds(signal: str, scope: str, fault: Fault, labels: dict[str, str]) -> None:
    """Degrading is alarmed, with the level, once for each rule and scope."""
    rule = {"name": "r", "signal": signal, "above": 0.9, "holds": [{"scope": scope, "worst": 0.95}]}
    found = accuse(figures(policies={"level": "degraded", "rules": [rule]}))
    assert [(item.fault, item.fingerprint) for item in found.values()] == [(fault, f"watch:llm:rule:r:{scope}")]
    assert dict(next(iter(found.values())).labels) == {"rule": "r", "signal": signal, "level": "degraded", **labels}


def test_accuse__attack_by_a_tenant() -> None:
    """A tenant half of whose calls are refused for their content is named; a few such calls are not an attack."""
    assert accuse(figures(tenants={"t": {"calls": 12, "refused_content": 9}})) == {}
    assert accuse(figures(tenants={"t": {"calls": 100, "refused_content": 40}})) == {}
    found = accuse(figures(tenants={"t": {"calls": 20, "refused_content": 15}}))
    assert [(item.fault, dict(item.labels)) for item in found.values()] == [
        (Fault.MALICIOUS_PROMPT_ATTACK, {"tenant": "t"})
    ]


def test_accuse__a_model_that_refuses_everybody_is_no_attack() -> None:
    """Stopping all tenants would be an outage made by ourselves; who is refused alone, or is the only one, attacks."""
    bad, good, few = ({"calls": 40, "refused_content": count} for count in (30, 0, 2))
    assert accuse(figures(tenants={"a": bad, "b": bad})) == {}
    assert len(accuse(figures(tenants={"a": bad, "b": bad, "c": good}))) == 2
    assert [item.subject for item in accuse(figures(tenants={"a": bad, "b": few})).values()] == ["tenant:a"]
    assert [item.subject for item in accuse(figures(tenants={"a": bad, "b": {"calls": 1}})).values()] == ["tenant:a"]


def answers(tokens: int = 100, **finishes: int) -> Json:
    total = sum(finishes.values())
    return {"targets": {"main/a": {"finishes": finishes, "tokens": {"output": tokens * total}}}}


@pytest.mark.parametrize(
    ("lately", "wrong"),
    [
        (answers(stop=100), None),
        (answers(stop=80, refusal=20), None),
        (answers(stop=79, content_filter=21), "21% refused"),
        (answers(stop=10, refusal=9), None),
        (answers(stop=85, empty=15), "15% empty"),
        (answers(stop=50, length=50), "50% cut by length"),
        (answers(tokens=20, stop=100), "20 tokens long"),
        (answers(tokens=401, stop=100), "401 tokens long"),
        (answers(tokens=30, stop=100), None),
    ],
)
def test_quality__worse_than_usual(lately: Json, wrong: str | None) -> None:
    """Refused, empty, cut, or of another length than usual; with enough answers to say so."""
    found = list(accuse_quality(lately, answers(stop=990, length=10), lately).values())
    assert [item.fault for item in found] == ([Fault.OUTPUT_QUALITY_DROP] if wrong else [])
    assert wrong is None or wrong in found[0].summary


def test_quality__what_an_attacker_is_refused_is_not_the_models() -> None:
    """Else calls of all would be kept from a model that does its duty."""
    lately = answers(stop=60, refusal=40)
    assert accuse_quality(lately, lately, lately)
    attacked = {**lately, "tenants": {"a": {"calls": 40, "refused_content": 40}, "b": {"calls": 60}}}
    assert accuse_quality(attacked, attacked, attacked) == {}


def test_quality__what_is_usual_is_no_drop() -> None:
    """A model that is always cut by length, since its callers ask for little, is not worse than usual."""
    lately = answers(stop=40, length=60)
    assert accuse_quality(lately, answers(stop=400, length=600), lately) == {}


@pytest.mark.parametrize("just_now", [{}, answers(stop=30), answers(stop=29, empty=1)])
def test_quality__a_drop_that_is_over_is_accused_no_longer(just_now: Json) -> None:
    """Five minutes remember a drop for long: nobody asked, or good answers, in the last minute end it."""
    lately = answers(stop=50, empty=50)
    assert accuse_quality(lately, answers(stop=990, empty=50), answers(stop=10, empty=10))
    assert accuse_quality(lately, answers(stop=990, empty=50), just_now) == {}


def accusation(after_s: float = 2.0, over_s: float = 5.0) -> Accusation:
    return Accusation("f", "llm:main", Fault.LLM_API_UNAVAILABLE, "s", {}, {}, after_s, over_s)


def fired(looks: list[bool], every_s: float = 0.5) -> list[bool]:
    """Look at a provider that is out (True) or not, again and again; return what is alarmed after each look."""
    state: State = {}
    seen = []
    for number, out in enumerate(looks):
        state = ripen({"f": accusation()} if out else {}, number * every_s, state)
        seen.append("f" in state and state["f"].fired)
    return seen


def test_ripen__only_what_stays_is_believed() -> None:
    """A moment's trouble is not alarmed; what lasts two seconds is."""
    assert fired([True, True, True, False, False, False, False]) == [False] * 7
    assert fired([True] * 6) == [False] * 4 + [True] * 2


def test_ripen__one_good_look_between_bad_ones_is_no_recovery() -> None:
    """A provider that flickers is out all the same, and its alarm ends only when it has been well for a while."""
    assert any(fired([True, True, False, True, True, True]))
    looks = [True] * 6 + [False] * 5 + [True] + [False] * 12
    assert fired(looks) == [False] * 4 + [True] * 17 + [False] * 3
