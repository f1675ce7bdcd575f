"""uvicorn for a gateway: the same protocol, with less between an answer and its connection."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from reanimate.gateway.exchange import EXCHANGE, Exchange

__all__ = ["BACKLOG", "Listener", "listener_for"]

BACKLOG = 2048
_FINISH_WITHIN_S = 3
_IDLE_S = 75.0
"""Clients keep idle connections for a while and send on them again: they must be the first to let go."""
_SWEEP_TICKS = 50  # of 0.1 s


class _Protocol(HttpToolsProtocol):
    """One connection of a client. Idle ones are looked for by the listener, so that no answer sets a timer."""

    _exchange: Exchange
    """The newest, whose request is read."""
    _answering: Exchange | None = None

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.idle_since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the exchange that is underway."""
        self.connections.discard(self)
        if self._answering is not None:
            self._answering.lose()
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        self.parser = cast(Any, None)

    def data_received(self, data: bytes) -> None:
        """Take what the client sends."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        except httptools.HttpParserUpgrade:
            pass  # nothing is offered here but HTTP/1.1, and nobody has to take an offer

    def on_message_begin(self) -> None:
        """Begin with an empty request."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Begin an exchange."""
        before = self.cycle
        parser = self.parser
        version = parser.get_http_version()
        path, mark, query = self.url.partition(b"?")
        if not path.startswith(b"/"):
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        method = parser.get_method().decode("ascii")
        exchange = self._exchange = Exchange(
            method,
            self.transport,
            self.flow,
            self.loop,
            self.on_response_complete,
            version != "1.0" and parser.should_keep_alive(),
            self.expect_100_continue,
        )
        self.cycle = cast(Any, exchange)
        scope = {
            "type": "http",
            "client": self.client,
            "http_version": version,
            "method": method,
            "raw_path": path,
            "query_string": query.partition(b"#")[0] if mark else b"",
            "headers": self.headers,
            EXCHANGE: exchange,
        }
        if before is None or before.response_complete:
            self._start(exchange, scope)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft(cast(Any, (exchange, scope)))

    def _start(self, exchange: Exchange, scope: dict[str, Any]) -> None:
        self._answering = exchange
        task = exchange.task = self.loop.create_task(exchange.run(cast(Any, self.app), scope, self.tasks))
        self.tasks.add(task)

    def on_body(self, body: bytes) -> None:
        """Pass on a part of the request's body."""
        self._exchange.add(body)

    def on_message_complete(self) -> None:
        """All of the request is here."""
        self._exchange.is_read()

    def on_response_complete(self) -> None:
        """Start the next request of a pipeline, if there is one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start(*cast(Any, self.pipeline.pop()))
        else:
            self.idle_since = self.loop.time()

    def close_if_idle(self, now: float) -> None:
        """Close it if no request has come for a while."""
        if now - self.idle_since > _IDLE_S and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()


class Listener(uvicorn.Server):
    """A uvicorn server that leaves the signals to the process, which has two of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        if counter % _SWEEP_TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in tuple(self.server_state.connections):
                if isinstance(connection, _Protocol):
                    connection.close_if_idle(now)
        return await super().on_tick(counter)


def listener_for(app: Any) -> Listener:
    """Return a server of an ASGI application; requests underway get 3 s to finish when it ends."""
    return Listener(
        uvicorn.Config(
            app, http=_Protocol, ws="none", lifespan="off", log_config=None, log_level="error", access_log=False,
            server_header=False, proxy_headers=False, date_header=False, timeout_keep_alive=int(_IDLE_S),
            backlog=BACKLOG, timeout_graceful_shutdown=_FINISH_WITHIN_S,
        )
    )  # fmt: skip
