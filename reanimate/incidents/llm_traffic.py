"""What gateways counted of the calls to language models, from a `figures` entry. Pure."""

from collections.abc import Mapping
from typing import Any

__all__ = ["LLM_ENDINGS", "llm_counts", "slowest_first_token_ms", "total"]

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
