"""All that is kept of a call after its end: no prompt, no answer, no key's value."""

from typing import Any

from reanimate.gateway.llm.account import outcome_of
from reanimate.gateway.llm.call import Attempt, Call, Usage

__all__ = ["record_of"]


def record_of(call: Call, now: float, wall: float) -> dict[str, Any]:
    """Return the record of a call that ended `now` (of the loop's clock), which is `wall` in seconds of the epoch."""
    prompt, error = call.prompt, call.error
    spent = sum(
        attempt.target.price(attempt.usage.input_tokens, attempt.usage.output_tokens)
        for attempt in call.attempts
        if attempt.usage is not None
    )
    target = call.answered_by
    return {
        "id": call.id,
        "began": wall - (now - call.began),
        "took_ms": _ms(now - call.began),
        "route": call.route.name,
        "asked_for": prompt.model[:200],
        "tenant": call.tenant.name,
        "shape": prompt.endpoint.shape,
        "stream": prompt.stream,
        "ending": call.ending,
        "answered_by": target.name if target is not None else None,
        "cache": call.cache,
        "degraded": call.degraded,
        "error": None
        if error is None
        else {"status": error.status, "kind": error.kind, "message": error.message[:1_000]},
        "usage": _usage(call.usage),
        "cost": spent,
        "attempts": [_attempt(attempt, call.began) for attempt in call.attempts],
    }


def _ms(seconds: float) -> float:
    return int(seconds * 100_000 + 0.5) / 100


def _after(moment: float | None, began: float) -> float | None:
    return None if moment is None else _ms(moment - began)


def _usage(usage: Usage | None) -> dict[str, int] | None:
    if usage is None:
        return None
    return {"input": usage.input_tokens, "output": usage.output_tokens, "cached": usage.cached_tokens}


def _attempt(attempt: Attempt, began: float) -> dict[str, Any]:
    """Return an attempt; its times are milliseconds after the call's beginning."""
    failure = attempt.failure
    return {
        "target": attempt.target.name,
        "key": attempt.key.name if attempt.key is not None else None,
        "purpose": attempt.purpose,
        "outcome": outcome_of(attempt),
        "detail": failure.detail[:500] if failure is not None else None,
        "status": attempt.status,
        "began_ms": _ms(attempt.began - began),
        "head_ms": _after(attempt.head_at, began),
        "first_token_ms": _after(attempt.first_token_at, began),
        "ended_ms": _after(attempt.ended, began),
        "served": attempt.served,
        "usage": _usage(attempt.usage),
    }
