"""`GET /healthz`: this process lives. `GET /readyz`: the record answers too."""

import asyncio

import orjson
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response

from reanimate import __version__

__all__ = ["healthz", "readyz"]

_PATIENCE_S = 1.0


async def healthz(request: Request) -> Response:
    """Say that the process answers."""
    return _answer(200, {"status": "ok", "version": __version__})


async def readyz(request: Request) -> Response:
    """Ask the record; 503 when it does not answer. Alerts are taken even then, and kept on disk."""
    try:
        async with asyncio.timeout(_PATIENCE_S), request.app.state.services.sessions() as session:
            await session.execute(select(1))
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        return _answer(503, {"status": "degraded", "record": f"does not answer ({type(error).__name__})"})
    return _answer(200, {"status": "ok", "record": "answers"})


def _answer(status: int, content: dict[str, str]) -> Response:
    return Response(orjson.dumps(content), status_code=status, media_type="application/json")
