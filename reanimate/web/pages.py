"""Pages for people: incidents, one incident, its postmortem, backups, LLM traffic.

Server-rendered and readable on a phone.

`router` needs `request.app.state.services`. Without the record a page says so, and what still works.
"""

import secrets
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import jinja2
import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.errors import InputInvalid, NotFound
from reanimate.incidents import wording
from reanimate.incidents.facts import gather
from reanimate.incidents.postmortem import render as render_postmortem
from reanimate.incidents.views import incident_list, incident_view
from reanimate.orchestrator.coming import next_backups
from reanimate.orchestrator.launcher import Launcher
from reanimate.protection.overview import Overview, overview
from reanimate.quota.amounts import said
from reanimate.switches.llm_traffic import llm_traffic
from reanimate.web.documents import render_document

__all__ = ["router"]

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {
    "amount": said,
    "clock_time": wording.clock_time,
    "count": wording.count,
    "duration": wording.duration,
    "latency": wording.latency,
    "moment": wording.moment,
    "readable": wording.readable,
    "share": wording.share,
    "size": wording.size,
    "words": wording.words,
}

_LATELY = timedelta(seconds=60)
_POLICY = (
    "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class PageRoute(APIRoute):
    """A route whose errors are pages too, or JSON where JSON was asked for."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def handle_or_explain(request: Request) -> Response:
            try:
                return await handle(request)
            except NotFound as error:
                return _trouble(request, 404, "Not found", str(error))
            except InputInvalid as error:
                return _trouble(request, 400, "Not understood", str(error))
            except (SQLAlchemyError, OSError) as error:  # OSError: refused, reset, timed out
                return _trouble(
                    request,
                    503,
                    "The record cannot be reached",
                    f"Its database does not answer ({type(error).__name__}).",
                )

        return handle_or_explain


router = APIRouter(route_class=PageRoute, include_in_schema=False)


def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


def _page(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """Render a page, or only the part of it that changes when `?part=live` asks for that."""
    nonce = secrets.token_urlsafe(16)
    part = "live" if request.query_params.get("part") == "live" else "page"
    text = _TEMPLATES.get_template(template).render(
        **context,
        part=part,
        nonce=nonce,
        now=utcnow(),
        path=request.url.path,
        prefect_ui=_services(request).addresses.prefect_ui,
        status_code=status,
    )
    headers = {
        "content-security-policy": _POLICY.format(nonce=nonce),
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
    return HTMLResponse(text, status_code=status, headers=headers)


def _json(value: Any, status: int = 200) -> Response:
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    return Response(body, status, {"cache-control": "no-store"}, "application/json")


def _trouble(request: Request, status: int, title: str, detail: str) -> Response:
    if request.url.path.endswith(".json"):
        return _json({"error": title, "detail": detail}, status)
    return _page(request, "trouble.html", status, title=title, detail=detail, addresses=_services(request).addresses)


@router.get("/")
async def home() -> Response:
    return RedirectResponse("/incidents", 302)


@router.get("/incidents")
async def incidents(request: Request, state: str | None = None) -> Response:
    """List incidents, those still open first."""
    found = await incident_list(_services(request), state=state)
    return _page(request, "incidents.html", incidents=found, state=state)


@router.get("/incidents.json")
async def incidents_json(request: Request, state: str | None = None) -> Response:
    return _json(await incident_list(_services(request), state=state))


@router.get("/incidents/{incident_id}.json")
async def incident_json(request: Request, incident_id: str) -> Response:
    return _json(await incident_view(_services(request), incident_id))


@router.get("/incidents/{incident_id}")
async def incident(request: Request, incident_id: str) -> Response:
    """Show one incident; while it is open the page keeps itself up to date."""
    view = await incident_view(_services(request), incident_id)
    return _page(request, "incident.html", view=view, facts=gather(view))


@router.get("/incidents/{incident_id}/postmortem")
async def postmortem(request: Request, incident_id: str) -> Response:
    """Show the postmortem, drafted now from the timeline as it stands."""
    view = await incident_view(_services(request), incident_id)
    document = render_document(render_postmortem(view), f"/incidents/{incident_id}")
    return _page(request, "postmortem.html", view=view, document=document)


@router.get("/incidents/{incident_id}/postmortem.md")
async def postmortem_text(request: Request, incident_id: str) -> Response:
    view = await incident_view(_services(request), incident_id)
    return PlainTextResponse(render_postmortem(view), headers={"x-content-type-options": "nosniff"})


@router.get("/backups")
async def backups(request: Request) -> Response:
    """Show how everything that is protected stands, also while the record is away."""
    return _page(request, "backups.html", overview=await _overview(request))


@router.get("/backups.json")
async def backups_json(request: Request) -> Response:
    return _json((await _overview(request)).to_json())


@router.get("/llm")
async def llm(request: Request) -> Response:
    """Show the LLM traffic of each gateway in the last minute, also while the record is away."""
    return _page(request, "llm.html", traffic=await llm_traffic(_services(request), _LATELY))


@router.get("/llm.json")
async def llm_json(request: Request) -> Response:
    return _json(await llm_traffic(_services(request), _LATELY))


async def _overview(request: Request) -> Overview:
    services = _services(request)
    now = utcnow()
    coming = await next_backups(Launcher(services.http, services.addresses.prefect_api, budget_s=1.0), now)
    return await overview(services.repositories, services.settings, services.sessions, now=now, next_at=coming)
