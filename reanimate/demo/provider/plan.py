"""What is sent when: an answer and the faults that hit it, as steps on the wire."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from reanimate.demo.provider.answering import WIRES, Prepared
from reanimate.demo.provider.errors import error_body, error_event
from reanimate.demo.provider.faults import Fault
from reanimate.demo.provider.script import Script

__all__ = ["Ending", "Plan", "Step", "plan_of"]

_HTML = b"<!doctype html><html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
_CLOSING = ("reset", "close", "hang")
_FOREVER = float("inf")
_HEADERS = {
    "rate_limit": {"retry-after": "1", "retry-after-ms": "1400", "x-ratelimit-reset-tokens": "1.4s",
                   "x-ratelimit-remaining-tokens": "0"},
    "overloaded": {"x-should-retry": "true"},
}  # fmt: skip


@dataclass(slots=True)
class Step:
    """Wait, then write; `token` when the bytes hold one."""

    data: bytes
    wait_s: float = 0.0
    token: bool = False


Ending = str
"""`answered` (the connection stays), `hang`, or how the connection ends: `rst` or `fin`."""


@dataclass(slots=True)
class Plan:
    """The steps of one answer and what comes after the last."""

    status: int
    steps: list[Step] = field(default_factory=list)
    ending: Ending = "answered"


def head(status: int, kind: bytes, length: int | None, extra: Sequence[tuple[str, str]] = ()) -> bytes:
    """Return the head of an answer; without a length it is chunked."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Overloaded" if status == 529 else "Unknown"
    size = b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length
    more = "".join(f"{name}: {value}\r\n" for name, value in extra).encode("latin-1")
    return b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\n%s\r\n%s\r\n" % (status, reason.encode(), kind, size, more)


def chunk(data: bytes) -> bytes:
    """Return bytes as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


_LAST = b"0\r\n\r\n"
_JSON, _EVENTS = b"application/json", b"text/event-stream; charset=utf-8"


def plan_of(
    prepared: Prepared,
    path: str,
    faults: Sequence[Fault],
    think_s: float,
    token_s: float,
    extra: Sequence[tuple[str, str]],
) -> Plan:
    """Return the plan of an answer that is hit by `faults`."""
    delay = think_s + sum(fault.ms for fault in faults if fault.kind == "delay") / 1e3
    token_s = max([token_s, *(fault.ms / 1e3 for fault in faults if fault.kind == "slow_tokens")])
    late = sum(fault.ms for fault in faults if fault.kind == "late_body") / 1e3
    deciding = next((fault for fault in faults if fault.kind not in ("delay", "slow_tokens", "late_body")), None)
    if deciding is not None and deciding.kind in _CLOSING:
        ending = {"reset": "rst", "close": "fin", "hang": "hang"}[deciding.kind]
        return Plan(0, [Step(b"", delay + deciding.ms / 1e3)], ending)
    if deciding is not None and deciding.kind == "status":
        return _status(deciding, path, delay, extra)
    if deciding is not None and deciding.kind == "garbage":
        return _garbage(deciding, prepared, path, delay, extra)
    if prepared.script is None:
        return _whole(prepared, deciding, delay, late, extra)
    plan = _streamed(prepared.script, WIRES[path], deciding, token_s, late)
    plan.steps.insert(0, Step(head(prepared.status, _EVENTS, None, extra), delay))
    return plan


def _status(fault: Fault, path: str, delay: float, extra: Sequence[tuple[str, str]]) -> Plan:
    name = fault.error or ("server_error" if fault.body is None else "")
    status, body = error_body(name, path.startswith("/v1/messages")) if name else (500, b"")
    status = fault.status or status
    body = body if fault.body is None else fault.body.encode()
    headers = {name.lower(): value for name, value in (_HEADERS.get(fault.error, {}) | dict(fault.headers)).items()}
    kind = headers.pop("content-type", "application/json").encode()
    return Plan(status, [Step(head(status, kind, len(body), [*extra, *headers.items()]) + body, delay)])


def _garbage(fault: Fault, prepared: Prepared, path: str, delay: float, extra: Sequence[tuple[str, str]]) -> Plan:
    streamed = prepared.script is not None
    kind = _EVENTS if streamed else _JSON
    match fault.garbage:
        case "html":
            kind, body = b"text/html; charset=utf-8", _HTML
        case "empty":
            body = b""
        case "truncated":
            whole = b"".join(prepared.script.opening + prepared.script.tokens) if prepared.script else prepared.body
            body = whole[: len(whole) * 2 // 3]
        case "schema":
            body = b'{"status":"ok","result":{"answer":null}}'
            body = b"data: " + body + b"\n\n" if streamed else body
        case "error":
            body = error_body("server_error", path.startswith("/v1/messages"))[1]
            body = b"data: " + body + b"\n\n" if streamed else body
    body = body if fault.body is None else fault.body.encode()
    return Plan(200, [Step(head(200, kind, len(body), [*extra, *fault.headers.items()]) + body, delay)])


def _whole(
    prepared: Prepared, fault: Fault | None, delay: float, late: float, extra: Sequence[tuple[str, str]]
) -> Plan:
    body = prepared.body
    begin = head(prepared.status, _JSON, len(body), extra)
    plan = Plan(prepared.status, [Step(begin, delay), Step(body, late)])
    half = len(body) // 2
    if fault is not None and fault.kind == "stall":
        plan.steps[1:] = [Step(body[:half], late), Step(body[half:], fault.ms / 1e3 or _FOREVER)]
    elif fault is not None and fault.kind == "cut":
        plan.steps[1] = Step(body[:half], late)
        plan.ending = "fin" if fault.how in ("fin", "end") else "rst"
    return plan


def _streamed(script: Script, wire: str, fault: Fault | None, token_s: float, late: float) -> Plan:
    """Return the plan of a stream's body."""
    kind = fault.kind if fault is not None else ""
    after = min(fault.after, len(script.tokens)) if fault is not None else 0
    steps = [Step(chunk(event)) for event in script.opening]
    steps[0].wait_s = late
    tokens = [Step(chunk(event), token_s, True) for event in script.tokens]
    rest = [Step(chunk(event)) for event in script.finish + script.usage]
    end = [Step(chunk(event)) for event in script.end]
    match kind:
        case "cut":
            assert fault is not None
            ending = rest[: fault.rest] if after == len(tokens) else []
            return _ended(Plan(200, steps + tokens[:after] + ending), fault.how or "rst")
        case "error_event":
            assert fault is not None
            event = Step(chunk(error_event(fault.error or "overloaded", wire)))
            return _ended(Plan(200, [*steps, *tokens[:after], event]), "end")
        case "malformed":
            broken = Step(chunk(b'data: {"id":"chatcmpl-broken","choices":[{"index":0,"del\n\n'))
            tokens.insert(after, broken)
        case "stall":
            assert fault is not None
            following = (tokens + rest)[after]
            following.wait_s += fault.ms / 1e3 or _FOREVER
        case "no_finish":
            rest = []
        case "no_end":
            assert fault is not None
            return _ended(Plan(200, steps + tokens + rest), fault.how or "end")
    return _ended(Plan(200, steps + tokens + rest + end), "end")


def _ended(plan: Plan, how: str) -> Plan:
    """End a stream's body: cleanly, or with the connection, or not at all."""
    if how == "end":
        plan.steps.append(Step(_LAST))
    else:
        plan.ending = "hang" if how == "stall" else how
    return plan
