"""`POST /quota/leases`: a gateway says what it used and asks for more; see `reanimate/quota/demand.py`."""

import logging

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from reanimate.alerts.authentication import bearer_matches
from reanimate.bootstrap import Services
from reanimate.errors import Busy, InputInvalid, Unreachable
from reanimate.quota.demand import Ask
from reanimate.quota.ledger import Ledger

__all__ = ["leases"]

log = logging.getLogger(__name__)

_LONGEST = 1024 * 1024


async def leases(request: Request) -> Response:
    """Answer with what is lent, when it is durable; 503 when the record does not answer, which lends nothing."""
    services: Services = request.app.state.services
    ledger: Ledger = request.app.state.quota_ledger
    if not bearer_matches(request.headers.get("authorization", ""), [services.secrets.control_key]):
        return PlainTextResponse("the control key is missing or wrong\n", 401, {"WWW-Authenticate": "Bearer"})
    body = await request.body()
    if len(body) > _LONGEST:
        return PlainTextResponse("a request for leases of more than 1 MiB is none\n", 413)
    try:
        reply = await ledger.lend(Ask.decode(body))
    except InputInvalid as error:
        return PlainTextResponse(f"{error}\n", 400)
    except (Unreachable, Busy) as error:
        log.warning("leases of quota were asked for, and are not lent: %s", error)
        return PlainTextResponse("the record does not answer\n", 503, {"Retry-After": "1"})
    request.app.state.quota_watch.wake()
    return Response(reply.encode(), media_type="application/json")
