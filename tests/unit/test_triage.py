"""Triage: labels, a rules table and fresh probes in; faults with evidence and confidence out."""

import pytest

from reanimate.incidents.faults import Fault
from reanimate.incidents.severity import Impact, Severity, Users, severity_of
from reanimate.incidents.triage import Claim, Finding, TargetProbe, claim_of, impact_of, triage, users_of

PRIMARY = "vector:primary"
UP = TargetProbe("primary", "primary", True, "answers in 1 ms", {}, judged=1)
DOWN = TargetProbe("primary", "primary", False, "refused: connection refused")
EMPTY = TargetProbe("primary", "primary", True, "answers", {"kb": "collection: missing"}, judged=1)
HALF = TargetProbe("primary", "primary", True, "answers", {"kb": "count: 10 of 2000"}, judged=3)
REPLICA = TargetProbe("replica", "replica", True, "answers in 1 ms", {}, judged=1)


def claim(component: str = PRIMARY, summary: str = "", **labels: str) -> Claim:
    return Claim("f1", component, labels, {"summary": summary})


@pytest.mark.parametrize(
    ("labels", "summary", "fault"),
    [
        ({"fault": "out_of_memory"}, "", Fault.OUT_OF_MEMORY),
        ({"alertname": "QdrantDown"}, "", Fault.VECTOR_DATABASE_DOWN),
        ({"alertname": "DependencyDown", "service": "vector-store"}, "", Fault.VECTOR_DATABASE_DOWN),
        ({"alertname": "KnowledgeBaseEmpty"}, "", Fault.KNOWLEDGE_BASE_DELETED),
        ({"alertname": "LLMProviderDown"}, "", Fault.LLM_API_UNAVAILABLE),
        ({"alertname": "Alert42"}, "OpenAI answers 5xx errors", Fault.LLM_API_UNAVAILABLE),
        ({"alertname": "TokenQuotaLow"}, "", Fault.TOKEN_QUOTA_EXHAUSTED),
        ({"alertname": "PgConnectionPoolExhausted"}, "", Fault.DATABASE_POOL_EXHAUSTED),
        ({"alertname": "ContainerOOMKilled"}, "", Fault.OUT_OF_MEMORY),
        ({"alertname": "CPUHigh"}, "", Fault.CPU_OVERLOAD),
        ({"alertname": "EvalScoreDrop"}, "", Fault.OUTPUT_QUALITY_DROP),
        ({"alertname": "HallucinationRate"}, "", Fault.MASS_HALLUCINATION),
        ({"alertname": "PromptInjectionBurst"}, "", Fault.MALICIOUS_PROMPT_ATTACK),
        ({"alertname": "ConfigChanged"}, "", Fault.CONFIGURATION_CHANGED),
        ({"alertname": "UserDataLost"}, "", Fault.USER_DATA_LOST),
        ({"alertname": "ToolServiceDown"}, "", Fault.EXTERNAL_TOOL_DOWN),
        ({"alertname": "Probe"}, "payments tool does not answer", Fault.EXTERNAL_TOOL_DOWN),
        ({"alertname": "BackupOverdue"}, "the newest backup of kb is 3 h old", Fault.UNKNOWN),
        ({"alertname": "BackupFailed"}, "kb: the collection is missing", Fault.UNKNOWN),
        ({"alertname": "QdrantDown"}, "the backup server serves, reads fail", Fault.VECTOR_DATABASE_DOWN),
        ({"alertname": "SomethingOdd"}, "", Fault.UNKNOWN),
        ({"fault": "no_such_fault", "alertname": "Odd"}, "", Fault.UNKNOWN),
    ],
)
def test_claim_of__label_then_rules(labels: dict[str, str], summary: str, fault: Fault) -> None:
    """A known fault label is believed; else the first rule that matches; else it is unknown."""
    assert claim_of(Claim("f", "unknown", labels, {"summary": summary})).fault is fault


