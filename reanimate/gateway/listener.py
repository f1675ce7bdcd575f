"""uvicorn for a gateway: the same protocol, with less between an answer and its connection."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

__all__ = ["BACKLOG", "Listener", "listener_for"]

BACKLOG = 2048
_FINISH_WITHIN_S = 3
_IDLE_S = 75.0
"""Clients keep idle connections for a while and send on them again: they must be the first to let go."""
_SWEEP_TICKS = 50  # of 0.1 s
_ONE_WRITE = 64 * 1024


class _Cycle(RequestResponseCycle):
    """One request and its answer. The answer's head goes out together with the first part of its body."""

    _start: Any = None

    async def send(self, message: Any) -> None:
        """ASGI's `send`."""
        if message["type"] == "http.response.start":
            self.response_started = True
            self.waiting_for_100_continue = False
            self._start = message
            asyncio.get_running_loop().call_soon(self._send_head)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if self.response_complete:
            raise RuntimeError("the answer is complete already")
        self._send_part(message.get("body", b""), message.get("more_body", False))

    def _send_head(self) -> None:
        """Send the head by itself: no body came at once."""
        if self._start is not None and not self.disconnected and not self.transport.is_closing():
            self.transport.write(self._head(None))

    def _send_part(self, body: bytes, more: bool) -> None:
        parts = [self._head(None if more else len(body))] if self._start is not None else []
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
        elif self.chunked_encoding:
            if body:
                parts += (b"%x\r\n" % len(body), body, b"\r\n")
            if not more:
                parts.append(b"0\r\n\r\n")
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("the body is longer than its Content-Length")
            parts.append(body)
        if len(body) > _ONE_WRITE:
            self.transport.writelines(parts)
        elif parts:
            self.transport.write(b"".join(parts))
        if not more:
            self._complete()

    def _complete(self) -> None:
        if self.expected_content_length:
            raise RuntimeError("the body is shorter than its Content-Length")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _head(self, length: int | None) -> bytes:
        """Return the head, for a body of `length` bytes if that is known."""
        status, headers = self._start["status"], self._start["headers"]
        self._start = None
        parts = [STATUS_LINE[status]]
        says_close = False
        for name, value in headers:
            if name == b"content-length" and self.chunked_encoding is None:
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif name == b"transfer-encoding" and value.lower() == b"chunked":
                self.expected_content_length = 0
                self.chunked_encoding = True
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive = False
                says_close = True
            parts += (name, b": ", value, b"\r\n")
        lines = len(headers) + 2
        if not self.keep_alive and not says_close:
            parts.append(b"connection: close\r\n")
            lines += 1
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            lines += 1
            if length is None:
                self.chunked_encoding = True
                parts.append(b"transfer-encoding: chunked\r\n")
            else:
                self.chunked_encoding = False
                self.expected_content_length = length
                parts.append(b"content-length: %d\r\n" % length)
        parts.append(b"\r\n")
        head = b"".join(parts)
        if head.count(b"\n") != lines or b"\0" in head:
            raise RuntimeError("a header of the answer holds a line break")
        return head


class _Protocol(HttpToolsProtocol):
    """One connection of a client. Idle ones are looked for by the listener, so that no answer sets a timer."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.idle_since = self.loop.time()

    def on_message_begin(self) -> None:
        """Begin with an empty request."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self.scope = cast(Any, {"type": "http", "client": self.client, "headers": self.headers})

    def on_headers_complete(self) -> None:
        """Begin a request as uvicorn does, with a cycle of ours."""
        before = self.cycle
        version = self.parser.get_http_version()
        scope = cast(dict[str, Any], self.scope)
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = version
        path, mark, query = self.url.partition(b"?")
        if not path.startswith(b"/"):
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        scope["raw_path"] = path
        scope["query_string"] = query.partition(b"#")[0] if mark else b""
        self.cycle = _Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_response_complete(self) -> None:
        """Start the next request of a pipeline, if there is one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
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
