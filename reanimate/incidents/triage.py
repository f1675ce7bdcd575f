"""From what alerts say and what fresh probes find to faults, each with evidence and a confidence. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from reanimate.incidents.faults import Fault
from reanimate.incidents.severity import Impact, Users

__all__ = [
    "RULES",
    "Claim",
    "Finding",
    "ProviderLook",
    "Rule",
    "TargetProbe",
    "claim_of",
    "impact_of",
    "triage",
    "users_of",
]

Evidence = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """One fault we believe in. `confidence` is a share of 1."""

    fault: Fault
    component: str
    confidence: float
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class Claim:
    """What one alert says, before anybody has looked: labels and annotations as the sender gave them."""

    fingerprint: str
    component: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TargetProbe:
    """What we found ourselves at one vector target, just now."""

    target: str
    role: str
    answers: bool
    detail: str
    problems: Mapping[str, str] = field(default_factory=dict)
    """Collection → what is wrong with its data; empty when all that was backed up is there."""
    judged: int = 0
    """How many collections could be held against a backup."""


@dataclass(frozen=True)
class ProviderLook:
    """How the gateways see one LLM provider now."""

    provider: str
    well: bool
    """None of its models that are asked is given up."""
    detail: str
    routes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Route that asks it → other providers that answer there."""

    @property
    def alone(self) -> list[str]:
        """Routes for which nobody else answers."""
        return [route for route, others in self.routes.items() if not others]


@dataclass(frozen=True)
class Rule:
    """An alert whose name, summary or service matches `pattern` speaks of `fault`."""

    pattern: str
    fault: Fault
    confidence: float


_OUT = r"(down|unavailable|unreachable|not (answer|respond)|error|fail|5xx|timeout|timed out|429)"

# The first match wins, so the narrower ones come first. Searched, case ignored, in alertname, service, job and summary.
RULES: tuple[Rule, ...] = (
    # What is said of backups is no loss of data, whatever else the summary names.
    Rule(
        r"backup ?(is |was )?(overdue|unproven|stale|missed|too old)|backup ?(job |run )?fail(ed|ure)"
        r"|recovery.?point.{0,20}(overdue|missed|exceeded)",
        Fault.UNKNOWN,
        0.6,
    ),
    Rule(r"(collection|knowledge.?base|kb).*(deleted|missing|empty|gone|lost)", Fault.KNOWLEDGE_BASE_DELETED, 0.6),
    Rule(r"(prompt.?injection|jailbreak|malicious)", Fault.MALICIOUS_PROMPT_ATTACK, 0.6),
    Rule(r"hallucinat", Fault.MASS_HALLUCINATION, 0.6),
    Rule(r"(quality|groundedness|eval.?score).*(drop|low|down|degrad)", Fault.OUTPUT_QUALITY_DROP, 0.6),
    Rule(
        r"(quota|insufficient.?credit|token.?limit|budget).*(exhaust|exceed|low|out|reached)?",
        Fault.TOKEN_QUOTA_EXHAUSTED,
        0.6,
    ),
    Rule(r"(connection.?pool|too many connections|pool.?exhaust)", Fault.DATABASE_POOL_EXHAUSTED, 0.6),
    Rule(r"(oom|out.?of.?memory|memory.*(high|pressure|exhaust))", Fault.OUT_OF_MEMORY, 0.6),
    Rule(r"(cpu|load).*(high|overload|saturat|throttl)", Fault.CPU_OVERLOAD, 0.6),
    Rule(r"config.*(chang|drift|wrong)", Fault.CONFIGURATION_CHANGED, 0.6),
    Rule(r"(user.?data|rows?|table|conversation).*(lost|deleted|missing|dropped)", Fault.USER_DATA_LOST, 0.6),
    Rule(r"(qdrant|vector.?(store|db|database)?)", Fault.VECTOR_DATABASE_DOWN, 0.6),
    Rule(
        rf"(llm|openai|anthropic|provider|completion).*{_OUT}",
        Fault.LLM_API_UNAVAILABLE,
        0.6,
    ),
    Rule(rf"(tool|external.?service|mcp).*{_OUT}", Fault.EXTERNAL_TOOL_DOWN, 0.6),
)

_SEARCHED = ("alertname", "service", "job")


