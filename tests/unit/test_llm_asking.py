"""What is said of an answer that is none: never with a key that the provider repeats."""

from collections.abc import Awaitable

import pytest

from reanimate.gateway.llm.endpoints import ENDPOINTS
from reanimate.gateway.llm.failover.asking import AttemptFailed, read_first, read_whole
from reanimate.gateway.llm.failures import Failure
from reanimate.gateway.llm.transport.response import Response
from reanimate.gateway.llm.wire.scanners import scanner_for

CHAT = ENDPOINTS["/v1/chat/completions"]
KEY = b"sk-owned-by-the-gateway"


async def failed(body: bytes, content_type: bytes, *, stream: bool, coding: bytes = b"identity") -> Failure:
    """Return what is found wrong with an answer to a request that was made with KEY."""
    response = Response()
    response.sent = [(b"authorization", b"Bearer " + KEY)]
    response.status = 200
    response.headers = [(b"content-type", content_type), (b"content-encoding", coding)]
    response.add(body)
    response.complete()
    reading: Awaitable[object] = (
        read_first(response, scanner_for(CHAT.shape), idle_s=0.1, awaits_usage=False)
        if stream
        else read_whole(CHAT, response)
    )
    with pytest.raises(AttemptFailed) as caught:
        await reading
    return caught.value.failure


ERROR = b'{"error":{"message":"you sent %s","type":"invalid_request_error"}}' % KEY


@pytest.mark.parametrize(
    ("body", "content_type", "stream"),
    [
        (ERROR, b"application/json", False),
        (ERROR, b"application/json", True),
        (b"data: " + ERROR + b"\n\n", b"text/event-stream", True),
        (b"<p>you sent " + KEY + b"</p>", b"text/html", False),
    ],
)
async def test_an_error_with_a_good_status_is_told_without_the_key(
    body: bytes, content_type: bytes, stream: bool
) -> None:
    failure = await failed(body, content_type, stream=stream)
    assert "you sent [key]" in failure.detail
    assert KEY not in failure.body


async def test_no_half_of_a_key_is_left_where_words_are_cut() -> None:
    for before in range(50, 90):
        failure = await failed(b"<p>" + b"." * before + KEY, b"text/html", stream=False)
        assert KEY[:4].decode() not in failure.detail


@pytest.mark.parametrize("stream", [False, True])
async def test_a_compressed_answer_is_called_so(stream: bool) -> None:
    """None was asked for, and nothing can be seen in it."""
    body = b"\x1f\x8b\x08\x00 not to be read"
    failure = await failed(body, b"text/event-stream", stream=stream, coding=b"gzip")
    assert (failure.kind, "compressed" in failure.detail) == ("garbage", True)
