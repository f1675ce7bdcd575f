"""The few parts of HTTP that the server needs: a request, an answer, a route table."""

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

import orjson

from reanimate.standby.auth import Right
from reanimate.standby.errors import ApiError, format_error

__all__ = [
    "JSON",
    "LARGEST_BODY",
    "Receive",
    "Request",
    "Response",
    "Route",
    "Send",
    "accepted",
    "error_answer",
    "ok",
    "send",
]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LARGEST_BODY = 32 << 20
"""Bytes, as a server's default."""

JSON = [("content-type", "application/json")]
_TRUE = ("true", "1")
_FALSE = ("false", "0")


class ClientGone(Exception):
    """The client went away while its request was read."""


@dataclass
class Request:
    """One request. The body is read at most once, in whole or in chunks."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    receive: Receive
    params: dict[str, str] = field(default_factory=dict)
    """Values of the names in the route's path."""
    started: float = field(default_factory=time.perf_counter)
    privileged: bool = False
    """Came with the control key."""

    @classmethod
    def of(cls, scope: Message, receive: Receive) -> "Request":
        return cls(
            method=scope["method"],
            path=(scope.get("raw_path") or scope["path"].encode()).decode("latin-1"),
            query=dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
            headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
            receive=receive,
        )

    def flag(self, name: str, *, default: bool) -> bool:
        """Read a query parameter that is true or false.

        Raises:
            ApiError: 400, it is neither.
        """
        value = self.query.get(name)
        if value is None:
            return default
        if value not in (*_TRUE, *_FALSE):
            raise ApiError(400, f"Deserialize error in query parameters: {name}: expected `true` or `false`")
        return value in _TRUE

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises:
            ClientGone: it will never be complete.
        """
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            if body := message.get("body", b""):
                yield body
            if not message.get("more_body", False):
                return

    async def json(self) -> dict[str, Any]:
        """Read the body as a JSON object, whatever its content type says.

        Raises:
            ApiError: 400, it is too large, not JSON, or not an object.
        """
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > LARGEST_BODY:
                raise ApiError(400, f"JSON payload is larger than allowed (limit: {LARGEST_BODY} bytes).")
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise format_error(_where_json_failed(body.decode(errors="replace"), error.pos)) from None
        if not isinstance(found, dict):
            raise format_error("invalid type, expected a map at line 1 column 1")
        return found


def _where_json_failed(text: str, position: int) -> str:
    line, column = text.count("\n", 0, position) + 1, position - (text.rfind("\n", 0, position) + 1)
    if not text[position:].strip():
        last = text.rsplit("\n", 1)[-1]
        return f"EOF while parsing a value at line {text.count(chr(10)) + 1} column {len(last)}"
    return f"expected value at line {line} column {column + 1}"


@dataclass
class Response:
    """An answer; a body that is not bytes is streamed."""

    status: int
    body: bytes | AsyncIterator[bytes] = b""
    headers: list[tuple[str, str]] = field(default_factory=list)


Handler = Callable[[Any, Request], Awaitable[Response]]


@dataclass(frozen=True)
class Route:
    """One line of the route table; `{name}` in the path stands for one segment."""

    method: str
    path: str
    right: Right
    handler: Handler
    pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path)
        object.__setattr__(self, "pattern", re.compile(pattern))

    def match(self, request: Request) -> dict[str, str] | None:
        """Return the decoded values of the path's names, or nothing when this is another route."""
        if request.method != self.method:
            return None
        found = self.pattern.fullmatch(request.path)
        return None if found is None else {name: unquote(value) for name, value in found.groupdict().items()}


def ok(request: Request, result: Any) -> Response:
    """Wrap a result as every JSON route does."""
    elapsed = time.perf_counter() - request.started
    body = orjson.dumps({"result": result, "status": "ok", "time": round(elapsed, 9)}, option=orjson.OPT_NON_STR_KEYS)
    return Response(200, body, JSON)


def accepted(request: Request) -> Response:
    """Say that the work goes on after the answer."""
    elapsed = time.perf_counter() - request.started
    return Response(202, orjson.dumps({"status": "accepted", "time": round(elapsed, 9)}), JSON)


def error_answer(error: ApiError) -> Response:
    if error.plain:
        headers = [("content-type", "text/plain; charset=utf-8")] if error.status != 401 else []
        return Response(error.status, error.text.encode(), headers)
    return Response(error.status, orjson.dumps({"status": {"error": error.text}, "time": 0.0}), JSON)


async def send(response: Response, out: Send) -> None:
    """Send the answer; a body of known size carries its length."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    body = response.body
    if isinstance(body, bytes) and not any(name == b"content-length" for name, _ in headers):
        headers.append((b"content-length", str(len(body)).encode()))
    await out({"type": "http.response.start", "status": response.status, "headers": headers})
    if isinstance(body, bytes):
        await out({"type": "http.response.body", "body": body})
        return
    async for chunk in body:
        await out({"type": "http.response.body", "body": chunk, "more_body": True})
    await out({"type": "http.response.body", "body": b""})
