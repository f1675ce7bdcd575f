"""The web application: its routes, what they share, and the loops that run beside them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import orjson
from fastapi import FastAPI
from sqlalchemy.exc import InterfaceError, OperationalError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from reanimate.alerts.folder import Folder
from reanimate.alerts.inbox import Inbox
from reanimate.alerts.quotas import QuotaWatch
from reanimate.alerts.spool import Spool
from reanimate.bootstrap import Services
from reanimate.errors import InputInvalid, NotFound, ReanimateError, Refused, Transient
from reanimate.orchestrator import relay
from reanimate.quota.ledger import Ledger
from reanimate.response import rto_clock
from reanimate.response.reflex import place_reflex
from reanimate.web import pages
from reanimate.web.health import healthz, readyz
from reanimate.web.intake import handshake, receive
from reanimate.web.loops import Loop, running
from reanimate.web.metrics import Metrics, metrics
from reanimate.web.quota import leases
from reanimate.web.switches import switches

__all__ = ["create_app", "own_loops"]

log = logging.getLogger(__name__)

_DRAIN_EVERY_S = 0.5
_STATUS: tuple[tuple[type[ReanimateError], int], ...] = (
    (NotFound, 404),
    (InputInvalid, 400),
    (Refused, 403),
    (Transient, 503),
    (ReanimateError, 500),
)


def own_loops(services: Services) -> dict[str, Loop]:
    """Return the work that runs beside the intake: the outbox relay and the RTO clock."""
    return {"relay": partial(relay.run, services), "clock": partial(rto_clock.run, services)}


def create_app(
    services: Services,
    *,
    loops: Mapping[str, Loop] | None = None,
    on_opened: Callable[[str], Awaitable[Any]] | None = None,
) -> FastAPI:
    """Put the application together.

    `loops` replaces the loops of `own_loops`; spooling, folding and the watch over quotas always run. `on_opened`
    replaces the reflex that is placed when an incident opens.
    """
    inbox = Inbox(services.engine, Spool(services.settings.home / "spool" / "deliveries"))
    folder = Folder(
        services.sessions, services.settings, services.addresses, on_opened or partial(place_reflex, services)
    )
    quota_watch = QuotaWatch(services.sessions, inbox, services.settings.llm.currency)
    quota_ledger = Ledger(services.engine)
    counted = Metrics()
    every: dict[str, Loop] = {
        "spool": partial(_drain, inbox, folder),
        "fold": folder.run,
        "quota": quota_watch.run,
        **(own_loops(services) if loops is None else loops),
    }

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with running(every, lambda name: counted.loop_failures.labels(name).inc()):
            yield
        await quota_ledger.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.state.services, app.state.inbox, app.state.folder, app.state.metrics = services, inbox, folder, counted
    app.state.quota_ledger, app.state.quota_watch = quota_ledger, quota_watch
    app.add_route("/alerts/{source}", receive, methods=["POST"])
    app.add_route("/alerts/{source}", handshake, methods=["OPTIONS"])
    app.add_route("/switches", switches, methods=["GET"])
    app.add_route("/quota/leases", leases, methods=["POST"])
    app.add_route("/metrics", metrics, methods=["GET"])
    app.add_route("/healthz", healthz, methods=["GET"])
    app.add_route("/readyz", readyz, methods=["GET"])
    app.include_router(pages.router)
    app.add_exception_handler(ReanimateError, _on_error)
    app.add_exception_handler(OperationalError, _on_record_away)
    app.add_exception_handler(InterfaceError, _on_record_away)
    return app


async def _drain(inbox: Inbox, folder: Folder) -> None:
    """Bring spooled deliveries into the record as soon as it answers."""
    while True:
        if await inbox.drain():
            folder.wake()
        await asyncio.sleep(_DRAIN_EVERY_S)


async def _on_error(request: Request, error: Exception) -> Response:
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    return _told(request, status, str(error))


async def _on_record_away(request: Request, error: Exception) -> Response:
    log.warning("%s: the record does not answer (%s)", request.url.path, type(error).__name__)
    return _told(request, 503, "the record does not answer; alerts are still taken and kept on disk")


def _told(request: Request, status: int, message: str) -> Response:
    """Answer in words to a browser, in JSON to a program."""
    if "text/html" in request.headers.get("accept", ""):
        return PlainTextResponse(message + "\n", status)
    return Response(orjson.dumps({"error": message}), status, media_type="application/json")
