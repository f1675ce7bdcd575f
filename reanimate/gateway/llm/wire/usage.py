"""Tokens, out of what the two wires call usage. Pure."""

from typing import Any

from reanimate.gateway.llm.call import Usage

__all__ = ["merge_usage", "read_usage"]


def read_usage(given: Any) -> Usage | None:
    """Return the tokens of a `usage` object of any of our shapes, None if it is none.

    OpenAI counts what came from its cache within the input, Anthropic beside it: here it is always within.
    """
    if not isinstance(given, dict):
        return None
    if "prompt_tokens" in given or "completion_tokens" in given:
        cached = _detail(given.get("prompt_tokens_details"))
        return Usage(_count(given.get("prompt_tokens")), _count(given.get("completion_tokens")), cached)
    if "input_tokens" not in given and "output_tokens" not in given:
        return None
    if "input_tokens_details" in given:
        cached = _detail(given["input_tokens_details"])
        return Usage(_count(given.get("input_tokens")), _count(given.get("output_tokens")), cached)
    read, written = _count(given.get("cache_read_input_tokens")), _count(given.get("cache_creation_input_tokens"))
    return Usage(_count(given.get("input_tokens")) + read + written, _count(given.get("output_tokens")), read)


def merge_usage(known: Usage | None, later: Usage) -> Usage:
    """Return what is known after a later count of the same answer: totals, which may leave out what was said."""
    if known is None:
        return later
    return Usage(
        max(known.input_tokens, later.input_tokens),
        max(known.output_tokens, later.output_tokens),
        max(known.cached_tokens, later.cached_tokens),
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _detail(details: Any) -> int:
    return _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
