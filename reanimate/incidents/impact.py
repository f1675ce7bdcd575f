"""What the agent's traffic met during an incident, by the gateways' own counts: in sentences, and as tables. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from reanimate.incidents.facts import has_vector_traffic
from reanimate.incidents.llm_traffic import LLM_ENDINGS, Answering, answering, llm_counts, money, static_answers, total
from reanimate.incidents.markdown import escape, table
from reanimate.incidents.wording import count, duration

__all__ = ["impact_sentences", "impact_tables"]

Counts = Mapping[str, Mapping[str, Any]]


def impact_sentences(counted: Counts, pointers: str) -> list[str]:
    """Return in a sentence or two what the agent's traffic met."""
    sentences = []
    if calls := llm_counts(counted):
        asked, failed, degraded = (total(calls, ending) for ending in ("asked", "failed", "degraded"))
        static = f", {count(static)} of them by a route's static answer" if (static := static_answers(calls)) else ""
        away = total(calls, "rejected")
        turned = f", {count(away)} {'was' if away == 1 else 'were'} turned away" if away else ""
        sentences.append(
            f"Of {count(asked, 'LLM call')} through the gateway {count(failed)} ended without an answer{turned} and "
            f"{count(degraded)} {'was' if degraded == 1 else 'were'} answered otherwise than usual{static}{pointers}."
        )
        if by := answering(calls):
            told = ", ".join(f"{count(one.answered)} by {escape(one.target)}" for one in by)
            sentences.append(f"Answers of models: {told}; they cost {money(calls)}{pointers}.")
    if has_vector_traffic(counted):
        reads = [item["reads"] for item in counted.values()]
        asked, failed, degraded = (
            sum(item.get(name) or 0 for item in reads) for name in ("asked", "failed", "degraded")
        )
        sentences.append(
            f"Of {count(asked, 'read')} through the gateway {count(failed)} failed and {count(degraded)} "
            f"{'was' if degraded == 1 else 'were'} answered by another target than usual{pointers}."
        )
    return sentences


def impact_tables(counted: Counts) -> str:
    """Return the counts as tables: of LLM calls where there were any, of reads and writes."""
    drawn = []
    if calls := llm_counts(counted):
        drawn.append(_llm_table(calls))
        if by := answering(calls):
            drawn.append(_answering_table(by))
    if has_vector_traffic(counted):
        drawn.append(_vector_table(counted))
    return "\n\n".join(drawn)


def _llm_table(calls: Counts) -> str:
    head = (
        "Gateway",
        "LLM calls",
        "answered",
        "answered otherwise",
        "of these static",
        "without an answer",
        "turned away",
        "left by the caller",
    )
    rows = [
        (
            escape(name),
            *(count(item["calls"].get(ending) or 0) for ending in LLM_ENDINGS[:3]),
            count(static_answers({name: item})),
            *(count(item["calls"].get(ending) or 0) for ending in LLM_ENDINGS[3:]),
            _milliseconds(item.get("first_token_p99_ms")),
            _milliseconds(item.get("p99_ms")),
        )
        for name, item in calls.items()
    ]
    return table((*head, "first token, 99 %", "whole, 99 %"), "lrrrrrrrrr", rows)


def _answering_table(by: Sequence[Answering]) -> str:
    rows = [
        (escape(one.target), *map(count, (one.attempts, one.answered, one.failed, one.tokens)), f"{one.cost:,.4f}")
        for one in by
    ]
    return table(("Model", "Attempts", "answered", "failed", "Tokens", "Cost"), "lrrrrr", rows)


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else duration(value / 1000)


def _vector_table(counted: Counts) -> str:
    rows = []
    for name, item in counted.items():
        reads, writes = item["reads"], item.get("writes", {})
        rows.append(
            (
                escape(name),
                *(count(reads.get(key)) for key in ("asked", "answered", "degraded", "failed")),
                _milliseconds(reads.get("slowest_ms")),
                *(count(writes.get(key)) for key in ("asked", "acknowledged", "refused", "failed")),
            )
        )
    head = ("Gateway", "Reads", "answered", "of these degraded", "failed", "slowest")
    return table((*head, "Writes", "acknowledged", "refused", "unclear"), "lrrrrrrrrr", rows)
