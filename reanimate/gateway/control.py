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
from reanimate.gateway.figures import Figures
from reanimate.gateway.fleet import Fleet
from reanimate.gateway.metrics import render
from reanimate.gateway.request import ClientGone, Receive, Request, Scope, Send
from reanimate.gateway.switchboard import Switchboard
from reanimate.gateway.totals import Totals

__all__ = ["Control"]

_BODY_LIMIT = 1024 * 1024


class Control:
    """A raw ASGI application."""

    def __init__(
        self,
        gateway: str,
        control_key: str,
        *,
        fleet: Fleet,
        switchboard: Switchboard,
        figures: Figures,
        totals: Totals,
        control_plane: ControlPlane,
    ) -> None:
        self._gateway = gateway
        self._key = control_key
        self._fleet = fleet
        self._switchboard = switchboard
        self._figures = figures
        self._totals = totals
        self._control_plane = control_plane
        self._boot_id = uuid.uuid4().hex
        self._routes: dict[tuple[str, str], Callable[[Request, bytes], Awaitable[None]]] = {
            ("POST", "/switches"): self._obey,
            ("GET", "/switches"): self._show,
            ("GET", "/figures"): self._show_figures,
            ("GET", "/metrics"): self._show_metrics,
            ("GET", "/healthz"): self._show_health,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        route = self._routes.get((request.method, request.path))
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
        wanted = f"Bearer {self._key}".encode()
        if not any(name == b"authorization" and hmac.compare_digest(value, wanted) for name, value in request.headers):
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

    async def _show_figures(self, request: Request, query: bytes) -> None:
        given = parse_qs(query.decode("latin-1").replace("+", "%2B")).get("since")
        try:
            since = ensure_utc(datetime.fromisoformat(given[0])) if given else None
        except ValueError as error:
            await request.refuse(400, f"since is not an ISO 8601 time with a zone: {error}")
            return
        await _json(request, self._status(self._figures.since(since)))

    async def _show_metrics(self, request: Request, _: bytes) -> None:
        text = render(self._status(self._figures.lifetime())).encode()
        await _answer(request, text, b"text/plain; version=0.0.4; charset=utf-8")

    async def _show_health(self, request: Request, _: bytes) -> None:
        await _json(request, {"status": "ok", "gateway": self._gateway, "boot_id": self._boot_id, **self._obeyed()})

    def _obeyed(self) -> dict[str, Any]:
        document = self._switchboard.document
        return {"seq": self._switchboard.seq, "ledger": document.ledger if document else None}

    def _status(self, figures: dict[str, Any]) -> dict[str, Any]:
        """Add to the counts what is so now."""
        counted = figures["targets"]
        targets = {}
        for name, target in self._fleet.targets.items():
            since = self._fleet.out_since.get(name)
            targets[name] = {
                "requests": counted.get(name, {}).get("requests", 0),
                "failures": counted.get(name, {}).get("failures", 0),
                "state": "out" if self._fleet.is_out(target) else "up",
                "out_since": since.isoformat() if since else None,
                "missing": sorted(self._fleet.health[name].missing),
            }
        return {
            "gateway": self._gateway,
            "boot_id": self._boot_id,
            **figures,
            "targets": targets,
            "totals": {"writes_acknowledged": dict(self._totals.acknowledged)},
            "switches": self._obeyed(),
            "stale_s": self._control_plane.stale_s,
        }


async def _json(request: Request, value: dict[str, Any]) -> None:
    await _answer(request, orjson.dumps(value), b"application/json")


async def _answer(request: Request, body: bytes, content_type: bytes) -> None:
    await request.start(200, [(b"content-type", content_type), (b"content-length", str(len(body)).encode())])
    await request.send(body, more=False)
