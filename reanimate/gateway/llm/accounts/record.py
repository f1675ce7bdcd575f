"""All that is kept of a call after its end: no prompt, no answer, no key's value."""

from dataclasses import dataclass
from typing import Any

from reanimate.gateway.llm.accounts.account import outcome_of
from reanimate.gateway.llm.call import Attempt, Call, Ending, Tenant, Usage
from reanimate.gateway.llm.catalogue import Route
from reanimate.gateway.llm.endpoints import Endpoint
from reanimate.gateway.llm.failures import Rejected

__all__ = ["Brief", "brief_of", "record_of"]

_WELL = (Ending.ANSWERED, Ending.DEGRADED)


@dataclass(slots=True)  # not frozen: that would cost a microsecond for each call
class Brief:
    """A call that the first who was asked answered: what its record is made of when somebody looks it up."""

    id: str
    ended: float
    wall: float
    began: float
    route: Route
    asked_for: str
    tenant: Tenant
    endpoint: Endpoint
    stream: bool
    cache: str
    usage: Usage
    attempts: list[Attempt]
    ending: Ending | None
    degraded: list[str]

    def record(self) -> dict[str, Any]:
        """Return the same as `record_of` did when it ended."""
        return _record(self, self.attempts[0].target.name, None)


def brief_of(call: Call, now: float, wall: float) -> Brief | None:
    """Return what to keep of a call that went well at once; None: there is more to say, `record_of` does.

    `now` is of the loop's clock, `wall` the same moment in seconds of the epoch.
    """
    attempts = call.attempts
    # Degraded is also what another than the first choice answered: in an outage, every call.
    if len(attempts) != 1 or call.error is not None or call.ending not in _WELL:
        return None
    attempt = attempts[0]
    if not attempt.served or attempt.failure is not None:
        return None
    return _brief(call, now, wall)


def record_of(call: Call, now: float, wall: float) -> dict[str, Any]:
    """Return the record of a call that ended `now` (of the loop's clock), which is `wall` in seconds of the epoch."""
    target = call.answered_by
    answered_by = target.name if target is not None else None
    return _record(_brief(call, now, wall), answered_by, call.error)


def _brief(call: Call, now: float, wall: float) -> Brief:
    prompt = call.prompt
    return Brief(
        call.id, now, wall, call.began, call.route, prompt.model[:200], call.tenant, prompt.endpoint, prompt.stream,
        call.cache, call.usage, call.attempts, call.ending, call.degraded,
    )  # fmt: skip


def _record(call: Brief, answered_by: str | None, error: Rejected | None) -> dict[str, Any]:
    spent = sum(
        attempt.target.price(attempt.usage.input_tokens, attempt.usage.output_tokens)
        for attempt in call.attempts
        if attempt.usage is not None
    )
    return {
        "id": call.id,
        "began": call.wall - (call.ended - call.began),
        "took_ms": _ms(call.ended - call.began),
        "route": call.route.name,
        "asked_for": call.asked_for,
        "tenant": call.tenant.name,
        "shape": call.endpoint.shape,
        "stream": call.stream,
        "ending": call.ending,
        "answered_by": answered_by,
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
    told = {"input": usage.input_tokens, "output": usage.output_tokens, "cached": usage.cached_tokens}
    return {**told, "estimated": True} if usage.estimated else told


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