def claim_of(claim: Claim, rules: Sequence[Rule] = RULES) -> Finding:
    """Return what an alert claims by itself: its `fault` label, else the first rule that matches, else `unknown`."""
    said = claim.labels.get("fault", "")
    if said in set(Fault) - {Fault.UNKNOWN}:
        found: Evidence = {"check": "alert label", "found": f"fault={said}", "alert": claim.fingerprint}
        if threshold := claim.labels.get("threshold"):
            found["threshold"] = threshold
        return Finding(Fault(said), claim.component, 0.7, (found,))
    text = " ".join([*(claim.labels.get(name, "") for name in _SEARCHED), claim.annotations.get("summary", "")])
    for rule in rules:
        if re.search(rule.pattern, text, re.IGNORECASE):
            return Finding(
                rule.fault,
                claim.component,
                rule.confidence,
                (
                    {
                        "check": "rules table",
                        "found": text.strip()[:200],
                        "rule": rule.pattern,
                        "alert": claim.fingerprint,
                    },
                ),
            )
    return Finding(
        Fault.UNKNOWN,
        claim.component,
        0.2,
        (
            {
                "check": "rules table",
                "found": text.strip()[:200],
                "detail": "nothing matched",
                "alert": claim.fingerprint,
            },
        ),
    )


def _of_target(probe: TargetProbe, said_down: bool) -> list[Finding]:
    """What one target's own probe shows. An empty server is no healthy one."""
    component = f"vector:{probe.target}"
    if not probe.answers:
        return [
            Finding(Fault.VECTOR_DATABASE_DOWN, component, 0.95, ({"check": "own probe", "found": probe.detail},)),
        ]
    if not probe.problems:
        return []
    evidence = tuple({"check": "own probe", "collection": name, "found": what} for name, what in probe.problems.items())
    if said_down and len(probe.problems) == probe.judged:
        came_back = {"check": "own probe", "found": "it answers again, but nothing that was backed up is there"}
        return [Finding(Fault.VECTOR_DATABASE_DOWN, component, 0.95, (came_back, *evidence))]
    return [Finding(Fault.KNOWLEDGE_BASE_DELETED, component, 0.95, evidence)]


def _settled(claimed: Finding, probes: Mapping[str, TargetProbe]) -> Finding:
    """Hold a claim about a vector target against our own look at it."""
    kind, _, name = claimed.component.partition(":")
    probe = probes.get(name) if kind == "vector" else None
    if probe is None or claimed.fault not in (Fault.VECTOR_DATABASE_DOWN, Fault.KNOWLEDGE_BASE_DELETED):
        return claimed
    if probe.answers and not probe.judged:
        look = {"check": "own probe", "found": f"{name} answers, but no backup tells what should be there"}
        return replace(claimed, evidence=(*claimed.evidence, look))
    if probe.answers and not probe.problems:
        look = {"check": "own probe", "found": f"{name} answers and its data is there now ({probe.judged} judged)"}
        return replace(claimed, confidence=0.5, evidence=(*claimed.evidence, look))
    return claimed


def _settled_llm(claimed: Finding, looks: Mapping[str, ProviderLook]) -> Finding:
    """Hold a claim that a provider is away against how the gateways see it."""
    kind, _, name = claimed.component.partition(":")
    seen = looks.get(name.partition("/")[0]) if kind == "llm" else None
    if seen is None or claimed.fault is not Fault.LLM_API_UNAVAILABLE:
        return claimed
    look = {"check": "gateways", "found": seen.detail}
    confidence = 0.5 if seen.well else 0.95
    return replace(claimed, confidence=confidence, evidence=(*claimed.evidence, look))


def triage(
    claims: Sequence[Claim],
    probes: Sequence[TargetProbe],
    rules: Sequence[Rule] = RULES,
    providers: Sequence[ProviderLook] = (),
) -> list[Finding]:
    """Return the faults, surest first; `unknown` alone when nothing else is believed.

    A claim and a probe that agree on fault and component become one finding with both pieces of evidence.
    """
    by_name = {probe.target: probe for probe in probes}
    claimed = [claim_of(claim, rules) for claim in claims]
    said_down = {found.component for found in claimed if found.fault is Fault.VECTOR_DATABASE_DOWN}
    merged: dict[tuple[Fault, str], Finding] = {}
    seen = [found for probe in probes for found in _of_target(probe, f"vector:{probe.target}" in said_down)]
    looks = {look.provider: look for look in providers}
    for found in [*(_settled_llm(_settled(item, by_name), looks) for item in claimed), *seen]:
        key = (found.fault, found.component)
        known = merged.get(key)
        merged[key] = (
            found
            if known is None
            else Finding(
                found.fault,
                found.component,
                max(found.confidence, known.confidence),
                (*known.evidence, *found.evidence),
            )
        )
    believed = [found for found in merged.values() if found.fault is not Fault.UNKNOWN]
    order = list(Fault)
    believed.sort(key=lambda found: (-found.confidence, order.index(found.fault), found.component))
    return believed or list(merged.values())[:1] or [Finding(Fault.UNKNOWN, "unknown", 0.1)]


