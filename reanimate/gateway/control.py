"""The application on the control port: switches come in, figures go out."""

import hmac
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

import orjson

from reanimate.clock import ensure_utc, utcnow
from reanimate.errors import InputInvalid, Refused
from reanimate.gateway.control_plane import ControlPlane
from reanimate.gateway.exposition import family, text
from reanimate.gateway.footprint import footprint
from reanimate.gateway.llm.plane import LlmPlane
from reanimate.gateway.processes.first import First
from reanimate.gateway.request import ClientGone, Receive, Request, Scope, Send
from reanimate.gateway.switchboard import Switchboard
from reanimate.gateway.vector.plane import VectorPlane

__all__ = ["Control"]

_BODY_LIMIT = 1024 * 1024
_CALL = "/calls/"
_CALLS_LIMIT = 200


class Control:
    """A raw ASGI application."""

    def __init__(
        self,
        gateway: str,
        control_key: str,
        *,
        llm: LlmPlane,
        vector: VectorPlane,
        switchboard: Switchboard,
        control_plane: ControlPlane,
        processes: First | None = None,
    ) -> None:
        """`processes`: the others that answer on the same port, if there are."""
        self._gateway = gateway
        self._key = control_key
        self._llm = llm
        self._vector = vector
        self._switchboard = switchboard
        self._control_plane = control_plane
        self._processes = processes
        self._boot_id = uuid.uuid4().hex
        self._routes: dict[tuple[str, str], Callable[[Request, bytes], Awaitable[None]]] = {
            ("POST", "/switches"): self._obey,
            ("GET", "/switches"): self._show,
            ("GET", "/figures"): self._show_figures,
            ("GET", "/metrics"): self._show_metrics,
            ("GET", "/calls"): self._show_calls,
            ("GET", "/healthz"): self._show_health,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        route = self._routes.get((request.method, request.path))
        if route is None and request.method == "GET" and request.path.startswith(_CALL):
            route = self._show_call
        query: bytes = scope["query_string"]
        try:
            if route is None:
                await request.refuse(404, f"the gateway's control port has no {request.method} {request.path}")
            else:
                await route(request, query)
        except ClientGone:
            return
        finally:
            request.close()

    async def _obey(self, request: Request, _: bytes) -> None:
        body = await request.body(_BODY_LIMIT)
        if body is None:
            await request.refuse(413, "a switch document of more than 1 MiB is none")
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
        try:
            document = await self._switchboard.take(body, headers, utcnow())
        except Refused as error:
            await request.refuse(403, str(error))
        except InputInvalid as error:
            await request.refuse(400, str(error))
        else:
            self._control_plane.heard()
            await _json(request, {"seq": document.seq, "ledger": document.ledger})

    async def _show(self, request: Request, _: bytes) -> None:
        if not self._has_key(request):
            await request.refuse(401, "the switches are shown to the holder of the control key only")
            return
        document = self._switchboard.document
        switches = document.switches if document else ()
        await _json(
            request,
            {
                **self._obeyed(),
                "switches": [{"switch": c.switch, "scope": c.scope, "value": c.value} for c in switches],
                "stale_s": self._control_plane.stale_s,
            },
        )

    def _has_key(self, request: Request) -> bool:
        wanted = f"Bearer {self._key}".encode()
        return any(name == b"authorization" and hmac.compare_digest(value, wanted) for name, value in request.headers)

    async def _show_call(self, request: Request, _: bytes) -> None:
        if not self._has_key(request):
            await request.refuse(401, "calls are shown to the holder of the control key only")
        elif (record := await self._find_call(request.path.removeprefix(_CALL))) is None:
            await request.refuse(404, "no such call ended here since the start, or more than 10,000 came after it")
        else:
            await _answer(request, record, b"application/json")

    async def _find_call(self, call_id: str) -> bytes | None:
        record = self._llm.observer.lookups.get(call_id)
        if record is None and self._processes is not None:
            record = await self._processes.call(call_id)
        return record

    async def _show_calls(self, request: Request, query: bytes) -> None:
        if not self._has_key(request):
            await request.refuse(401, "calls are shown to the holder of the control key only")
            return
        wanted = parse_qs(query.decode("latin-1")).get("failed", ["20"])[0]
        count = min(int(wanted), _CALLS_LIMIT) if wanted.isascii() and wanted.isdigit() else _CALLS_LIMIT
        calls = self._llm.observer.lookups.failed(count)
        if self._processes is not None:
            calls += await self._processes.failed_calls(count)
            calls.sort(key=lambda call: call["began"], reverse=True)
        await _json(request, {"calls": calls[:count]})

    async def _show_figures(self, request: Request, query: bytes) -> None:
        given = parse_qs(query.decode("latin-1").replace("+", "%2B")).get("since")
        try:
            since = ensure_utc(datetime.fromisoformat(given[0])) if given else None
        except ValueError as error:
            await request.refuse(400, f"since is not an ISO 8601 time with a zone: {error}")
            return
        if self._processes is not None:
            await self._processes.refresh()
        await _json(request, self._status(since))

    async def _show_metrics(self, request: Request, _: bytes) -> None:
        if self._processes is not None:
            await self._processes.refresh()
        await _answer(request, self._metrics().encode(), b"text/plain; version=0.0.4; charset=utf-8")

    async def _show_health(self, request: Request, _: bytes) -> None:
        await _json(request, {"status": "ok", "gateway": self._gateway, "boot_id": self._boot_id, **self._obeyed()})

    def _obeyed(self) -> dict[str, Any]:
        document = self._switchboard.document
        return {"seq": self._switchboard.seq, "ledger": document.ledger if document else None}

    def _status(self, since: datetime | None) -> dict[str, Any]:
        return {
            "gateway": self._gateway,
            "boot_id": self._boot_id,
            **self._vector.status(since),
            "llm": self._llm.status(since),
            "process": footprint(),
            "switches": self._obeyed(),
            "stale_s": self._control_plane.stale_s,
        }

    def _metrics(self) -> str:
        own = [family("switches_seq", "gauge", "The number of the switches obeyed.", [({}, self._switchboard.seq)])]
        taken = (({"what": what}, value) for what, value in footprint().items())
        own.append(family("process", "gauge", "What the process takes: memory in MB, open files, tasks.", taken))
        if (stale_s := self._control_plane.stale_s) is not None:
            own.append(family("stale_seconds", "gauge", "Since the control plane was last heard.", [({}, stale_s)]))
        return self._vector.metrics() + self._llm.metrics() + text(own)


async def _json(request: Request, value: dict[str, Any]) -> None:
    await _answer(request, orjson.dumps(value), b"application/json")


async def _answer(request: Request, body: bytes, content_type: bytes) -> None:
    await request.start(200, [(b"content-type", content_type), (b"content-length", str(len(body)).encode())])
    await request.send(body, more=False)
