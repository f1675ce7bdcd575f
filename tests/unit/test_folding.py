"""What an alert means for the incidents there are."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reanimate.alerts.folding import (
    Candidate,
    Ignored,
    Joined,
    KnownAlert,
    Opened,
    OpenIncident,
    Repeat,
    ResolvedRecorded,
    Seen,
    fold,
    identity,
)
from reanimate.alerts.model import AlertStatus, IncomingAlert
from reanimate.alerts.troubles import Trouble
from reanimate.incidents.faults import Fault
from reanimate.incidents.lifecycle import State

NOW = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
WINDOW = timedelta(minutes=5)


def candidate(
    component: str = "vector:primary", *, fingerprint: str = "f1", status: str = "firing", **changes: Any
) -> Candidate:
    alert = IncomingAlert(
        source="alertmanager",
        fingerprint=fingerprint,
        status=AlertStatus(status),
        starts_at=changes.pop("starts_at", NOW),
        ends_at=None,
        labels=changes.pop("labels", {}),
        sender_group=changes.pop("sender_group", None),
    )
    return replace(Candidate(alert, component, "agent", 1, NOW), **changes)


def incident(component: str = "vector:primary", *, age_s: float = 10, **changes: Any) -> OpenIncident:
    made = OpenIncident(
        "inc-1", "agent", State.RECOVERING, frozenset({component}), last_alert_at=NOW - timedelta(seconds=age_s)
    )
    return replace(made, **changes)


def known(of: Candidate, incident_id: str | None = "inc-1") -> Seen:
    """The alert of `of` was stored before, in `incident_id`."""
    return Seen(
        {identity(of.alert): KnownAlert(7, incident_id)},
        {(of.alert.source, of.alert.fingerprint): incident_id} if incident_id else {},
    )


def test_fold__first_alert_opens() -> None:
    """A firing alert that nothing is known about opens an incident."""
    assert fold(candidate(), [], Seen(), WINDOW) == Opened()


def test_fold__repeat_starts_nothing() -> None:
    """The same alert again is a repeat, whether its incident is open, ended, or there never was one."""
    again = candidate()
    assert fold(again, [incident()], known(again), WINDOW) == Repeat(7, "inc-1")
    assert fold(again, [], known(again), WINDOW) == Repeat(7, "inc-1")
    assert fold(again, [], known(again, None), WINDOW) == Repeat(7, None)


def test_fold__same_fingerprint_joins() -> None:
    """The same fingerprint, firing anew, joins its open incident however long ago that was."""
    again = candidate("unknown", starts_at=NOW + timedelta(seconds=1))
    decision = fold(again, [incident("unknown", age_s=86_400)], known(candidate()), WINDOW)
    assert decision == Joined("inc-1", "the same fingerprint")


def test_fold__new_start_after_the_end_opens() -> None:
    """An alert that fires anew after its incident has ended is a new incident."""
    again = candidate(starts_at=NOW + timedelta(seconds=1))
    assert fold(again, [], known(candidate()), WINDOW) == Opened()


def test_fold__resolved_is_recorded() -> None:
    """A resolved alert goes to the incident that its firing belongs to, open or ended."""
    over = candidate(status="resolved")
    assert fold(over, [incident()], known(candidate()), WINDOW) == ResolvedRecorded("inc-1")
    assert fold(over, [], known(candidate()), WINDOW) == ResolvedRecorded("inc-1")


def test_fold__late_resolved_goes_to_its_own_incident() -> None:
    """A resolved alert of an earlier round is not written to the incident of the present one."""
    earlier = candidate(starts_at=NOW - timedelta(hours=1))
    seen = Seen(
        {identity(earlier.alert): KnownAlert(3, "inc-0"), identity(candidate().alert): KnownAlert(7, "inc-1")},
        {("alertmanager", "f1"): "inc-1"},
    )
    over = candidate(status="resolved", starts_at=earlier.alert.starts_at)
    assert fold(over, [incident()], seen, WINDOW) == ResolvedRecorded("inc-0")


def test_fold__unknown_resolved_is_ignored() -> None:
    """What never fired here resolves nothing, and joins nothing either."""
    assert isinstance(fold(candidate(status="resolved"), [incident()], Seen(), WINDOW), Ignored)


@pytest.mark.parametrize(
    ("alert", "there", "joins"),
    [
        (candidate("vector:primary"), incident("vector:primary"), True),
        (candidate("vector:replica"), incident("vector:primary"), True),
        (candidate("llm:openai"), incident("vector:primary"), False),
        (candidate("tenant:bad"), incident("llm:openai"), False),
        (candidate("unknown"), incident("unknown"), False),
        (candidate("unknown"), incident("vector:primary"), False),
        (candidate("vector:replica"), incident("vector:primary", age_s=301), False),
        (candidate("vector:replica"), incident("vector:primary", age_s=300), True),
        (candidate("vector:primary"), incident("vector:primary", age_s=9999), True),
        (candidate("vector:primary"), incident("vector:primary", age_s=9999, state=State.ESCALATED), False),
        (candidate("vector:primary"), incident("vector:primary", state=State.ESCALATED), True),
        (candidate("vector:primary", agent="other"), incident("vector:primary"), False),
        (candidate("llm:a", labels={"incident_group": "g"}), incident(groups=frozenset({"g"})), True),
        (candidate("llm:a", labels={"incident_group": "h"}), incident(groups=frozenset({"g"})), False),
        (candidate("llm:a", labels={"incident_group": ""}), incident(groups=frozenset({""})), False),
        (candidate("unknown", sender_group="g"), incident("unknown", sender_groups=frozenset({"g"})), True),
        (candidate("unknown", sender_group="g"), incident(sender_groups=frozenset({"g"})), True),
        (candidate("vector:primary", sender_group="g"), incident("unknown", sender_groups=frozenset({"g"})), True),
        (candidate("llm:a", sender_group="g"), incident(sender_groups=frozenset({"g"})), False),
    ],
)
def test_fold__related(alert: Candidate, there: OpenIncident, joins: bool) -> None:
    """Related is: the same component, kind or group, of the same agent, within the window.

    A component that is being recovered keeps its alerts beyond the window; one that waits for a person does not, since
    nothing would be started for them.
    """
    decision = fold(alert, [there], Seen(), WINDOW)
    assert isinstance(decision, Joined if joins else Opened)


def llm(component: str, fault: str, **labels: str) -> Candidate:
    return candidate(component, fingerprint="new", labels={"fault": fault, **labels})


ATTACK, QUOTA, QUALITY, OUT = (
    "malicious_prompt_attack",
    "token_quota_exhausted",
    "output_quality_drop",
    "llm_api_unavailable",
)


@pytest.mark.parametrize(
    ("alert", "there", "joins"),
    [
        (llm("llm:main", OUT), llm("llm:main", OUT), True),
        (llm("llm:main", ATTACK, tool="shell"), llm("llm:main", OUT), False),
        (llm("llm:main", QUOTA), llm("llm:main", OUT), False),
        (llm("llm:main", QUALITY), llm("llm:main", OUT), False),
        (llm("llm:main", OUT), llm("llm:main", QUALITY), False),
        (llm("llm:main", OUT), llm("llm:main", "cpu_overload"), True),
        (llm("tenant:a", ATTACK, tenant="a"), llm("tenant:a", ATTACK, tenant="a"), True),
        (llm("tenant:b", ATTACK, tenant="b"), llm("tenant:a", ATTACK, tenant="a"), False),
        (llm("llm:main", ATTACK, tool="shell"), llm("llm:main", ATTACK, tool="mail"), False),
        (llm("llm:main/a", QUALITY), llm("llm:main/b", QUALITY), False),
        (llm("llm:m", QUOTA, quota="q", tenant="*"), llm("llm:m", QUOTA, quota="q", tenant="*"), True),
        (llm("llm:m", QUOTA, quota="q", tenant="a"), llm("llm:m", QUOTA, quota="q", tenant="b"), False),
        (llm("llm:*", QUOTA, rule="quota low"), llm("llm:m", QUOTA, quota="q", tenant="*"), True),
        (llm("llm:m", QUOTA, quota="q", tenant="*"), llm("llm:*", QUOTA, rule="quota low"), False),
        (candidate("llm:main", labels={"alertname": "JailbreakSeen"}), llm("llm:main", OUT), False),
        (candidate("llm:main", labels={"alertname": "Strange"}), llm("llm:main", QUALITY), True),
        (candidate("vector:primary", labels={"fault": QUOTA}), candidate(labels={"fault": "out_of_memory"}), True),
    ],
)
def test_fold__what_is_mended_by_itself_stays_apart(alert: Candidate, there: Candidate, joins: bool) -> None:
    """A quota, worse answers or an attack join an incident of their like and subject only, whatever goes on beside it.

    The incident is underway, about the same dependency and in the window: all else speaks for joining.
    """
    assert there.trouble is not None
    opened = incident(there.component, troubles=frozenset({there.trouble}))
    decision = fold(alert, [opened], Seen(), WINDOW)
    assert isinstance(decision, Joined if joins else Opened)


@pytest.mark.parametrize("group", ["incident_group", "sender"])
def test_fold__no_grouping_keeps_an_attack_from_its_incident(group: str) -> None:
    """An attack is contained even when a person or a sender counts it to an outage."""
    grouped: dict[str, Any] = {"sender_group": "g"} if group == "sender" else {}
    alert = candidate("unknown", fingerprint="new", labels={"fault": ATTACK, "incident_group": "g"}, **grouped)
    out = incident(
        "llm:a",
        groups=frozenset({"g"}),
        sender_groups=frozenset({"g"}),
        troubles=frozenset({Trouble(Fault.LLM_API_UNAVAILABLE)}),
    )
    assert fold(alert, [out], Seen(), WINDOW) == Opened()


def test_trouble__written_and_read() -> None:
    """What is kept of an alert's trouble reads back as the same."""
    for one in (llm("llm:a", OUT), llm("tenant:a|b", ATTACK, tenant="a|b"), llm("llm:*", QUOTA, rule="r")):
        assert one.trouble is not None
        assert Trouble.parse(str(one.trouble)) == one.trouble
    assert Trouble.parse("what a sender wrote") is None


