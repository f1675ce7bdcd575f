"""What kind of failure it is when a provider does not answer: by its status, its words, or how the connection broke."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson

from reanimate.gateway.llm.endpoints import Endpoint, Shape
from reanimate.gateway.llm.failover.error_rules import rule_for
from reanimate.gateway.llm.failover.patience import asked_pause
from reanimate.gateway.llm.failures import Failure, Help
from reanimate.gateway.llm.transport.errors import TransportFailed, TransportTrouble

__all__ = ["as_to_endpoint", "classify", "classify_broken", "classify_error", "garbage"]

_WORDS_KEPT = 300
_PASSED_ON = 64 * 1024
"""An error longer than this is told in our words only."""


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


def as_to_endpoint(endpoint: Endpoint, failure: Failure) -> Failure:
    """Return what a failure means that was met at an endpoint which many compatible servers do not have.

    That one is not there says nothing about the model, which answers at the others.
    """
    if endpoint.shape not in _NOT_EVERYWHERE or failure.kind != "not_found":
        return failure
    detail = f"has no {endpoint.path.decode()}, or not this model there: {failure.detail}"
    return replace(failure, kind="not_offered", help=Help.NEXT, detail=detail, retry_after_s=None, counts=False)


def garbage(detail: str) -> Failure:
    """Return what an answer means that is none, though its status says that all is well."""
    return Failure("garbage", Help.NEXT, detail)


def classify_broken(failed: TransportFailed) -> Failure:
    """Return what a broken connection means."""
    kind, helps = _BROKEN[failed.kind]
    return Failure(kind, helps, failed.detail)


_NOT_EVERYWHERE = (Shape.RESPONSES, Shape.COUNT_TOKENS)
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


def _apply(error: dict[str, Any], status: int | None, headers: Iterable[tuple[bytes, bytes]], now: datetime) -> Failure:
    named = " ".join(_names(error))
    message = error.get("message", error.get("detail", ""))
    said = message if isinstance(message, str) else str(message)
    rule = rule_for(status, named, said)
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


def _names(error: dict[str, Any]) -> list[str]:
    inner = error.get("innererror")
    found = (
        error.get("code"),
        error.get("type"),
        inner.get("code") if isinstance(inner, dict) else None,
        error.get("status"),
    )
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
