"""`POST /alerts/{source}`: authenticate, store, 202. Nothing else happens before the answer."""

import logging
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from reanimate.alerts.authentication import AuthenticationFailed
from reanimate.alerts.inbox import Inbox, Outcome
from reanimate.alerts.model import Arrival, RequestHead, digest
from reanimate.alerts.reading import WrongContentType
from reanimate.alerts.senders import Sender, senders
from reanimate.clock import utcnow
from reanimate.errors import InputInvalid, ReanimateError, Unreachable
from reanimate.web.metrics import Metrics

__all__ = ["handshake", "receive"]

log = logging.getLogger(__name__)

_DRAINED = 8
"""A body over the limit is read and thrown away up to this many limits, so that its sender sees our answer."""
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="alerts", Basic realm="alerts"'}


async def receive(request: Request) -> Response:
    """Take one delivery of one sender."""
    began = time.perf_counter()
    source = request.path_params["source"]
    counted: Metrics = request.app.state.metrics
    sender = senders().get(source)
    if sender is None:
        counted.deliveries.labels("unknown", "refused").inc()
        known = ", ".join(sorted(senders()))
        return _answer(404, {"error": f"no sender is called {source!r}", "hint": f"senders are: {known}"})
    try:
        outcome, response = await _take(request, sender)
    except ClientDisconnect:
        outcome, response = "cut", Response(status_code=400)  # nobody reads it: the sender left in the middle
    counted.deliveries.labels(source, outcome).inc()
    counted.accept_seconds.labels(source).observe(time.perf_counter() - began)
    return response


async def _take(request: Request, sender: Sender) -> tuple[str, Response]:
    """Return what became of the delivery, as the metric names it, and the answer."""
    services, now = request.app.state.services, utcnow()
    limit = services.settings.alerts.max_body_bytes
    body = await _body(request, limit)
    if body is None:
        return "refused", _answer(413, {"error": f"the body is over the limit of {limit} bytes"})
    head = RequestHead({name.lower(): value for name, value in request.headers.items()})
    try:
        sender.authenticate(head, body, services.settings.alerts, services.secrets, now)
    except AuthenticationFailed as error:
        log.warning("%s: %s", sender.SOURCE, error)
        return "refused", _answer(error.status, _problem(error), _CHALLENGE if error.status == 401 else {})
    try:
        arrival, problem = _read(sender, head, body, now)
        accepted = await _inbox(request).put(arrival)
    except Unreachable as error:
        log.critical("a delivery of %s was NOT kept: %s", sender.SOURCE, error)
        return "lost", _answer(503, _problem(error), {"Retry-After": "5"})
    if problem is not None:
        status = 415 if isinstance(problem, WrongContentType) else 400
        return "unreadable", _answer(status, {**_problem(problem), "delivery": accepted.id, "kept": True})
    request.app.state.folder.wake()
    match accepted.outcome:
        case Outcome.SPOOLED:
            content: dict[str, Any] = {"spooled": True}
        case Outcome.DUPLICATE:
            content = {"delivery": accepted.id, "duplicate": True}
        case Outcome.STORED:
            content = {"delivery": accepted.id}
    return accepted.outcome.value, _answer(202, content)


def _inbox(request: Request) -> Inbox:
    inbox: Inbox = request.app.state.inbox
    return inbox


async def _body(request: Request, limit: int) -> bytes | None:
    """Return the raw body, or None when it is over the limit."""
    content = bytearray()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            content += chunk
        elif size > limit * _DRAINED:
            break
    return bytes(content) if size <= limit else None


def _read(sender: Sender, head: RequestHead, body: bytes, now: datetime) -> tuple[Arrival, InputInvalid | None]:
    """Return the delivery, ready to be stored, and what is wrong with it, if anything is.

    An unreadable one is stored too: what a sender had to say is not lost because of how it said it.
    """
    problem: InputInvalid | None = None
    try:
        key = sender.read(head, body, now).delivery_key
    except InputInvalid as error:
        problem = error
    except Exception:  # a mistake of ours in reading it must not lose it: kept, logged, and the sender is told
        log.exception("reading a delivery of %s failed", sender.SOURCE)
        problem = InputInvalid("the body could not be read", hint="the log of the web process says why")
    if problem is not None:
        log.warning("%s: %s", sender.SOURCE, problem)
        key = "unreadable " + digest(head.content_type, body.hex())
    return (
        Arrival(
            source=sender.SOURCE,
            delivery_key=key,
            received_at=now,
            content_type=head.headers.get("content-type", "").replace("\x00", ""),
            headers={name: value.replace("\x00", "") for name, value in head.headers.items() if name.startswith("ce-")},
            body=body,
            state="stored" if problem is None else "unreadable",
            error=None if problem is None else str(problem).replace("\x00", ""),
        ),
        problem,
    )


async def handshake(request: Request) -> Response:
    """Answer the abuse protection handshake of the CloudEvents webhook specification: post as much as you like."""
    source = request.path_params["source"]
    if source not in senders():
        return _answer(404, {"error": f"no sender is called {source!r}"})
    headers = {"Allow": "POST, OPTIONS"}
    if origin := request.headers.get("webhook-request-origin"):
        headers |= {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*"}
    return Response(status_code=200, headers=headers)


def _problem(error: ReanimateError) -> dict[str, Any]:
    problem = {"error": Exception.__str__(error)}
    return {**problem, "hint": error.hint} if error.hint else problem


def _answer(status: int, content: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        orjson.dumps(content), status_code=status, media_type="application/json", headers=dict(headers or {})
    )
