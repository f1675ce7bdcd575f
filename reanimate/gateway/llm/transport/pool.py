"""The connections to one provider: opened when needed, kept for a while, never used by two at once."""

import asyncio
import ssl
from collections import deque
from functools import cache
from urllib.parse import urlsplit

from reanimate.errors import ConfigInvalid
from reanimate.gateway.llm.transport.connection import Connection
from reanimate.gateway.llm.transport.errors import TransportFailed, TransportTrouble
from reanimate.gateway.llm.transport.response import Response

__all__ = ["Pool"]

_IDLE_S = 3.0
"""Below the 5 s after which servers close an idle connection: a request must not meet one that is just closing."""
_CLOSING_S = 2.0
"""A server that was closing the connection when the request came says so within a round trip."""
_BODILESS = (b"GET", b"HEAD", b"DELETE", b"OPTIONS")


class Pool:
    """Sends requests to one origin. `limit`: how many may be underway at once; the others wait in their order."""

    def __init__(
        self,
        base_url: str,
        *,
        connect_timeout_s: float = 1.0,
        limit: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Raises: ConfigInvalid: the URL is not one of http or https."""
        self._url = base_url
        self._host, self._port, self._secure, base, authority = _split(base_url)
        self._connect_timeout_s = connect_timeout_s
        self._limit = limit
        self._tls = (tls or _trust()) if self._secure else None
        self._before = b" " + base
        self._after = b" HTTP/1.1\r\nHost: " + authority + b"\r\nAccept-Encoding: identity\r\n"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._all_gone = asyncio.Event()
        self._underway = 0
        self._queue: deque[Response] = deque()
        self._sweep: asyncio.TimerHandle | None = None

    async def send(
        self,
        method: bytes,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes = b"",
        into: Response | None = None,
    ) -> Response:
        """Send a request to the base URL's path + `target`; return when the answer's head is there.

        Host, Content-Length and Accept-Encoding are added here and must not be in `headers`. Who wants to give up
        from outside, a timer say, passes a new Response as `into` and calls its `abort(reason)`: that reason is
        raised here. Cancelling the task closes the connection too.

        A kept connection that breaks at once, before a byte of the answer came, has met a server that was just closing
        it; the request is sent once more, on a new one. Later the server may have been at work on it, and be paid.

        Raises:
            TransportFailed: there will be no head.
            ValueError: a header would not stay on its line.
        """
        head = self._head(method, target, headers, body)
        response = into if into is not None else Response()
        response.sent = headers
        bare = method == b"HEAD"
        may_reuse = True
        while True:
            if self._limit is not None and self._underway >= self._limit:
                await self._turn(response)
            else:
                self._underway += 1
            connection = self._kept() if may_reuse else None
            kept = connection is not None
            try:
                if connection is None:
                    connection = await self._connect(response)
                asked_at = self._loop_time()
                connection.ask(response, head, body, bare)
            except BaseException:
                # Without an exchange nobody else gives this back.
                self._give_back()
                if connection is not None:
                    connection.hang_up()
                raise
            try:
                while not response.status:
                    response.check()
                    await response.wait()
            except TransportFailed as failed:
                if not kept or failed.kind is not TransportTrouble.RESET or not connection.silent:
                    raise
                if self._loop_time() - asked_at > _CLOSING_S:
                    raise
                response.forget()
                may_reuse = False
            else:
                return response

    async def warm(self) -> None:
        """See to it that a connection is ready: who is asked next need not wait for one.

        Raises:
            TransportFailed: none can be made.
        """
        while self._idle and not self._idle[-1].reusable:
            self._idle.pop()
        if not self._idle:
            self._keep(await self._opened())

    async def close(self) -> None:
        """Close every connection, also those in use."""
        for connection in tuple(self._open):
            connection.hang_up()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        if self._open:
            self._all_gone.clear()
            await self._all_gone.wait()

    def _head(self, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
        parts = [method, self._before, target, self._after]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        length = b"Content-Length: %d\r\n\r\n" % len(body) if body or method not in _BODILESS else b"\r\n"
        parts.append(length)
        head = b"".join(parts)
        if head.count(b"\n") != len(headers) + 3 + length.count(b"\n") or b"\0" in head:
            raise ValueError("a header holds a line break")
        return head

    def _kept(self) -> Connection | None:
        """Return the connection that was used last, if it is still good."""
        idle = self._idle
        if idle:
            connection = idle.pop()
            if connection.reusable and self._loop_time() - connection.idle_since < _IDLE_S:
                return connection
            # All others have been idle for longer.
            idle.append(connection)
            self._let_go()
        return None

    async def _turn(self, response: Response) -> None:
        """Wait for a place among those underway."""
        self._queue.append(response)
        try:
            while response in self._queue:
                response.check()
                await response.wait()
        except BaseException:
            if response in self._queue:
                self._queue.remove(response)
            else:
                self._give_back()
            raise

    def _give_back(self) -> None:
        """One exchange is over: its place goes to the one that waits longest."""
        if self._queue:
            self._queue.popleft().wake()
        else:
            self._underway -= 1

    async def _connect(self, response: Response) -> Connection:
        """Open a connection, unless `response` is aborted before."""
        opening = asyncio.ensure_future(self._opened())
        opening.add_done_callback(lambda _: response.wake())
        try:
            while not opening.done():
                response.check()
                await response.wait()
            return opening.result()
        except BaseException:
            opening.add_done_callback(_drop)
            opening.cancel()
            raise

    async def _opened(self) -> Connection:
        where = f"{self._host}:{self._port}"
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self._exchange_ended, self._lost), self._host, self._port, ssl=self._tls,
                    server_hostname=self._host if self._secure else None,
                )  # fmt: skip
        except TimeoutError:
            limit = f"{self._connect_timeout_s:g} s"
            raise TransportFailed(TransportTrouble.CONNECT_TIMEOUT, f"no connection to {where} in {limit}") from None
        except ssl.SSLError as error:
            raise TransportFailed(TransportTrouble.TLS, f"no TLS with {where}: {error.reason or error}") from error
        except OSError as error:
            if self._secure and isinstance(error, ConnectionResetError | ConnectionAbortedError | BrokenPipeError):
                # It was made, and broke while the two agreed on keys.
                raise TransportFailed(TransportTrouble.TLS, f"{where} broke off before TLS was agreed on") from error
            raise TransportFailed(TransportTrouble.REFUSED, f"{where}: {error.strerror or error}") from error
        if not connection.reusable:
            raise TransportFailed(TransportTrouble.RESET, f"{where} closed the connection as soon as it was made")
        self._open.add(connection)
        return connection

    def _exchange_ended(self, connection: Connection) -> None:
        self._give_back()
        if connection.reusable:
            self._keep(connection)

    def _keep(self, connection: Connection) -> None:
        connection.idle_since = self._loop_time()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(_IDLE_S, self._let_go)

    def _let_go(self) -> None:
        """Close what has been idle for too long, and look again when the next one will have been."""
        now = self._loop_time()
        idle = self._idle
        while idle and (now - idle[0].idle_since >= _IDLE_S - 0.001 or not idle[0].reusable):
            idle.popleft().hang_up()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        if idle:
            wait_s = idle[0].idle_since + _IDLE_S - now
            self._sweep = asyncio.get_running_loop().call_later(wait_s, self._let_go)

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._all_gone.set()
        if connection in self._idle:
            self._idle.remove(connection)

    def _loop_time(self) -> float:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.time()


def _drop(opening: asyncio.Future[Connection]) -> None:
    """Close the connection that was made after all, for somebody who has left."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().hang_up()


def _split(base_url: str) -> tuple[str, int, bool, bytes, bytes]:
    """Return host, port, whether encrypted, base path, and what stands in the Host header.

    Raises:
        ConfigInvalid: it is not a URL of http or https.
    """
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
        base, authority = parts.path.rstrip("/").encode("ascii"), parts.netloc.rpartition("@")[2].encode("ascii")
    except ValueError as error:
        raise ConfigInvalid(f"the base URL {base_url!r} cannot be used: {error}") from error
    if parts.scheme not in ("http", "https") or not host or any(part.isspace() for part in base_url):
        raise ConfigInvalid(f"the base URL {base_url!r} cannot be used", hint="write it as https://host/v1")
    secure = parts.scheme == "https"
    return host, port or (443 if secure else 80), secure, base, authority


@cache
def _trust() -> ssl.SSLContext:
    """Return whom we trust: the system's authorities, or certifi's where the system has none."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        import certifi

        context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context
