"""Spans of calls and attempts for OpenTelemetry, where `OTEL_EXPORTER_OTLP_ENDPOINT` is set (extra `reanimate[otel]`).

A call that has ended waits in a queue; what makes and sends spans of it is a thread's work, each second. A collector
that does not answer costs spans, never a call.
"""

import asyncio
import logging
import os
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from reanimate.gateway.llm.accounts.genai import operation_of
from reanimate.gateway.llm.call import Call

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["Tracing", "open_tracing"]

log = logging.getLogger("reanimate.gateway")

_EACH_S = 1.0
_WAITING = 5_000
_BATCH = 500
_TIMEOUT_S = 3.0
_GOOD = ("answered", "unused", "lost")


@dataclass(frozen=True, slots=True)
class _Told:
    """One call, as far as its spans need it."""

    record: dict[str, Any]
    operation: str
    parent: str
    """`traceparent` of the request."""
    servers: tuple[tuple[str, str, str], ...]
    """Wire, model and URL for each attempt."""


def open_tracing() -> "Tracing | None":
    """Return the tracing that the environment asks for; None if it asks for none, or its packages are missing."""
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not endpoint or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        log.warning("calls are not traced to %s: install reanimate[otel]", endpoint)
        return None
    return Tracing(OTLPSpanExporter(timeout=_TIMEOUT_S))


class Tracing:
    """A queue and what empties it."""

    def __init__(self, exporter: "SpanExporter") -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

        class Collector(SpanProcessor):
            """Keeps spans until they are sent."""

            def __init__(self) -> None:
                self.spans: list[ReadableSpan] = []

            def on_end(self, span: ReadableSpan) -> None:
                self.spans.append(span)

        self._exporter = exporter
        self._collector = Collector()
        named = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": "reanimate-gateway"}
        provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        provider.add_span_processor(self._collector)
        self._tracer = provider.get_tracer("reanimate.gateway.llm")
        self._waiting: deque[_Told] = deque(maxlen=_WAITING)
        self._said = False

    def add(self, call: Call, record: dict[str, Any]) -> None:
        """Have a call traced. When too many wait the oldest are let go."""
        parent = next((value for name, value in call.request.headers if name == b"traceparent"), b"")
        servers = tuple(
            (each.target.provider.wire, each.target.model, each.target.provider.url) for each in call.attempts
        )
        operation = operation_of(call.prompt.endpoint.shape)
        self._waiting.append(_Told(record, operation, parent.decode("latin-1"), servers))

    async def export(self) -> None:
        """Send what waits, each second, until cancelled; then what is left."""
        try:
            while True:
                await asyncio.sleep(_EACH_S)
                while self._waiting:
                    await asyncio.to_thread(self._send, self._take())
        finally:
            if self._waiting:
                self._send(self._take())
            self._exporter.shutdown()

    def _take(self) -> list[_Told]:
        return [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]

    def _send(self, batch: list[_Told]) -> None:
        from opentelemetry.sdk.trace.export import SpanExportResult

        for told in batch:
            self._make(told)
        spans, self._collector.spans = self._collector.spans, []
        if self._exporter.export(spans) is SpanExportResult.SUCCESS:
            self._said = False
        elif not self._said:
            self._said = True
            log.warning("the OpenTelemetry collector took no spans; %d are lost", len(spans))

    def _make(self, told: _Told) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        record = told.record
        attributes = {
            "gen_ai.operation.name": told.operation,
            "gen_ai.provider.name": "reanimate",
            "gen_ai.request.model": record["asked_for"],
            "gen_ai.usage.input_tokens": record["usage"]["input"],
            "gen_ai.usage.output_tokens": record["usage"]["output"],
            "reanimate.call.id": record["id"],
            "reanimate.route": record["route"],
            "reanimate.tenant": record["tenant"],
            "reanimate.ending": str(record["ending"]),
            "reanimate.cache": record["cache"],
            "reanimate.degraded": tuple(record["degraded"]),
            "reanimate.cost": record["cost"],
        }
        if record["error"] is not None:
            attributes["error.type"] = record["error"]["kind"]
        span = self._tracer.start_span(
            f"{told.operation} {record['route']}",
            _context(told.parent),
            SpanKind.SERVER,
            attributes,
            start_time=_ns(record["began"]),
        )
        if record["ending"] == "failed":
            span.set_status(Status(StatusCode.ERROR, record["error"] and record["error"]["message"]))
        inside = set_span_in_context(span)
        for attempt, server in zip(record["attempts"], told.servers, strict=True):
            self._attempt(told, attempt, server, inside)
        span.end(_ns(record["began"] + record["took_ms"] / 1000))

    def _attempt(self, told: _Told, attempt: dict[str, Any], server: tuple[str, str, str], inside: "Context") -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode

        wire, model, url = server
        parts, began = urlsplit(url), told.record["began"]
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": told.operation,
            "gen_ai.provider.name": wire,
            "gen_ai.request.model": model,
            "server.address": parts.hostname or "",
            "server.port": parts.port or (443 if parts.scheme == "https" else 80),
            "reanimate.purpose": attempt["purpose"],
            "reanimate.outcome": attempt["outcome"],
            "reanimate.served": attempt["served"],
        }
        if attempt["status"] is not None:
            attributes["http.response.status_code"] = attempt["status"]
        if (usage := attempt["usage"]) is not None:
            attributes |= {
                "gen_ai.usage.input_tokens": usage["input"],
                "gen_ai.usage.output_tokens": usage["output"],
            }
        failed = attempt["outcome"] not in _GOOD
        if failed:
            attributes["error.type"] = attempt["outcome"]
        span = self._tracer.start_span(
            f"{told.operation} {model}",
            inside,
            SpanKind.CLIENT,
            attributes,
            start_time=_ns(began + attempt["began_ms"] / 1000),
        )
        if (first := attempt["first_token_ms"]) is not None:
            span.add_event("first token", timestamp=_ns(began + first / 1000))
        if failed:
            span.set_status(Status(StatusCode.ERROR, attempt["detail"]))
        ended = attempt["ended_ms"] if attempt["ended_ms"] is not None else told.record["took_ms"]
        span.end(_ns(began + ended / 1000))


def _context(parent: str) -> "Context | None":
    if not parent:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": parent})


def _ns(seconds: float) -> int:
    return int(seconds * 1_000_000_000)