def test_triage__down_and_still_down() -> None:
    """An alert and a probe that agree are one finding, surer than either, with both pieces of evidence."""
    found = triage([claim(fault="vector_database_down")], [DOWN, REPLICA])
    assert [(f.fault, f.component) for f in found] == [(Fault.VECTOR_DATABASE_DOWN, PRIMARY)]
    assert found[0].confidence == 0.95
    assert {item["check"] for item in found[0].evidence} == {"alert label", "own probe"}


def test_triage__back_but_empty_is_not_healthy() -> None:
    """A server that was down and answers again without its data is still this fault, not a healthy server."""
    found = triage([claim(fault="vector_database_down")], [EMPTY, REPLICA])
    assert found[0].fault is Fault.VECTOR_DATABASE_DOWN
    assert found[0].confidence == 0.95
    assert any("nothing that was backed up" in str(item["found"]) for item in found[0].evidence)


def test_triage__deleted_while_up() -> None:
    """Data that is missing on a server nobody called down is a deleted knowledge base."""
    found = triage([claim(fault="knowledge_base_deleted")], [EMPTY, REPLICA])
    assert found[0].fault is Fault.KNOWLEDGE_BASE_DELETED


def test_triage__two_faults() -> None:
    """A server called down of which only a part is missing has two faults."""
    found = triage([claim(fault="vector_database_down")], [HALF, REPLICA])
    assert {f.fault for f in found} == {Fault.KNOWLEDGE_BASE_DELETED, Fault.VECTOR_DATABASE_DOWN}


def test_triage__alert_contradicted_by_probe() -> None:
    """An alert that our own look contradicts is kept, but barely believed, and says so."""
    found = triage([claim(fault="vector_database_down")], [UP, REPLICA])
    assert found[0].confidence == 0.5
    assert any("is there now" in str(item["found"]) for item in found[0].evidence)


def test_triage__no_backup_to_judge_by() -> None:
    """A server that answers, of which nobody knows what it should hold, contradicts no alert."""
    bare = TargetProbe("primary", "primary", True, "answers in 1 ms", {}, judged=0)
    found = triage([claim(fault="knowledge_base_deleted")], [bare])
    assert found[0].confidence == 0.7
    assert any("no backup tells" in str(item["found"]) for item in found[0].evidence)


def test_triage__nothing_known() -> None:
    """What nobody understands is `unknown`, with the alert as evidence."""
    found = triage([claim("unknown", alertname="Odd")], [UP])
    assert [f.fault for f in found] == [Fault.UNKNOWN]
    assert triage([], [])[0].fault is Fault.UNKNOWN


@pytest.mark.parametrize(
    ("component", "probes", "impact"),
    [
        (PRIMARY, [DOWN, REPLICA], Impact.CORE),
        (PRIMARY, [DOWN], Impact.UNAVAILABLE),
        (PRIMARY, [DOWN, TargetProbe("replica", "replica", False, "refused")], Impact.UNAVAILABLE),
        ("vector:replica", [UP, TargetProbe("replica", "replica", False, "refused")], Impact.SLIGHT),
    ],
)
def test_impact__softened_by_a_healthy_copy(component: str, probes: list[TargetProbe], impact: Impact) -> None:
    """A healthy replica keeps the reads; a lost replica costs little; without a copy all is out."""
    assert impact_of(Finding(Fault.VECTOR_DATABASE_DOWN, component, 0.9), probes)[0] is impact


def test_impact_of__an_overdue_backup_hits_nobody() -> None:
    """It is the lowest severity whoever uses the agent; beside a real fault it changes nothing."""
    overdue = triage([claim("unknown", "the newest backup of kb is 3 h old", alertname="BackupOverdue")], [UP])
    assert [finding.fault for finding in overdue] == [Fault.UNKNOWN]
    impact, why = impact_of(overdue[0], [UP])
    assert severity_of(impact, users_of(overdue, Users.ALL)) is Severity.P3
    assert "could be had back" in why
    down = triage([claim(fault="vector_database_down")], [DOWN])
    assert users_of([*overdue, *down], Users.ALL) is Users.ALL
    odd = triage([claim("unknown", alertname="SomethingOdd")], [UP])
    assert impact_of(odd[0], [UP])[0] is Impact.PARTIAL
    assert users_of(odd, Users.ALL) is Users.ALL
