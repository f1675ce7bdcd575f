"""One request to one provider: sent, its answer read as far as it must be good before anybody sees it."""

from dataclasses import dataclass

from reanimate.clock import utcnow
from reanimate.gateway.llm.endpoints import Endpoint
from reanimate.gateway.llm.failover.classify import classify, classify_broken, classify_error, garbage
from reanimate.gateway.llm.failures import Failure
from reanimate.gateway.llm.secrecy import without_keys
from reanimate.gateway.llm.streams.reader import StreamBroken, StreamReader
from reanimate.gateway.llm.transport.errors import TransportFailed
from reanimate.gateway.llm.transport.pool import Pool
from reanimate.gateway.llm.transport.response import Response
from reanimate.gateway.llm.wire.answers import Answer, Garbage, is_compressed, read_answer
from reanimate.gateway.llm.wire.events import Event, Scanner
from reanimate.gateway.llm.wire.outgoing import Outgoing

__all__ = ["AttemptFailed", "read_first", "read_whole", "send"]

_LARGEST_ANSWER = 256 * 1024 * 1024
_LARGEST_ERROR = 256 * 1024


class AttemptFailed(Exception):
    """One provider did not answer. Also what `Response.abort` is given when it is not waited for any longer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


@dataclass(slots=True)
class Whole:
    """An answer that came whole."""

    body: bytes
    answer: Answer


async def send(pool: Pool, out: Outgoing, response: Response) -> None:
    """Send, and return when a head with a good status is there.

    Raises:
        AttemptFailed: there is none.
        BaseException: what the response was aborted with.
    """
    try:
        await pool.send(b"POST", out.path, out.headers, out.body, response)
    except TransportFailed as failed:
        raise AttemptFailed(classify_broken(failed)) from None
    if response.status >= 300:
        raise AttemptFailed(classify(response.status, response.headers, await _error_body(response), utcnow()))


async def read_whole(endpoint: Endpoint, response: Response) -> Whole:
    """Read an answer that is not streamed.

    Raises:
        AttemptFailed: it breaks off, or is none.
        BaseException: what the response was aborted with.
    """
    try:
        body = await response.read(_LARGEST_ANSWER)
        return Whole(body, read_answer(endpoint, response.status, response.headers, body))
    except TransportFailed as failed:
        raise AttemptFailed(classify_broken(failed)) from None
    except Garbage as found:
        raise AttemptFailed(_no_answer(endpoint, response, body, found)) from None


async def read_first(
    response: Response, scanner: Scanner, *, idle_s: float, awaits_usage: bool
) -> tuple[StreamReader, list[Event]]:
    """Read a stream up to its first token.

    Raises:
        AttemptFailed: it breaks off before, is an error, or no stream at all.
        BaseException: what the response was aborted with.
    """
    content_type = next((value for name, value in response.headers if name == b"content-type"), b"")
    if content_type and b"event-stream" not in content_type.lower():
        raise AttemptFailed(await _no_stream(response, content_type))
    if is_compressed(response.headers):
        raise AttemptFailed(garbage("a compressed stream of events, which was not asked for"))
    reader = StreamReader(response, scanner, idle_s=idle_s, awaits_usage=awaits_usage)
    try:
        return reader, await reader.first()
    except StreamBroken as broken:
        raise AttemptFailed(broken.failure) from None


def _no_answer(endpoint: Endpoint, response: Response, body: bytes, found: Garbage) -> Failure:
    """Return what it means that `body` is no answer."""
    clean = without_keys(body, response.sent)
    if clean != body:
        # What was found is told with the beginning of the body, in which half a key may be left.
        try:
            read_answer(endpoint, response.status, response.headers, clean)
        except Garbage as again:
            found = again
    return garbage(found.detail) if found.error is None else classify_error(found.error, utcnow(), clean)


async def _error_body(response: Response) -> bytes:
    """Return what the provider says about its error; an error that breaks off has a status all the same."""
    try:
        return without_keys(await response.read(_LARGEST_ERROR), response.sent)
    except TransportFailed:
        return b""


async def _no_stream(response: Response, content_type: bytes) -> Failure:
    body = await _error_body(response)
    failure = classify(response.status, (), body, utcnow())
    kind = content_type.decode("latin-1").partition(";")[0].strip()
    if b'"error"' in body and b"json" in content_type:
        return failure
    return garbage(f"{kind or 'something'} instead of a stream of events")
