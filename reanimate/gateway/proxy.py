"""The application on the traffic port: classify, then hand over."""

import asyncio

from reanimate.gateway.reads import Reads
from reanimate.gateway.request import Receive, Request, Scope, Send
from reanimate.gateway.routing import Kind, classify
from reanimate.gateway.writes import Writes

__all__ = ["Proxy"]


class Proxy:
    """A raw ASGI application: no framework on the hot path."""

    def __init__(self, reads: Reads, writes: Writes) -> None:
        self._reads = reads
        self._writes = writes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        route = classify(request.method, request.path)
        try:
            if route.kind is Kind.READ:
                await self._reads.handle(request, route)
            else:
                await self._writes.handle(request, route)
        except asyncio.CancelledError:
            # The process ends and this request took longer than it can wait. Nobody waits for this task.
            if not request.started:
                await request.refuse(503, "reanimate gateway: it is being stopped", retry_after_s=2)
        finally:
            request.close()
