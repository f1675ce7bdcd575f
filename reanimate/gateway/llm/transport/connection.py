"""One connection to a provider: a request is written, its answer parsed as the bytes come."""

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from reanimate.gateway.llm.transport.errors import TransportFailed, TransportTrouble
from reanimate.gateway.llm.transport.response import HIGH, Response

__all__ = ["Connection"]

_HEAD_LIMIT = 64 * 1024
"""Where a head is longer than this, none will come."""
_ONE_WRITE = 16 * 1024
"""To copy less than this costs less than to write two pieces."""


class Connection(asyncio.Protocol):
    """Carries one exchange at a time; `ended` is called once after each, `lost` once in the end."""

    __slots__ = (
        "_another", "_bare", "_before_head", "_ended", "_exchange", "_headers", "_informational", "_keep", "_loop",
        "_lost", "_parser", "_transport", "_until_close", "idle_since",
    )  # fmt: skip

    def __init__(self, ended: Callable[["Connection"], None], lost: Callable[["Connection"], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = ended
        self._lost = lost
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._exchange: Response | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._before_head = 0
        self._another = False
        self._bare = False
        self._informational = False
        self._keep = False
        self._until_close = False
        self.idle_since = 0.0

    @property
    def reusable(self) -> bool:
        """Whether another request can be sent on it."""
        return self._keep and not self._transport.is_closing()

    @property
    def silent(self) -> bool:
        """Whether no byte came since the last request was written."""
        return self._before_head == 0

    def ask(self, response: Response, head: bytes, body: bytes, bare: bool) -> None:
        """Write a request; its answer goes to `response`. `bare`: the answer has no body whatever its head says.

        Raises:
            TransportFailed: it was closed since it was made.
            BaseException: `response` was aborted before anything was written.
        """
        if self._transport.is_closing():
            raise TransportFailed(TransportTrouble.RESET, "closed as soon as it was made")
        response.begin(self)
        self._exchange = response
        self._before_head = 0
        self._bare = bare
        self._keep = False
        self._headers = response.headers
        if len(body) > _ONE_WRITE:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head + body)

    def resume(self) -> None:
        """Take more of the body from the provider."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def hang_up(self) -> None:
        """Close it at once, whatever is underway."""
        self._keep = False
        self._transport.abort()
        if self._exchange is not None:
            self._exchange = None
            self._ended(self)

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._keep = True

    def data_received(self, data: bytes) -> None:
        response = self._exchange
        if response is None:
            # Nothing was asked: whatever this is, it answers no request of ours.
            self._keep = False
            self._transport.abort()
            return
        response.last_byte_at = self._loop.time()
        if not response.status:
            self._before_head += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._garbled(response, error)
            return
        if response.closed:
            self._done(response)
        elif response.size > HIGH:
            if not response.paused:
                response.paused = True
                self._transport.pause_reading()
        elif self._before_head > _HEAD_LIMIT and not response.status:
            response.fail(TransportFailed(TransportTrouble.TOO_LARGE, f"its head is longer than {_HEAD_LIMIT} bytes"))
            self.hang_up()
            return
        response.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._keep = False
        response, self._exchange = self._exchange, None
        if response is not None:
            if self._until_close and response.status and exc is None:
                response.complete()
                response.wake()
            elif response.status:
                response.fail(TransportFailed(TransportTrouble.CUT, _words(exc, "closed within the answer")))
            elif self._before_head:
                response.fail(TransportFailed(TransportTrouble.RESET, _words(exc, "closed within the answer's head")))
            else:
                response.fail(TransportFailed(TransportTrouble.RESET, _words(exc, "closed without an answer")))
            self._ended(self)
        self._lost(self)

    # httptools

    def on_message_begin(self) -> None:
        self._another = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        response = self._exchange
        status = self._parser.get_status_code()
        if response is None or response.closed:
            # A second answer to one request: `_done` closes the connection.
            return
        if status < 200:
            self._informational = True
            return
        response.status = status
        # What comes behind the body is the next answer's, and must not be taken for this one's headers.
        self._headers = []
        self._keep = self._parser.should_keep_alive()
        self._until_close = not self._keep and _ends_with_connection(status, response.headers)
        if self._bare:
            # The parser waits for the body that the head announces and that never comes.
            self._keep = self._until_close = False
            response.complete()

    def on_body(self, part: bytes) -> None:
        response = self._exchange
        if response is not None and not response.closed:
            response.add(part)

    def on_message_complete(self) -> None:
        if self._informational:
            self._informational = False
            self._headers.clear()
            return
        response = self._exchange
        if response is not None and not response.closed:
            self._another = False
            response.complete()

    def _done(self, response: Response) -> None:
        """All of the answer is here. Where more than that came, or not all was sent, this connection ends."""
        self._exchange = None
        if self._another or self._transport.get_write_buffer_size():
            self._keep = False
        if not self._keep:
            self._transport.abort()
        elif response.paused:
            response.paused = False
            self._transport.resume_reading()
        self._ended(self)

    def _garbled(self, response: Response, error: Exception) -> None:
        """The parser gave up: on the answer, or on what came behind a complete one."""
        self._keep = False
        if response.closed:
            self._done(response)
            response.wake()
            return
        if isinstance(error, httptools.HttpParserUpgrade):
            failure = TransportFailed(TransportTrouble.NOT_HTTP, "it switched to another protocol, unasked")
        elif response.status:
            failure = TransportFailed(TransportTrouble.CUT, f"malformed within the answer's body: {error}")
        else:
            failure = TransportFailed(TransportTrouble.NOT_HTTP, f"not an HTTP answer: {error}")
        response.fail(failure)
        self.hang_up()


def _ends_with_connection(status: int, headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the body is all that comes until the connection closes (RFC 9112, 6.3)."""
    if status in (204, 304):
        return False
    names = {name: value for name, value in headers if name in (b"content-length", b"transfer-encoding")}
    coding = names.get(b"transfer-encoding")
    return not coding.lower().endswith(b"chunked") if coding is not None else not names


def _words(error: Exception | None, otherwise: str) -> str:
    return f"{type(error).__name__}: {error}" if error is not None else otherwise
