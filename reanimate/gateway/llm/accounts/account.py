"""What one call adds to the figures when it has ended. Pure."""

from reanimate.gateway.llm.accounts.spread import bin_of
from reanimate.gateway.llm.call import REFUSED, Attempt, Call, Ending

__all__ = ["COST", "Key", "account", "is_unanswered", "outcome_of"]

Key = tuple[str | int, ...]
"""What is counted: its name, then whose."""

COST = "cost"
_ASKED = (Ending.ANSWERED, Ending.DEGRADED, Ending.FAILED)
_HELD = ("held", "not_cached")
"""Kinds of errors of calls for which nobody was to be asked: they say nothing about providers. If they did, a rule that
holds calls back would see its own work and never let go."""
_NAMES = {ending: ending.value for ending in Ending}


def is_unanswered(call: Call) -> bool:
    """Say whether providers were to answer and none did, whatever the caller got instead."""
    if call.error is not None and call.error.kind in _HELD:
        return False
    return call.ending is Ending.FAILED or (call.ending is Ending.DEGRADED and call.error is not None)


def outcome_of(attempt: Attempt) -> str:
    """Return how an attempt ended: answered, lost (another one was faster), unused, or the kind of failure."""
    if attempt.failure is not None:
        return attempt.failure.kind
    if attempt.lost_race:
        return "lost"
    return "answered" if attempt.served else "unused"


def account(call: Call, tenant: str, now: float, counts: dict[Key, float]) -> None:
    """Add a call to `counts`. `tenant` is the name to count it under, `now` is of the loop's clock."""
    route, ending, error = call.route.name, call.ending or Ending.ABANDONED, call.error
    get = counts.get
    key: Key = ("calls", route, tenant, _NAMES[ending])
    counts[key] = get(key, 0) + 1
    key = ("cache", call.cache)
    counts[key] = get(key, 0) + 1
    if error is not None and ending is not Ending.DEGRADED:
        key = ("errors", route, error.kind)
        counts[key] = get(key, 0) + 1
    first = None
    for attempt in call.attempts:
        _attempt(attempt, route, tenant, counts)
        if attempt.served and first is None:
            first = attempt.first_token_at
    # Answers out of the cache say nothing about providers, and neither does who was refused, or left.
    if ending in _ASKED and (call.attempts or (error is not None and error.kind not in _HELD)):
        key = ("asked", route)
        counts[key] = get(key, 0) + 1
        # Not from the caller's arrival: a queue of our own is no slowness of the providers.
        key = ("took", route, bin_of(now - (call.attempts[0].began if call.attempts else call.began)))
        counts[key] = get(key, 0) + 1
        if first is not None:
            key = ("first", route, bin_of(first - call.began))
            counts[key] = get(key, 0) + 1
        if is_unanswered(call):
            key = ("unanswered", route)
            counts[key] = get(key, 0) + 1


def _attempt(attempt: Attempt, route: str, tenant: str, counts: dict[Key, float]) -> None:
    get, target, failure = counts.get, attempt.target.name, attempt.failure
    key: Key = ("attempts", target, outcome_of(attempt))
    counts[key] = get(key, 0) + 1
    if failure is not None and failure.counts:
        key = ("target_failed", target)
        counts[key] = get(key, 0) + 1
    if attempt.purpose != "first":
        key = ("purpose", route, attempt.purpose)
        counts[key] = get(key, 0) + 1
        if attempt.served and attempt.purpose == "hedge":
            key = ("purpose", route, "hedge_won")
            counts[key] = get(key, 0) + 1
    if failure is None and attempt.ended is not None and not attempt.lost_race:
        key = ("target_took", target, bin_of(attempt.ended - attempt.began))
        counts[key] = get(key, 0) + 1
        if attempt.first_token_at is not None:
            key = ("target_first", target, bin_of(attempt.first_token_at - attempt.began))
            counts[key] = get(key, 0) + 1
    if attempt.finish in REFUSED or (failure is not None and failure.kind == "content_policy"):
        key = ("refused_content", tenant)
        counts[key] = get(key, 0) + 1
    if attempt.finish:
        key = ("finishes", target, attempt.finish)
        counts[key] = get(key, 0) + 1
    if (usage := attempt.usage) is not None:
        cost = attempt.target.price(usage.input_tokens, usage.output_tokens)
        tokens = usage.input_tokens + usage.output_tokens
        more: tuple[tuple[Key, float], ...] = (
            (("tokens", target, "input"), usage.input_tokens),
            (("tokens", target, "output"), usage.output_tokens),
            (("tokens", target, "cached"), usage.cached_tokens),
            (("tenant_tokens", tenant), tokens),
            ((COST, target), cost),
            (("tenant_cost", tenant), cost),
            (("cost_unserved", target), 0.0 if attempt.served else cost),
        )
        for key, count in more:
            if count:
                counts[key] = get(key, 0) + count
