"""Which runbooks a set of findings calls for. Pure but for reading the shipped files."""

from collections.abc import Sequence

from reanimate.incidents.faults import Fault
from reanimate.incidents.triage import Finding
from reanimate.runbooks.model import Runbook, parse_runbook, runbook_for

__all__ = ["BELIEVED", "books_of", "choose"]

BELIEVED = 0.5
"""A finding below this confidence is kept as evidence but nothing is done about it."""

_BETWEEN = "\n---\n"


def choose(findings: Sequence[Finding]) -> tuple[list[Runbook], str]:
    """Return the runbooks of all believed findings, each once and surest first, and their exact texts."""
    surest = sorted(findings, key=lambda finding: -finding.confidence)
    believed = [finding for finding in surest if finding.confidence >= BELIEVED] or surest[:1]
    books: list[Runbook] = []
    texts: list[str] = []
    for finding in believed:
        book, text = runbook_for(finding.fault)
        if book not in books:
            books.append(book)
            texts.append(text)
    # A fault without a runbook of its own calls a person, after everything that a runbook can mend.
    order = sorted(range(len(books)), key=lambda index: books[index].fault is Fault.UNKNOWN)
    return [books[index] for index in order], _BETWEEN.join(texts[index] for index in order)


def books_of(text: str) -> list[Runbook]:
    """Return the runbooks in a text that `choose` made and an incident kept."""
    return [parse_runbook(part, "kept with the incident") for part in text.split(_BETWEEN)]
