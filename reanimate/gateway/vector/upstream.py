"""The connections to the targets: one request, one answer, and every way to fail given a name."""

import asyncio
import json
import os
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

import aiohttp
from yarl import URL

from reanimate.gateway.request import ClientGone, Request
from reanimate.gateway.vector.breaker import Trouble
from reanimate.gateway.vector.headers import KeyRing, answer_headers, request_headers
from reanimate.gateway.vector.routing import Act, Route
from reanimate.gateway.vector.targets import Target

__all__ = ["Answer", "Attempt", "TargetFailed", "Upstream", "missing_name"]

_KEEP_BYTES = 8 * 1024 * 1024
"""An answer is taken in whole up to here before any of it is passed on, so that a cut within it can be failed over."""
_ONE_WRITE = 512 * 1024
_IDLE_S = 120.0
"""A streamed answer that brings nothing for this long is cut."""
_KEEPALIVE_S = 3.0
"""Below the 5 s after which servers close an idle connection: a request must not meet one that is just closing."""
_SMALL = 64 * 1024


class TargetFailed(Exception):
    """One target did not answer as a healthy one would."""

    def __init__(self, trouble: Trouble, detail: str, answer: "Answer | None" = None) -> None:
        super().__init__(detail)
        self.trouble = trouble
        self.detail = detail
        self.answer = answer


@dataclass(slots=True)
class Answer:
    """A target's answer: all of it in `body`, or its beginning and then `rest`."""

    target: Target
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    rest: aiohttp.ClientResponse | None = None

    async def remainder(self) -> AsyncGenerator[bytes, None]:
        """Yield what comes after `body`, at the speed at which it is taken.

        Raises:
            TargetFailed: it broke off; what was passed on must not look complete.
        """
        if self.rest is None:
            return
        try:
            while True:
                async with asyncio.timeout(_IDLE_S):
                    chunk = await self.rest.content.readany()
                if not chunk:
                    return
                yield chunk
        except TimeoutError:
            raise TargetFailed(Trouble.TIMEOUT, f"brought nothing for {_IDLE_S:.0f} s within the answer") from None
        except (aiohttp.ClientError, OSError) as error:
            raise TargetFailed(Trouble.CUT, f"broke off within the answer: {_words(error)}") from error
        finally:
            # After a complete body the connection went back to its pool by itself, and this does nothing.
            self.rest.close()

    def discard(self) -> None:
        """Drop an answer that nobody will read."""
        if self.rest is not None:
            self.rest.close()


