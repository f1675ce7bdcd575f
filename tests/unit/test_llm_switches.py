"""The switches of the LLM plane: how claims combine, which values they take, and how calls are answered by them."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_calls import a_call

from reanimate.errors import InputInvalid
from reanimate.gateway.llm.policies.modes import Level, Mode, Modes
from reanimate.gateway.llm.policies.switches import LlmSwitches
from reanimate.switches.document import Claim, effective
from reanimate.switches.kinds import KINDS

VALUES: dict[str, list[Any]] = {
    "read_share": [0, 50, 100],
    "writes": ["allow", "hold"],
    "llm_prefer": ["main", "backup"],
    "llm_avoid": ["avoid", "never"],
    "llm_share": [0, 10, 100],
    "llm_cache": ["normal", "first", "only"],
    "llm_tier": ["normal", "cheaper"],
    "llm_static": [1, 50, 100],
    "llm_concurrency": [1, 5, 50],
    "llm_kill": ["kill"],
    "llm_rate": [0, 6, 600],
}
CAREFUL: dict[str, list[Any]] = {
    name: values[::-1] if name in ("read_share", "llm_share", "llm_concurrency", "llm_rate") else values
    for name, values in VALUES.items()
    if name != "llm_prefer"
}
"""The values of each switch, the most careful one last."""


def test_switches__every_one_is_tested() -> None:
    """A new switch belongs into the tables above."""
    assert VALUES.keys() == KINDS.keys()


@given(st.data(), st.sampled_from(sorted(CAREFUL)))
def test_effective__the_most_careful_claim_wins(data: st.DataObject, switch: str) -> None:
    """Whatever the order of the claims, the most careful value holds: lifting another never makes it less careful."""
    values = data.draw(st.lists(st.sampled_from(CAREFUL[switch]), min_size=1))
    worst = max(values, key=CAREFUL[switch].index)
    assert effective(Claim(switch, "*", value) for value in values) == [Claim(switch, "*", worst)]


def test_effective__the_latest_preference_wins() -> None:
    """No preference is more careful than another: the latest one holds."""
    claims = [Claim("llm_prefer", "*", name) for name in ("main", "backup")]
    assert effective(claims) == [Claim("llm_prefer", "*", "backup")]


@pytest.mark.parametrize(
    ("switch", "scope", "value"),
    [
        ("llm_kill", "chat", "kill"),
        ("llm_kill", "tool:", "kill"),
        ("llm_kill", "*", "on"),
        ("llm_rate", "tenant:x", -1),
        ("llm_rate", "*", 1.5),
        ("llm_rate", "*", True),
        ("llm_concurrency", "*", 0),
        ("llm_cache", "*", "second"),
        ("llm_static", "*", 0),
        ("llm_static", "*", "off"),
        ("llm_share", "main", 101),
        ("llm_avoid", "main", None),
        ("llm_prefer", "*", ""),
        ("llm_tier", "", "cheaper"),
        ("read_share", "primary", "many"),
    ],
)
def test_effective__refuses_what_a_switch_does_not_take(switch: str, scope: str, value: Any) -> None:
    """A value or scope that no gateway could obey is an error where it is claimed."""
    with pytest.raises(InputInvalid, match=switch):
        effective([Claim(switch, scope, value)])


def test_effective__static_on_is_all_calls() -> None:
    """`on` is kept as the share that it means, so that it combines with others."""
    assert effective([Claim("llm_static", "*", 30), Claim("llm_static", "*", "on")])[0].value == 100


def modes(*claims: tuple[str, str, Any]) -> Modes:
    made = Modes()
    made.obey(effective(Claim(*claim) for claim in claims))
    return made


def asked(made: Modes, route: str = "chat", tenant: str = "t") -> list[str]:
    call = a_call(route, tenant)
    return [choice.target.name for choice in made.order(call, call.route.targets)]


def test_of__a_good_day() -> None:
    """Without claims, calls are answered as the settings say."""
    assert modes().of(a_call()) == Mode()
    assert asked(modes()) == ["main/large", "backup/large"]
    assert modes().level is Level.NORMAL


def test_of__the_most_careful_of_all_scopes() -> None:
    """What is claimed for all, for the route and for the tenant comes together; other routes and tenants are free."""
    made = modes(
        ("llm_cache", "*", "first"),
        ("llm_cache", "chat", "only"),
        ("llm_tier", "tenant:t", "cheaper"),
        ("llm_concurrency", "chat", 5),
    )
    mode = made.of(a_call("chat", "t"))
    assert (mode.cache, mode.tier, mode.concurrency, mode.level) == ("only", "cheaper", 5, Level.MINIMAL)
    assert mode.reasons == ("cheaper model", "cache only", "concurrency 5")
    mode = made.of(a_call("other", "u"))
    assert (mode.cache, mode.tier, mode.concurrency, mode.level) == ("first", "normal", None, Level.DEGRADED)


@pytest.mark.parametrize("share", [1, 20, 50, 100])
def test_of__static_share_is_kept_exactly(share: int) -> None:
    """Of 100 calls, as many as the switch says get a static answer."""
    made = modes(("llm_static", "*", share))
    found = Counter(made.of(a_call()).static for _ in range(100))
    assert found[True] == share
    assert made.level is (Level.MINIMAL if share == 100 else Level.DEGRADED)


def test_order__cheaper_first() -> None:
    """The cheaper models come first, and what they cannot answer goes where it went before."""
    assert asked(modes(("llm_tier", "chat", "cheaper"))) == ["main/small", "main/large", "backup/large"]
    assert asked(modes(("llm_tier", "*", "cheaper")), "other") == ["backup/large", "main/large"]


def test_order__preferred_first() -> None:
    """A preference for one route is stronger than one for all."""
    made = modes(("llm_prefer", "*", "main"), ("llm_prefer", "chat", "backup"))
    assert asked(made, "chat") == ["backup/large", "main/large"]
    assert asked(made, "other") == ["main/large", "backup/large"]


def test_order__avoided_last_never_not_at_all() -> None:
    """Who is avoided is asked when nobody else is left; who must never be asked is not."""
    assert asked(modes(("llm_avoid", "main", "avoid"))) == ["backup/large", "main/large"]
    assert asked(modes(("llm_avoid", "main/large", "never"))) == ["backup/large"]
    assert asked(modes(("llm_avoid", "main", "never"), ("llm_avoid", "backup", "never"))) == []
    assert asked(modes(("llm_avoid", "backup", "avoid"), ("llm_prefer", "*", "backup"))) == [
        "main/large",
        "backup/large",
    ]


@pytest.mark.parametrize("share", [0, 10, 50, 100])
def test_order__share_is_kept_exactly(share: int) -> None:
    """Of 100 calls, as many as the share says find the target in its place."""
    made = modes(("llm_share", "main", share))
    assert Counter(asked(made)[0] for _ in range(100))["main/large"] == share


def test_hold__own_rules_and_switches_do_not_clear_each_other() -> None:
    """What the control plane lifts stays if a rule claims it, and the other way round."""
    made = Modes()
    switches = LlmSwitches(made.obey)
    switches.obey((Claim("llm_cache", "*", "only"), Claim("read_share", "primary", 0)))
    switches.hold({"failures": [Claim("llm_cache", "*", "first")], "quota": [Claim("llm_tier", "*", "cheaper")]})
    assert made.of(a_call()).cache == "only"
    switches.obey(())
    assert (made.of(a_call()).cache, made.of(a_call()).tier) == ("first", "cheaper")
    switches.hold({"quota": [Claim("llm_tier", "*", "cheaper")]})
    assert made.of(a_call()) == Mode("normal", "cheaper", False, None, Level.DEGRADED, ("cheaper model",))
    assert switches.shown()["by_rules"] == {"quota": [{"switch": "llm_tier", "scope": "*", "value": "cheaper"}]}
