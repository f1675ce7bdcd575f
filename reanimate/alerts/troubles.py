"""What an alert says is wrong, where that decides which incident it belongs to. Pure.

A worse answer, a spent quota and an attack by prompts are mended in ways of their own, and each for one subject: the
runbook of an outage that goes on at the same dependency contains none of them, and that of one attacker no other. So
they are never a further alert of an incident about something else, nor is an outage one of theirs.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from reanimate.alerts.components import UNKNOWN
from reanimate.incidents.faults import Fault
from reanimate.incidents.triage import Claim, claim_of

__all__ = ["Trouble", "trouble_of"]

_APART: Mapping[Fault, tuple[str, ...]] = {
    Fault.TOKEN_QUOTA_EXHAUSTED: ("quota", "tenant"),
    Fault.OUTPUT_QUALITY_DROP: (),
    Fault.MASS_HALLUCINATION: (),
    Fault.MALICIOUS_PROMPT_ATTACK: ("tenant", "tool", "route"),
}
"""Faults that are mended each for itself → the labels that say, beside the component, whose it is."""
_TOGETHER = ("vector", "database")
"""Kinds whose recoveries would work against each other: all that is wrong there is one incident."""


@dataclass(frozen=True)
class Trouble:
    """A fault, and for one that is mended by itself whose it is. No `subject`: that of whoever has the same fault."""

    fault: Fault
    subject: str = ""
    apart: bool = False

    @classmethod
    def parse(cls, text: str) -> "Trouble | None":
        """Return what `str` made a text of; None for any other text."""
        fault, apart, subject = text.partition("|")
        return cls(Fault(fault), subject, bool(apart)) if fault in set(Fault) else None

    def __str__(self) -> str:
        return f"{self.fault}|{self.subject}" if self.apart else str(self.fault)

    def fits(self, others: Set["Trouble"]) -> bool:
        """Say whether it can be a further trouble of an incident that has `others`."""
        if not self.apart:
            return not others or any(not other.apart for other in others)
        same = [other for other in others if other.apart and other.fault is self.fault]
        return any(self.subject in ("", other.subject) for other in same)


def trouble_of(component: str, labels: Mapping[str, str], annotations: Mapping[str, str]) -> Trouble | None:
    """Return what an alert says is wrong; None when it says nothing that is known."""
    fault = claim_of(Claim("", component, labels, annotations)).fault
    if fault is Fault.UNKNOWN:
        return None
    if fault not in _APART or component.partition(":")[0] in _TOGETHER:
        return Trouble(fault)
    if fault is Fault.TOKEN_QUOTA_EXHAUSTED and labels.get("rule"):
        return Trouble(fault, "", apart=True)  # the gateway saves by itself: it says nothing about whose quota it is
    named = [component if component != UNKNOWN else "", *(labels.get(label, "") for label in _APART[fault])]
    return Trouble(fault, "|".join(named), apart=True)
