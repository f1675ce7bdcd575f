"""What is watched and what is said about it: labels, fingerprints and the events they become."""

from datetime import UTC, datetime, timedelta

import pytest

from reanimate.addresses import Addresses
from reanimate.config import DependencySettings, Settings, VectorSettings, VectorTarget
from reanimate.watch.alarm import Alarm, event_of
from reanimate.watch.dependencies import Dependency, dependencies_of

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
ADDRESSES = Addresses(
    web="http://127.0.0.1:1",
    prefect_api="http://127.0.0.1:2/api",
    prefect_ui="http://127.0.0.1:2",
    gateway="http://127.0.0.1:3",
    gateway_control="http://127.0.0.1:4",
    watch="http://127.0.0.1:5",
    database="",
    vector={"primary": "http://127.0.0.1:6"},
)


@pytest.fixture(scope="module")
def watched() -> dict[str, Dependency]:
    settings = Settings(
        vector=VectorSettings(targets=(VectorTarget(name="primary", role="primary"),)),
        dependencies=(
            DependencySettings(name="openai", kind="llm_provider", url="https://user:secret@api.example/v1?key=secret"),
            DependencySettings(name="search", kind="tool", url="tcp://127.0.0.1:7"),
            DependencySettings(name="main", kind="database", url="tcp://127.0.0.1:8"),
        ),
    )
    return {one.key: one for one in dependencies_of(settings, ADDRESSES)}


@pytest.mark.parametrize(
    ("key", "labels"),
    [
        (
            "vector:primary",
            {
                "fault": "vector_database_down",
                "component": "vector:primary",
                "target": "primary",
                "role": "primary",
            },
        ),
        ("llm:openai", {"fault": "llm_api_unavailable", "component": "llm:openai"}),
        ("tool:search", {"fault": "external_tool_down", "component": "tool:search"}),
        ("database:main", {"fault": "unknown", "component": "database:main"}),
        ("part:web", {"fault": "unknown", "component": "unknown", "part": "web"}),
    ],
)
def test_dependencies_of__labels(watched: dict[str, Dependency], key: str, labels: dict[str, str]) -> None:
    """Each kind of dependency has its fault; one of our own parts is none of the agent's components."""
    assert watched[key].labels == labels


def test_dependencies_of__targets_are_asked_more_often(watched: dict[str, Dependency]) -> None:
    """Vector targets are asked several times an interval; strangers' servers once."""
    assert watched["vector:primary"].url == "http://127.0.0.1:6/healthz"
    assert watched["vector:primary"].rules.interval_s < watched["llm:openai"].rules.interval_s == 1.0
    assert watched["part:gateway"].rules.patience_s == 60.0


def test_dependency__credentials_are_not_shown(watched: dict[str, Dependency]) -> None:
    """What is shown of a URL has neither user, password nor query."""
    assert watched["llm:openai"].shown_url == "https://api.example/v1"


ALARM = Alarm(
    fingerprint="watch:vector:primary:down",
    subject="vector:primary",
    starts_at=NOW,
    labels={"fault": "vector_database_down"},
    annotations={"summary": "does not answer"},
    evidence=({"check": "probe", "found": "refused"},),
)


def test_event_of__firing_and_resolved() -> None:
    """Both are CloudEvents 1.0 with the alarm's fingerprint and start; the end is only in the second; ids are new."""
    firing = event_of(ALARM, NOW)
    ended = event_of(ALARM, NOW, ends_at=NOW + timedelta(seconds=5))
    assert firing.body["specversion"] == "1.0"
    assert (firing.body["type"], ended.body["type"]) == ("reanimate.alert.firing", "reanimate.alert.resolved")
    assert firing.fingerprint == ended.fingerprint == ALARM.fingerprint
    assert firing.body["subject"] == "vector:primary"
    assert "ends_at" not in firing.body["data"]
    assert ended.body["data"]["ends_at"] == "2026-11-22T03:00:05+00:00"
    assert firing.id != ended.id


def test_event_of__reads_back() -> None:
    """An alarm is the same after it was stored in an event or as JSON."""
    assert event_of(ALARM, NOW).alarm == ALARM
    assert Alarm.from_json(ALARM.as_json()) == ALARM


def test_alarm__evidence_is_bounded() -> None:
    """However long it fires, only the newest evidence is kept."""
    more = ALARM.with_evidence(tuple({"check": "probe", "found": str(number)} for number in range(100)), data="empty")
    assert len(more.evidence) == 30
    assert more.evidence[-1]["found"] == "99"
    assert more.annotations == {"summary": "does not answer", "data": "empty"}
