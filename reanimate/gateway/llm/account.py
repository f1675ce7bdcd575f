"""What one call adds to the figures when it has ended. Pure."""

from collections.abc import Iterator

from reanimate.gateway.llm.call import Attempt, Call, Ending
from reanimate.gateway.llm.spread import bin_of

__all__ = ["COST", "Key", "account", "is_unanswered", "outcome_of"]

Key = tuple[str | int, ...]
"""What is counted: its name, then whose."""

COST = "cost"
_ASKED = frozenset({Ending.ANSWERED, Ending.DEGRADED, Ending.FAILED})


def is_unanswered(call: Call) -> bool:
    """Say whether providers were to answer and none did, whatever the caller got instead."""
    return call.ending is Ending.FAILED or (call.ending is Ending.DEGRADED and call.error is not None)


def outcome_of(attempt: Attempt) -> str:
    """Return how an attempt ended: answered, lost (another one was faster), unused, or the kind of failure."""
    if attempt.failure is not None:
        return attempt.failure.kind
    if attempt.lost_race:
        return "lost"
    return "answered" if attempt.served else "unused"


def account(call: Call, tenant: str, now: float) -> Iterator[tuple[Key, float]]:
    """Yield what to add. `tenant` is the name to count it under, `now` is of the loop's clock."""
    route, ending = call.route.name, call.ending or Ending.ABANDONED
    yield ("calls", route, tenant, ending), 1
    yield ("cache", call.cache), 1
    if call.error is not None and ending is not Ending.DEGRADED:
        yield ("errors", route, call.error.kind), 1
    if call.attempts:
        yield from _attempts(call, route, tenant)
    # Answers out of the cache say nothing about providers, and neither does who was refused, or left.
    if ending in _ASKED and (call.attempts or call.error is not None):
        yield ("asked", route), 1
        yield ("took", route, bin_of(now - call.began)), 1
        if is_unanswered(call):
            yield ("unanswered", route), 1
        first = next((each.first_token_at for each in call.attempts if each.served and each.first_token_at), None)
        if first is not None:
            yield ("first", route, bin_of(first - call.began)), 1


def _attempts(call: Call, route: str, tenant: str) -> Iterator[tuple[Key, float]]:
    for attempt in call.attempts:
        target = attempt.target.name
        yield ("attempts", target, outcome_of(attempt)), 1
        if attempt.failure is not None and attempt.failure.counts:
            yield ("target_failed", target), 1
        if attempt.purpose != "first":
            yield ("purpose", route, attempt.purpose), 1
            if attempt.served and attempt.purpose == "hedge":
                yield ("purpose", route, "hedge_won"), 1
        if attempt.failure is None and attempt.ended is not None and not attempt.lost_race:
            yield ("target_took", target, bin_of(attempt.ended - attempt.began)), 1
            if attempt.first_token_at is not None:
                yield ("target_first", target, bin_of(attempt.first_token_at - attempt.began)), 1
        if (usage := attempt.usage) is not None:
            yield ("tokens", target, "input"), usage.input_tokens
            yield ("tokens", target, "output"), usage.output_tokens
            if usage.cached_tokens:
                yield ("tokens", target, "cached"), usage.cached_tokens
            yield ("tenant_tokens", tenant), usage.input_tokens + usage.output_tokens
            if cost := attempt.target.price(usage.input_tokens, usage.output_tokens):
                yield (COST, target), cost
                yield ("tenant_cost", tenant), cost
                if not attempt.served:
                    yield ("cost_unserved", target), cost
