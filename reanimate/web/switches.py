"""`GET /switches`: the newest switch document for a gateway that asks, which makes the gateway known to us."""

import logging

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from reanimate.alerts.authentication import bearer_matches
from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.db.tables import Gateway
from reanimate.switches.document import SwitchDocument
from reanimate.switches.publish import current_document

__all__ = ["switches"]

log = logging.getLogger(__name__)

_LONGEST = 300


async def switches(request: Request) -> Response:
    """Answer 200 with the signed document, or 204 when the gateway obeys it already.

    Query: `gateway` (its name), `control_url` (where it takes pushes), `seq` and `ledger` (what it obeys; optional).
    """
    services: Services = request.app.state.services
    if not bearer_matches(request.headers.get("authorization", ""), [services.secrets.control_key]):
        return PlainTextResponse("the control key is missing or wrong\n", 401, {"WWW-Authenticate": "Bearer"})
    name, control_url = request.query_params.get("gateway", ""), request.query_params.get("control_url", "")
    if not 0 < len(name) <= _LONGEST or not _is_control_url(control_url):
        return PlainTextResponse("gateway and control_url (http or https) are both needed\n", 400)
    try:
        seq = int(request.query_params.get("seq") or -1)
    except ValueError:
        return PlainTextResponse("seq is a whole number\n", 400)
    try:
        body, signature, newest = await current_document(services)
        ledger = request.query_params.get("ledger")
        obeyed = seq == newest and ledger in (None, SwitchDocument.decode(body).ledger)
        await _remember(services, name, control_url, newest if obeyed else None)
    except (SQLAlchemyError, OSError) as error:
        log.warning("gateway %s asked for its switches, but the record does not answer: %s", name, type(error).__name__)
        return PlainTextResponse(
            "the record does not answer; what you obey stays in force\n", 503, {"Retry-After": "2"}
        )
    if obeyed:
        return Response(status_code=204)
    return Response(body, media_type="application/json", headers={"X-Reanimate-Signature": signature})


def _is_control_url(url: str) -> bool:
    return url.startswith(("http://", "https://")) and len(url) <= _LONGEST


async def _remember(services: Services, name: str, control_url: str, obeyed: int | None) -> None:
    """Note that the gateway was heard of, and which number it obeys when that is the newest."""
    now = utcnow()
    heard = {"control_url": control_url, "last_seen_at": now, "error": None}
    if obeyed is not None:
        heard |= {"acked_seq": obeyed, "acked_at": now}
    statement = insert(Gateway).values(name=name, **{"acked_seq": 0, **heard})
    async with services.sessions.begin() as session:
        await session.execute(statement.on_conflict_do_update(index_elements=["name"], set_=heard))
