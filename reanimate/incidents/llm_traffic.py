"""What gateways counted of the calls to language models, from a `figures` entry. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "LLM_ENDINGS",
    "Answering",
    "answering",
    "llm_counts",
    "money",
    "slowest_first_token_ms",
    "static_answers",
    "total",
]

Counts = Mapping[str, Mapping[str, Any]]

LLM_ENDINGS = ("asked", "answered", "degraded", "failed", "rejected", "abandoned")


def llm_counts(gateways: Counts) -> dict[str, Mapping[str, Any]]:
    """Return the LLM figures of the gateways that had LLM calls, by gateway."""
    found = {name: item.get("llm") or {} for name, item in gateways.items()}
    return {name: item for name, item in found.items() if (item.get("calls") or {}).get("asked")}


def total(counted: Counts, ending: str) -> int:
    """Return how many calls ended so, over all gateways."""
    return sum(item["calls"].get(ending) or 0 for item in counted.values())


def slowest_first_token_ms(counted: Counts) -> float | None:
    """Return after how long 99 of 100 streamed answers had begun, of the slowest gateway; None when none did."""
    known = [item["first_token_p99_ms"] for item in counted.values() if item.get("first_token_p99_ms") is not None]
    return max(known, default=None)


def money(counted: Counts) -> str:
    """Say what all models were paid, as far as prices are set."""
    paid = sum(one.cost for one in answering(counted))
    currencies = dict.fromkeys(item["currency"] for item in counted.values() if item.get("currency"))
    return " ".join([f"{paid:,.4f}", *list(currencies)[:1]])


def static_answers(counted: Counts) -> int:
    """Return how many calls got a route's static answer instead of a model's."""
    return sum((item.get("cache_results") or {}).get("static") or 0 for item in counted.values())


@dataclass(frozen=True)
class Answering:
    """What one model of a provider did, over all gateways."""

    target: str
    attempts: int
    answered: int
    failed: int
    tokens: int
    cost: float


def answering(counted: Counts) -> list[Answering]:
    """Return the models that were asked, in the order in which the gateways tell of them."""
    names = dict.fromkeys(name for item in counted.values() for name in item.get("targets") or ())
    found = [
        _answering(name, [(item.get("targets") or {}).get(name) or {} for item in counted.values()]) for name in names
    ]
    return [one for one in found if one.attempts]


def _answering(name: str, told: list[Mapping[str, Any]]) -> Answering:
    attempts = [item.get("attempts") or {} for item in told]
    tokens = [item.get("tokens") or {} for item in told]
    return Answering(
        name,
        attempts=sum(sum(item.values()) for item in attempts),
        answered=sum(item.get("answered") or 0 for item in attempts),
        failed=sum(item.get("failed") or 0 for item in told),
        tokens=int(sum((item.get("input") or 0) + (item.get("output") or 0) for item in tokens)),
        cost=sum(item.get("cost") or 0.0 for item in told),
    )
