"""The application on the traffic port: to which plane a request belongs."""

import asyncio

from reanimate.gateway.llm.models import is_without_version
from reanimate.gateway.llm.plane import LlmPlane
from reanimate.gateway.request import Receive, Request, Scope, Send
from reanimate.gateway.vector.plane import VectorPlane

__all__ = ["Proxy"]


class Proxy:
    """A raw ASGI application: no framework on the hot path."""

    def __init__(self, llm: LlmPlane, vector: VectorPlane) -> None:
        self._llm = llm
        self._vector = vector

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            if request.path.startswith("/v1/") or is_without_version(request.path):
                await self._llm.handle(request)
            else:
                await self._vector.handle(request)
        except asyncio.CancelledError:
            # The process ends and this request took longer than it can wait. Nobody waits for this task.
            if not request.started:
                await request.refuse(503, "reanimate gateway: it is being stopped", retry_after_s=2)
        finally:
            request.close()