# What a fault does to the agent when nothing softens it.
_IMPACT: dict[Fault, Impact] = {
    Fault.LLM_API_UNAVAILABLE: Impact.UNAVAILABLE,
    Fault.VECTOR_DATABASE_DOWN: Impact.UNAVAILABLE,
    Fault.EXTERNAL_TOOL_DOWN: Impact.PARTIAL,
    Fault.TOKEN_QUOTA_EXHAUSTED: Impact.UNAVAILABLE,
    Fault.DATABASE_POOL_EXHAUSTED: Impact.CORE,
    Fault.OUT_OF_MEMORY: Impact.CORE,
    Fault.CPU_OVERLOAD: Impact.PARTIAL,
    Fault.OUTPUT_QUALITY_DROP: Impact.PARTIAL,
    Fault.MASS_HALLUCINATION: Impact.CORE,
    Fault.MALICIOUS_PROMPT_ATTACK: Impact.CORE,
    Fault.KNOWLEDGE_BASE_DELETED: Impact.UNAVAILABLE,
    Fault.CONFIGURATION_CHANGED: Impact.PARTIAL,
    Fault.USER_DATA_LOST: Impact.CORE,
    Fault.UNKNOWN: Impact.PARTIAL,
}


def _is_about_backups(finding: Finding) -> bool:
    return finding.fault is Fault.UNKNOWN and any(item.get("rule") == RULES[0].pattern for item in finding.evidence)


def users_of(findings: Sequence[Finding], users: Users) -> Users:
    """Return who is hit: the agent's `users`, unless all that is wrong is about backups, which hits nobody."""
    return Users.SINGLE if findings and all(map(_is_about_backups, findings)) else users


def impact_of(
    finding: Finding, probes: Sequence[TargetProbe], providers: Sequence[ProviderLook] = ()
) -> tuple[Impact, str]:
    """Return how badly a fault hits the agent, and why: who else answers keeps it going."""
    if _is_about_backups(finding):
        return Impact.SLIGHT, "nothing is out: this is about what could be had back"
    if finding.component.startswith("llm:"):
        return _llm_impact(finding, providers)
    impact = _IMPACT[finding.fault]
    if finding.fault not in (Fault.VECTOR_DATABASE_DOWN, Fault.KNOWLEDGE_BASE_DELETED):
        return impact, f"{finding.fault} by the table"
    name = finding.component.partition(":")[2]
    this = next((probe for probe in probes if probe.target == name), None)
    if this is not None and this.role == "replica":
        return Impact.SLIGHT, f"{name} is a replica: the primary serves, but there is no second copy"
    healthy = [probe.target for probe in probes if probe.target != name and probe.answers and not probe.problems]
    if healthy:
        return Impact.CORE, f"writes are out; reads can be served by {', '.join(healthy)}"
    return Impact.UNAVAILABLE, "no other vector target answers with its data"


def _llm_impact(finding: Finding, providers: Sequence[ProviderLook]) -> tuple[Impact, str]:
    """Return the same for a fault of LLM calls: a provider, a route, or all of them."""
    name = finding.component.partition(":")[2].partition("/")[0]
    seen = next((look for look in providers if look.provider == name), None)
    if finding.fault is Fault.TOKEN_QUOTA_EXHAUSTED:
        shares = [float(item["threshold"]) for item in finding.evidence if "threshold" in item]
        if shares and max(shares) < 1:
            return Impact.SLIGHT, f"{max(shares):.0%} of a quota is used: nothing is refused yet"
        if seen is None:
            return Impact.CORE, "whoever the quota is for is refused"
    if finding.fault in (Fault.LLM_API_UNAVAILABLE, Fault.TOKEN_QUOTA_EXHAUSTED) and seen is not None:
        if seen.well:
            return Impact.SLIGHT, f"{name} is asked and answers now"
        if not seen.alone and seen.routes:
            others = ", ".join(sorted({other for found in seen.routes.values() for other in found}))
            return Impact.PARTIAL, f"{name} is out, answered by {others} instead"
        return Impact.UNAVAILABLE, f"nobody else answers {', '.join(seen.alone) or 'what it is asked for'}"
    if finding.fault is Fault.LLM_API_UNAVAILABLE and providers:
        return _route_impact(name, providers)
    return _IMPACT[finding.fault], f"{finding.fault} by the table"


def _route_impact(name: str, providers: Sequence[ProviderLook]) -> tuple[Impact, str]:
    """Return the same for a route, or for all: is anybody left who answers?"""
    concerned = [look for look in providers if name in look.routes] or list(providers)
    if well := [look.provider for look in concerned if look.well]:
        return Impact.PARTIAL, f"{', '.join(well)} answer, and calls failed or were slow"
    return Impact.UNAVAILABLE, f"no provider answers {name if name != '*' else 'any route'}"
