"""Saying an error in the shape of the caller's wire, so that the vendor's own client raises what it stands for."""

import math
from typing import Any

import orjson

from reanimate.gateway.llm.call import Attempt, Call
from reanimate.gateway.llm.catalogue import Wire
from reanimate.gateway.llm.endpoints import Endpoint, Shape
from reanimate.gateway.llm.failures import Failure, Rejected

__all__ = ["error_answer", "error_body", "error_event", "provider_error"]

_OPENAI_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "invalid_request_error", 422: "invalid_request_error", 429: "rate_limit_error",
}  # fmt: skip
_ANTHROPIC_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 413: "request_too_large", 422: "invalid_request_error", 429: "rate_limit_error",
    504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip
_RETRY_IS_VAIN = frozenset(
    ("quota_exhausted", "killed", "no_route", "no_target", "too_large", "bad_request", "unauthorized", "not_found",
     "deadline", "broken_off")
)  # fmt: skip
"""The vendors' clients try again by themselves after a 429 or a 5xx, unless they are told not to."""


def error_answer(
    endpoint: Endpoint, rejected: Rejected, call: Call | None = None
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return status, headers and body of the answer that tells the caller of `rejected`."""
    body = error_body(endpoint.wire, rejected, call)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    passed = rejected.passed
    retry_after_s = rejected.retry_after_s
    if retry_after_s is None and passed is not None:
        retry_after_s = passed.retry_after_s
    if retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(retry_after_s))))
        headers.append((b"retry-after-ms", b"%d" % max(1, math.ceil(retry_after_s * 1000))))
    elif rejected.kind in _RETRY_IS_VAIN:
        headers.append((b"x-should-retry", b"false"))
    if call is not None:
        headers.append((b"x-request-id" if endpoint.wire == "openai" else b"request-id", call.id.encode()))
    return rejected.status, headers, body


def error_body(wire: Wire, rejected: Rejected, call: Call | None = None) -> bytes:
    """Return the JSON document that tells of `rejected` on `wire`."""
    passed = rejected.passed
    attempts = call.attempts if call is not None else []
    if passed is not None and passed.body and len(attempts) <= 1 and _wire_of(passed.body) == wire:
        return passed.body
    error = _error(wire, rejected, call)
    if wire == "openai":
        return orjson.dumps({"error": error})
    return orjson.dumps({"type": "error", "error": error, "request_id": call.id if call is not None else None})


def error_event(endpoint: Endpoint, rejected: Rejected, call: Call | None = None) -> bytes:
    """Return the event of a stream at which the vendor's client raises `rejected`."""
    error = _error(endpoint.wire, rejected, call)
    if endpoint.shape is Shape.MESSAGES:
        told = orjson.dumps({"type": "error", "error": error, "request_id": call.id if call is not None else None})
        return b"event: error\ndata: " + told + b"\n\n"
    if endpoint.shape is Shape.RESPONSES:
        # The fields of the documented event, and `error`, which is what the client looks for.
        event = {
            "type": "error", "code": error["code"], "message": error["message"], "param": error["param"], "error": error
        }  # fmt: skip
        return b"event: error\ndata: " + orjson.dumps(event) + b"\n\n"
    return b"data: " + orjson.dumps({"error": error}) + b"\n\n"


def provider_error(body: bytes) -> dict[str, Any] | None:
    """Return what a provider's error document says: its object with `message`, and `type` or `code`; else None."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if isinstance(fields, list) and len(fields) == 1:
        fields = fields[0]  # so does Google's OpenAI-compatible server
    if not isinstance(fields, dict):
        return None
    error = fields.get("error", fields)
    if isinstance(told := error if isinstance(error, str) else fields.get("detail"), str):
        return {"message": told}
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return error
    return None


def _wire_of(body: bytes) -> Wire | None:
    """Say in whose shape an error is; None if in neither."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(fields, dict) or not isinstance(error := fields.get("error"), dict):
        return None
    if not isinstance(error.get("message"), str):
        return None
    return "anthropic" if fields.get("type") == "error" else "openai"


def _error(wire: Wire, rejected: Rejected, call: Call | None) -> dict[str, Any]:
    passed = rejected.passed
    own = provider_error(passed.body) if passed is not None and passed.body else None
    message = own["message"] if own is not None else rejected.message
    attempts = call.attempts if call is not None else []
    if len(attempts) > 1 or (attempts and own is None):
        told = "; ".join(f"{n}. {_attempt_in_words(attempt)}" for n, attempt in enumerate(attempts, start=1))
        message = f"{message} [{told}]"
    error: dict[str, Any]
    if wire == "openai":
        error = {
            "message": message,
            "type": _openai_type(rejected),
            "param": own.get("param") if own is not None else None,
            "code": _code(own, passed) if own is not None else rejected.kind,
        }
    else:
        error = {"type": _ANTHROPIC_TYPES.get(rejected.status, _other(rejected.status)), "message": message}
    error["reanimate"] = {
        "kind": rejected.kind,
        "call": call.id if call is not None else None,
        "attempts": [_attempt_as_data(attempt) for attempt in attempts],
    }
    return error


def _openai_type(rejected: Rejected) -> str:
    if rejected.kind == "quota_exhausted":
        return "insufficient_quota"
    return _OPENAI_TYPES.get(rejected.status, "server_error" if rejected.status >= 500 else "invalid_request_error")


def _other(status: int) -> str:
    return "api_error" if status >= 500 else "invalid_request_error"


def _code(own: dict[str, Any], passed: Failure | None) -> str | None:
    """Return the provider's code; Anthropic has types only, OpenAI's clients look at codes."""
    if (code := own.get("code")) is not None:
        return str(code)
    kind = passed.kind if passed is not None else None
    return {"context_length": "context_length_exceeded", "content_policy": "content_filter"}.get(
        kind or "", own.get("type")
    )


def _attempt_in_words(attempt: Attempt) -> str:
    if attempt.failure is not None:
        return f"{attempt.target.name}: {attempt.failure.kind}, {attempt.failure.detail}"
    return f"{attempt.target.name}: {'slower than another' if attempt.lost_race else 'not used'}"


def _attempt_as_data(attempt: Attempt) -> dict[str, Any]:
    failure = attempt.failure
    return {
        "target": attempt.target.name,
        "purpose": attempt.purpose,
        "status": attempt.status,
        "kind": failure.kind if failure is not None else None,
        "detail": failure.detail if failure is not None else None,
        "ms": round((attempt.ended - attempt.began) * 1000) if attempt.ended is not None else None,
    }
