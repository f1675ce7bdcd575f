"""What kind of failure an error is, by status and words. Pure: a table, and how it is read.

The words are those of OpenAI, Anthropic, Azure, OpenRouter, Google, Mistral, Groq, DeepSeek, vLLM, llama.cpp and Ollama.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from reanimate.gateway.llm.failures import Failure, Help
from reanimate.gateway.llm.patience import asked_pause
from reanimate.gateway.llm.transport.errors import TransportFailed, TransportTrouble

__all__ = ["classify", "classify_broken", "classify_error", "garbage"]

_WORDS_KEPT = 300
_PASSED_ON = 64 * 1024
"""An error longer than this is told in our words only."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """The first rule that fits decides. Words are looked for in the error's type and code, then in its message."""

    kind: str
    help: Help
    statuses: frozenset[int] = frozenset()
    """Any, when empty."""
    named: re.Pattern[str] | None = None
    says: re.Pattern[str] | None = None
    counts: bool = False


def _any(*words: str) -> re.Pattern[str]:
    return re.compile("|".join(words), re.IGNORECASE)


_RULES = (
    _Rule(
        "quota",
        Help.KEY,
        named=_any("insufficient_quota", "billing", "quota_exceeded", "account_deactivated", "insufficient_balance"),
    ),
    _Rule("quota", Help.KEY, statuses=frozenset((402,))),
    _Rule(
        "quota",
        Help.KEY,
        statuses=frozenset((400, 403, 429)),
        says=_any(
            "credit balance is too low", "insufficient (?:credit|balance|funds)", "specified API usage limits",
            "exceeded your current quota", "out of credits", "organization has been disabled", "account is not active",
        ),
    ),
    _Rule(
        "context_length",
        Help.LARGER,
        named=_any("context_length", "exceed_context_size", "string_above_max_length", "request_too_large$"),
    ),
    _Rule(
        "context_length",
        Help.LARGER,
        statuses=frozenset((400, 413, 422, 500)),
        says=_any(
            "maximum context length", "prompt is too long", "exceeds? (?:the )?(?:available )?context (?:limit|size|window)",
            "context (?:length|window|size) (?:of|is|exceeded)", "input (?:is|length is|tokens exceed) too (?:long|large)",
            "exceed context limit", "too many (?:input )?tokens", "longer than the (?:model's|maximum) (?:context|input)",
            "input token count .* exceeds", "max_prompt_length",
        ),
    ),
    _Rule(
        "content_policy",
        Help.NONE,
        named=_any(
            "content_policy", "content_filter", "responsibleaipolicy", "moderation", "safety", "invalid_prompt",
            "model_content_error",
        ),
    ),
    _Rule(
        "content_policy",
        Help.NONE,
        statuses=frozenset((400, 403, 422)),
        says=_any(
            "content (?:filter|policy|management policy)", "usage polic", "safety (?:system|setting)",
            "requires moderation", "was flagged", "content filtering policy",
        ),
    ),
    _Rule("unauthorized", Help.KEY, named=_any("invalid_api_key", "authentication_error", "invalid_authentication")),
    _Rule("unauthorized", Help.KEY, statuses=frozenset((401,))),
    _Rule("forbidden", Help.KEY, statuses=frozenset((403,))),
    # Whole model names and deployments that are not there: the provider is well, but this target is of no use.
    _Rule("not_found", Help.NEXT, named=_any("model_not_found", "deploymentnotfound", "not_found_error")),
    _Rule("not_found", Help.NEXT, statuses=frozenset((404, 405, 410))),
    # A request that is too large for the tokens per minute never fits, however long one waits.
    _Rule("too_large", Help.NEXT, statuses=frozenset((413,))),
    _Rule("rate_limited", Help.KEY, statuses=frozenset((429,)), says=_any("rate.?limit", "too many requests")),
    _Rule("overloaded", Help.NEXT, named=_any("overloaded", "slow_down", "nocapacity", "engine_overloaded"), counts=True),
    _Rule("overloaded", Help.NEXT, statuses=frozenset((503, 529)), says=_any(
        "overload", "busy", "capacity", "loading", "no available model provider"), counts=True),
    _Rule("rate_limited", Help.KEY, statuses=frozenset((429,))),
    _Rule("rate_limited", Help.KEY, named=_any("rate_limit", "rate_limited", "resource_exhausted", "throttl")),
    _Rule("overloaded", Help.NEXT, statuses=frozenset((529,)), counts=True),
    _Rule("http_{status}", Help.RETRY, statuses=frozenset((408, 409, 425)), counts=True),
    _Rule("http_{status}", Help.NEXT, statuses=frozenset((501, 505)), counts=True),
    _Rule("http_{status}", Help.RETRY, statuses=frozenset(range(500, 600)), counts=True),
    _Rule("bad_request", Help.NONE, statuses=frozenset(range(400, 500))),
    # A redirect, or a status that nobody knows.
    _Rule("http_{status}", Help.NEXT, statuses=frozenset(range(100, 1000)), counts=True),
    # Errors that came with status 200: what follows knows them by their name only.
    _Rule("bad_request", Help.NONE, named=_any("invalid_request", "badrequest", "invalid_argument")),
    _Rule("error_event", Help.NEXT, counts=True),
)  # fmt: skip