def test_fold__nearest_of_several() -> None:
    """Of several related incidents the one that was heard of last takes the alert."""
    older, newer = incident(id="inc-old", age_s=60), incident(id="inc-new", age_s=5)
    decision = fold(candidate(), [newer, older], Seen(), WINDOW)
    assert isinstance(decision, Joined)
    assert decision.incident_id == "inc-new"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["f1", "f2"]),
            st.sampled_from(["firing", "resolved"]),
            st.integers(0, 3),
            st.sampled_from(["vector:primary", "llm:a", "unknown"]),
        ),
        max_size=12,
    )
)
def test_fold__any_sequence_twice_is_once(news: list[tuple[str, str, int, str]]) -> None:
    """Whatever arrives: delivering all of it a second time finds only repeats."""
    alerts: dict[Any, KnownAlert] = {}
    last: dict[tuple[str, str], str] = {}
    incidents: dict[str, OpenIncident] = {}

    def deliver(fingerprint: str, status: str, minute: int, component: str) -> object:
        one = candidate(component, fingerprint=fingerprint, status=status, starts_at=NOW + timedelta(minutes=minute))
        decision = fold(one, list(incidents.values()), Seen(alerts, last), WINDOW)
        target: str | None = None
        if isinstance(decision, Opened):
            target = f"inc-{len(incidents)}"
            incidents[target] = incident(component, id=target)
        elif isinstance(decision, Joined | ResolvedRecorded):
            target = decision.incident_id
        if not isinstance(decision, Repeat):
            alerts[identity(one.alert)] = KnownAlert(len(alerts), target)
            if status == "firing" and target:
                last["alertmanager", fingerprint] = target
        return decision

    for item in news:
        deliver(*item)
    opened = dict(incidents)
    assert all(isinstance(deliver(*item), Repeat) for item in news)
    assert incidents == opened


def test_fold__what_waits_for_a_person_takes_no_other_component() -> None:
    """An outage of the second provider opens an incident that contains it, while the first one's waits for a person."""
    first = incident("llm:main")
    assert isinstance(fold(candidate("llm:spare"), [first], Seen(), WINDOW), Joined)
    waiting = replace(first, state=State.ESCALATED)
    assert fold(candidate("llm:spare"), [waiting], Seen(), WINDOW) == Opened()
    assert isinstance(fold(candidate("llm:main"), [waiting], Seen(), WINDOW), Joined)