class Attempt:
    """What one target does with one request; `progress` is when it last showed life, by the loop's clock."""

    __slots__ = ("accused", "began", "progress", "target", "task")

    def __init__(self, target: Target, now: float) -> None:
        self.target = target
        self.began = now
        self.progress = now
        self.accused = False
        """Whether it has been found hanging already."""
        self.task: asyncio.Task[Answer]


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _os_words(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else _words(error)


def _name_failure(error: Exception, target: Target) -> TargetFailed:
    """Tell apart what a failed request means: was anything sent, did anything come back."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return TargetFailed(Trouble.REFUSED, f"no connection to {target.url} in time")
        case aiohttp.ClientConnectorError():
            return TargetFailed(
                Trouble.REFUSED, f"no connection to {target.url}: {_os_words(getattr(error, 'os_error', error))}"
            )
        case aiohttp.ClientPayloadError():
            return TargetFailed(Trouble.CUT, f"broke off within the answer: {_words(error)}")
        case aiohttp.ClientResponseError():
            return TargetFailed(Trouble.HTTP, f"answered something that is not HTTP: {error.message}")
        case _:
            return TargetFailed(Trouble.RESET, f"the connection broke before an answer: {_words(error)}")


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _ONE_WRITE):
        yield body[start : start + _ONE_WRITE]


class Upstream:
    """HTTP to the targets. Bytes pass through untouched; nothing is retried here."""

    def __init__(self, targets: tuple[Target, ...], hang_limit_s: float) -> None:
        self._keys = KeyRing(targets)
        self._hang_limit_s = hang_limit_s
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> "Upstream":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S, ttl_dns_cache=10),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._hang_limit_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            max_line_size=_SMALL,
            max_field_size=_SMALL,
        )
        # aiohttp would send a PUT or a DELETE a second time after a broken connection. A write is sent once.
        self._session._retry_connection = False
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def identity(self, request: Request) -> list[tuple[str, str]]:
        """Return the headers with which the client of `request` proved who it is."""
        return self._keys.sent(request.headers)

    async def open(
        self, target: Target, request: Request, route: Route, body: bytes | AsyncIterator[bytes]
    ) -> aiohttp.ClientResponse:
        """Send `request` to `target` and return when the head of the answer is there.

        Raises:
            TargetFailed: there was no answer; REFUSED says that nothing was sent.
            ClientGone: the client left in the middle of its body.
        """
        headers = [*request_headers(request.headers), *self._keys.for_target(target, self._keys.sent(request.headers))]
        data: bytes | AsyncIterator[bytes] | None = body
        if isinstance(body, bytes):
            if len(body) > _ONE_WRITE:
                headers.append(("Content-Length", str(len(body))))
                data = _pieces(body)
            elif not body:
                data = None
        elif request.length is not None:
            headers.append(("Content-Length", str(request.length)))
        if route.act is Act.PARTIAL:
            headers.append(("Connection", "close"))
        try:
            return await self._session.request(
                request.method,
                URL(target.url + request.target, encoded=True),
                headers=headers,
                data=data,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError) as error:
            if request.left:  # the body ended because the client did, and the target is not to blame
                raise ClientGone from error
            raise _name_failure(error, target) from error

    async def ask(self, attempt: Attempt, request: Request, route: Route, body: bytes | AsyncIterator[bytes]) -> Answer:
        """Send `request` and take the answer in, up to the size that is kept.

        Raises:
            TargetFailed: there was no whole answer.
        """
        loop = asyncio.get_running_loop()
        response = await self.open(attempt.target, request, route, body)
        attempt.progress = loop.time()
        complete = False
        try:
            headers = answer_headers(response.raw_headers)
            length = response.content_length
            if length is not None and length <= _SMALL:
                content = await response.content.read(-1)
                complete = True
            elif length is not None and length > _KEEP_BYTES:
                content = b""
            else:
                content, complete = await self._take_in(response, attempt)
        except (aiohttp.ClientError, OSError) as error:
            response.close()
            raise _name_failure(error, attempt.target) from error
        except BaseException:
            response.close()
            raise
        if complete:
            response.release()
        return Answer(attempt.target, response.status, headers, content, None if complete else response)

    async def _take_in(self, response: aiohttp.ClientResponse, attempt: Attempt) -> tuple[bytes, bool]:
        """Read up to the size that is kept; return it, and whether that was all."""
        loop = asyncio.get_running_loop()
        parts: list[bytes] = []
        size = 0
        while size <= _KEEP_BYTES:
            chunk = await response.content.readany()
            attempt.progress = loop.time()
            if not chunk:
                return b"".join(parts), True
            parts.append(chunk)
            size += len(chunk)
        return b"".join(parts), False

    async def get(self, target: Target, path: str, sent: list[tuple[str, str]], timeout_s: float) -> tuple[int, bytes]:
        """Ask a question of our own; return status and body.

        Raises:
            TargetFailed: no whole answer within `timeout_s` seconds.
        """
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.get(
                    URL(target.url + path, encoded=True),
                    headers=[*self._keys.for_target(target, sent), ("Accept-Encoding", "identity")],
                    allow_redirects=False,
                ) as response,
            ):
                return response.status, await response.read()
        except TimeoutError:
            raise TargetFailed(Trouble.TIMEOUT, f"no answer to GET {path} within {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _name_failure(error, target) from error


def _plain(answer: Answer) -> bytes:
    """Return the body of a small answer without its compression; what cannot be read is empty."""
    encoding = next((value for name, value in answer.headers if name == b"content-encoding"), b"identity")
    if encoding == b"identity":
        return answer.body
    try:
        return zlib.decompressobj(wbits=47).decompress(answer.body, _SMALL)
    except zlib.error:
        return b""


def missing_name(answer: Answer, route: Route) -> str | None:
    """Return the name of the collection that the server says is not there, if that is what it says."""
    if answer.status == 404:
        _, found, after = _plain(answer).partition(b"Not found: Collection `")
        name, quoted, _ = after.partition(b"` doesn't exist!")
        if found and quoted:
            return _unescaped(name)
    elif route.act is Act.EXISTS and answer.status == 200 and b'"exists":false' in _plain(answer).replace(b" ", b""):
        return route.name
    return None


def _unescaped(name: bytes) -> str:
    """Undo the escapes of a JSON string's inside."""
    try:
        return str(json.loads(b'"' + name + b'"'))
    except ValueError:
        return name.decode(errors="replace")