def classify(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, now: datetime) -> Failure:
    """Return what an answer with a status from 300 on means; `now` is for dates in its headers."""
    error = _error_in(body)
    failure = _apply(error if error is not None else {"message": _plain(body)}, status, headers, now)
    if error is None or status < 400 or len(body) > _PASSED_ON:
        return failure
    return _with_body(failure, body)


def classify_error(error: dict[str, Any], now: datetime, body: bytes = b"") -> Failure:
    """Return what an error means that came with status 200, in an answer or as an event of a stream."""
    code = error.get("code", error.get("status"))
    status = code if isinstance(code, int) and 400 <= code < 600 else None
    failure = _apply(error, status, (), now)
    if failure.help is Help.NONE and status is None:
        # Passed on it needs a status of its own.
        failure = Failure(failure.kind, failure.help, failure.detail, 400, body, counts=False)
    return failure


def garbage(detail: str) -> Failure:
    """Return what an answer means that is none, though its status says that all is well."""
    return Failure("garbage", Help.NEXT, detail)


def classify_broken(failed: TransportFailed) -> Failure:
    """Return what a broken connection means."""
    kind, helps = _BROKEN[failed.kind]
    return Failure(kind, helps, failed.detail)


_BROKEN = {
    TransportTrouble.REFUSED: ("refused", Help.NEXT),
    TransportTrouble.CONNECT_TIMEOUT: ("connect_timeout", Help.NEXT),
    TransportTrouble.TLS: ("tls", Help.NEXT),
    TransportTrouble.RESET: ("reset", Help.RETRY),
    TransportTrouble.CUT: ("cut", Help.RETRY),
    TransportTrouble.NOT_HTTP: ("garbage", Help.NEXT),
    TransportTrouble.TOO_LARGE: ("garbage", Help.NEXT),
}


def _error_in(body: bytes) -> dict[str, Any] | None:
    """Return the error in a body: {"error": {…}}, {"error": "…"}, [{"error": …}], or vLLM's {"object": "error", …}."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if isinstance(found, list) and found:
        found = found[0]
    if not isinstance(found, dict):
        return None
    error = found.get("error")
    if isinstance(error, dict):
        return error
    if isinstance(error, str):
        return {**found, "message": error}
    return found if found.keys() & {"message", "detail"} else None


def _apply(
    error: dict[str, Any], status: int | None, headers: Iterable[tuple[bytes, bytes]], now: datetime
) -> Failure:
    named = " ".join(_names(error))
    message = error.get("message", error.get("detail", ""))
    said = message if isinstance(message, str) else str(message)
    rule = next(rule for rule in _RULES if _fits(rule, status, named, said))
    label = next((name for name in _names(error) if not name.isdigit()), "")
    words = ": ".join(part for part in (label, said[:_WORDS_KEPT]) if part)
    head = f"answered {status}" if status is not None else "said within its answer"
    pause = asked_pause(headers, f"{said} {_delays(error)}", now) if rule.help is not Help.NONE else None
    return Failure(
        rule.kind.format(status=status),
        rule.help,
        f"{head}: {words}" if words else head,
        status,
        retry_after_s=pause,
        counts=rule.counts,
    )


def _fits(rule: _Rule, status: int | None, named: str, said: str) -> bool:
    if rule.statuses and status not in rule.statuses:
        return False
    if rule.named is not None:
        return rule.named.search(named) is not None
    return rule.says is None or rule.says.search(said) is not None


def _names(error: dict[str, Any]) -> list[str]:
    inner = error.get("innererror")
    found = (error.get("code"), error.get("type"), inner.get("code") if isinstance(inner, dict) else None, error.get("status"))
    return [str(name) for name in found if isinstance(name, str | int) and name != ""]


def _delays(error: dict[str, Any]) -> str:
    """Return where Google hides how long to wait."""
    details = error.get("details")
    return str(details) if isinstance(details, list) and "retryDelay" in str(details) else ""


def _plain(body: bytes) -> str:
    return " ".join(body[:_WORDS_KEPT].decode("utf-8", "replace").split())


def _with_body(failure: Failure, body: bytes) -> Failure:
    return Failure(
        failure.kind, failure.help, failure.detail, failure.status, body, failure.retry_after_s, failure.counts
    )
