"""What a caller is told when nobody could answer. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reanimate.gateway.llm.call import Attempt
from reanimate.gateway.llm.failures import Failure, Help, Rejected

__all__ = ["AllFailed", "Tried", "all_failed", "passed_on", "why_not"]

_PAUSED = frozenset(("rate_limited", "quota"))
_NO_ANSWER = frozenset(("timeout", "stall", "connect_timeout"))
_WITH_NOBODY = (frozenset(("not_stored", "not_offered")), frozenset(("too_large",)))
"""What was asked for is with nobody, or nobody takes so much: the caller hears it as the first provider said it."""
_SOON_S = 1.0
"""When it may be tried again, if nobody says: about when the next probes have been made."""


class AllFailed(Rejected):
    """Nobody answered, or nobody may be asked."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt, or one target that was not asked because of an earlier failure."""

    target: str
    failure: Failure
    asked: bool = True
    pause_s: float | None = None


def why_not(first: str, attempts: Sequence[Attempt], known: Failure | None) -> str:
    """Return in words why somebody else than the first choice answered; `known`: what was known of it before."""
    for attempt in attempts:
        if attempt.target.name == first:
            return f"{first}: {attempt.failure.kind if attempt.failure is not None else 'late'}"
    return f"{first}: {known.kind if known is not None else 'passed over'}"


def passed_on(target: str, failure: Failure) -> AllFailed:
    """Return the provider's own refusal, for the caller who alone can do something about it."""
    status = failure.status if failure.status is not None and 400 <= failure.status < 500 else 400
    return AllFailed(status, failure.kind, f"{target}: {failure.detail}", passed=failure if failure.body else None)


def all_failed(route: str, tried: Sequence[Tried], unfit: Mapping[str, str], *, late: bool) -> AllFailed:
    """Return the error for a call that nobody answered; `late`: because its time was up.

    The status says what the caller can do: 429 come back later, all are at their limit; 504 nobody answered in time;
    502 they answered with errors; 503 nobody is there to be asked now; the provider's own where the call is at fault.
    """
    account = _account(tried, unfit)
    if not tried:
        what = f"no target of route {route!r} can take this call"
        return AllFailed(400 if unfit else 503, "no_target", f"{what} ({account})" if account else what)
    failures = [one.failure for one in tried]
    own = next((one for one in tried if one.failure.help in (Help.LARGER, Help.NONE)), None)
    if own is None and any(all(failure.kind in kinds for failure in failures) for kinds in _WITH_NOBODY):
        own = tried[0]
    if own is not None:
        return AllFailed(
            _own_status(own.failure), own.failure.kind, f"{own.target}: {own.failure.detail} ({account})",
            passed=own.failure if own.failure.body else None,
        )  # fmt: skip
    message = f"no provider of route {route!r} could answer ({account})"
    if all(failure.kind in _PAUSED for failure in failures):
        pauses = [one.pause_s for one in tried if one.pause_s is not None]
        return AllFailed(429, "all_failed", message, retry_after_s=min(pauses, default=_SOON_S))
    if all(failure.kind in ("unauthorized", "forbidden", "not_found") for failure in failures):
        # The gateway's own keys or models are wrong; that is not for the caller to mend.
        return AllFailed(502, "all_failed", message)
    if not any(one.asked for one in tried):
        pauses = [one.pause_s for one in tried if one.pause_s is not None]
        return AllFailed(503, "no_target", message, retry_after_s=max(min(pauses, default=_SOON_S), _SOON_S))
    first = next(one.failure for one in tried if one.asked)
    status = 504 if late or first.kind in _NO_ANSWER else 503 if first.kind == "overloaded" else 502
    return AllFailed(status, "deadline" if late else "all_failed", message, retry_after_s=_SOON_S)


def _own_status(failure: Failure) -> int:
    return failure.status if failure.status is not None and 400 <= failure.status < 500 else 400


def _account(tried: Sequence[Tried], unfit: Mapping[str, str]) -> str:
    said = [
        f"{one.target}: {one.failure.detail}"
        if one.asked
        else f"{one.target}: not asked, since before: {one.failure.detail}"
        for one in tried
    ]
    return "; ".join([*said, *(f"{name} {why}" for name, why in unfit.items())])
