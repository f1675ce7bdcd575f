"""Reading a provider's stream: where it ends, what breaks it, how long silence lasts."""

import asyncio
import time
from typing import Any

import pytest
from test_llm_stream_events import CHAT, MESSAGES, chunk, kinds, sse

from reanimate.gateway.llm.call import Usage
from reanimate.gateway.llm.endpoints import Shape
from reanimate.gateway.llm.streams.reader import StreamBroken, StreamReader
from reanimate.gateway.llm.transport.errors import TransportFailed, TransportTrouble
from reanimate.gateway.llm.transport.response import Response
from reanimate.gateway.llm.wire.events import Event
from reanimate.gateway.llm.wire.scanners import scanner_for

TOKENS = sse(chunk({"role": "assistant"}), chunk({"content": "one"}), chunk({"content": " two"}))
FINISH = sse(chunk({}, "stop"))
USAGE = sse(chunk(usage={"prompt_tokens": 9, "completion_tokens": 2}))
DONE = sse("[DONE]")


class Answer:
    """A response that gets its bytes from the test."""

    def __init__(self, shape: Shape = Shape.CHAT, **options: Any) -> None:
        self.response = Response()
        self.response.status = 200
        self.reader = StreamReader(self.response, scanner_for(shape), **{"idle_s": 0.1, **options})

    def comes(self, data: bytes) -> None:
        self.response.last_byte_at = asyncio.get_running_loop().time()
        self.response.add(data)
        self.response.wake()

    def ends(self) -> None:
        self.response.complete()
        self.response.wake()

    async def all(self) -> list[Event]:
        found = await self.reader.first()
        while events := await self.reader.next():
            found += events
        return found

    async def broken(self) -> tuple[str, str]:
        """Return the text that came, and how the stream broke."""
        with pytest.raises(StreamBroken) as broken:
            await self.all()
        assert self.response.closed
        return self.reader.facts.text, broken.value.failure.kind


async def test_a_whole_stream_is_read_to_its_end() -> None:
    answer = Answer(awaits_usage=True)
    answer.comes(TOKENS + FINISH + USAGE + DONE)
    answer.ends()
    assert kinds(await answer.all()) == ["start", "token", "token", "finish", "usage", "done"]
    assert answer.reader.facts.usage == Usage(9, 2)


async def test_an_error_that_repeats_the_key_is_told_without_it() -> None:
    answer = Answer()
    answer.response.sent = [(b"authorization", b"Bearer sk-1"), (b"x-api-key", b"sk-2"), (b"accept", b"sent")]
    answer.comes(TOKENS + sse({"error": {"message": "you sent sk-1 and sk-2"}}))
    with pytest.raises(StreamBroken) as broken:
        await answer.all()
    assert broken.value.failure.detail.endswith("you sent [key] and [key]")


async def test_nothing_is_returned_before_the_first_token() -> None:
    answer = Answer()
    first = asyncio.create_task(answer.reader.first())
    answer.comes(sse(chunk({"role": "assistant", "content": ""})) + b": ping\n\n")
    await asyncio.sleep(0.02)
    assert not first.done()
    answer.comes(TOKENS)
    assert kinds(await first) == ["start", "ping", "start", "token", "token"]
    answer.reader.abort()


@pytest.mark.timed
@pytest.mark.parametrize("missing", ["mark", "mark and usage", "mark, cut", "mark, then garbage", "mark, stall"])
async def test_an_answer_that_only_lacks_its_end_mark_is_whole(missing: str) -> None:
    answer = Answer(awaits_usage=True)
    answer.comes(TOKENS + FINISH + (b"" if "usage" in missing else USAGE))
    began = time.monotonic()
    if "cut" in missing:
        answer.response.fail(TransportFailed(TransportTrouble.CUT, "closed"))
    elif "garbage" in missing:
        answer.comes(b"data: {{{\n\n")
    elif "stall" not in missing:
        answer.ends()
    assert kinds(await answer.all())[:4] == ["start", "token", "token", "finish"]
    assert time.monotonic() - began < 0.5
    assert not answer.reader.facts.complete


PIECES = [sse(chunk({"content": word}, "stop")) for word in ("one", " two", " three")]


async def test_a_reason_that_comes_with_each_piece_is_no_end_yet() -> None:
    """So do some servers: a pause that is longer than others take for the end mark cuts nothing off."""
    answer = Answer(idle_s=30.0)
    answer.comes(PIECES[0])
    whole = asyncio.create_task(answer.all())
    for piece in PIECES[1:]:
        await asyncio.sleep(0.4)
        answer.comes(piece)
    answer.comes(DONE)
    assert kinds(await whole) == ["finish", "finish", "finish", "done"]
    assert answer.reader.facts.text == "one two three"


async def test_where_reasons_come_with_each_piece_a_cut_is_a_cut() -> None:
    """Only the end that the provider makes itself is one."""
    answer = Answer()
    answer.comes(PIECES[0] + PIECES[1])
    answer.response.fail(TransportFailed(TransportTrouble.CUT, "closed"))
    assert await answer.broken() == ("one two", "cut")
    answer = Answer()
    answer.comes(PIECES[0] + PIECES[1])
    assert await answer.broken() == ("one two", "stall")
    answer = Answer()
    answer.comes(PIECES[0] + PIECES[1])
    answer.ends()
    assert kinds(await answer.all()) == ["finish", "finish"]


async def test_a_single_piece_with_its_reason_is_whole_without_the_end_mark() -> None:
    """Nothing speaks against it, once the provider has been silent for its time."""
    answer = Answer()
    answer.comes(TOKENS + PIECES[2])
    assert kinds(await answer.all()) == ["start", "token", "token", "finish"]


async def test_usage_that_was_asked_for_is_waited_for_a_little_longer() -> None:
    answer = Answer(awaits_usage=True)
    answer.comes(TOKENS + FINISH)
    asyncio.get_running_loop().call_later(0.4, answer.comes, USAGE)
    await answer.all()
    assert answer.reader.facts.usage == Usage(9, 2)


@pytest.mark.parametrize(
    ("then", "kind"),
    [
        (b"", "no_finish"),
        (DONE, "no_finish"),
        (b"data: {nonsense\n\n", "malformed_event"),
        (b"<html>busy</html>\n\n", "no_finish"),
        (sse({"error": {"message": "overloaded"}}), "error_event"),
        (sse({"error": {"message": "slow down", "code": 429}}), "error_event"),
        (sse({"error": {"message": "too long", "code": "context_length_exceeded"}}), "context_length"),
        (sse({"error": {"message": "flagged", "code": "content_policy_violation"}}), "content_policy"),
        (sse({"error": {"message": "no", "type": "invalid_request_error"}}), "bad_request"),
        (TOKENS[:-20], "malformed_event"),
    ],
)
async def test_what_comes_before_the_break_is_read_and_then_the_break(then: bytes, kind: str) -> None:
    answer = Answer()
    answer.comes(TOKENS + then)
    answer.ends()
    text, found = await answer.broken()
    assert (text[:7], found) == ("one two", kind)


async def test_a_cut_is_told_after_all_that_came() -> None:
    answer = Answer()
    answer.comes(TOKENS)
    answer.response.fail(TransportFailed(TransportTrouble.CUT, "closed"))
    assert await answer.broken() == ("one two", "cut")


@pytest.mark.timed
async def test_silence_ends_at_the_idle_limit() -> None:
    answer = Answer(idle_s=0.1)
    answer.comes(TOKENS)
    began = time.monotonic()
    assert await answer.broken() == ("one two", "stall")
    assert 0.09 < time.monotonic() - began < 0.2


@pytest.mark.timed
async def test_pings_keep_a_stream_alive_for_a_while_only() -> None:
    answer = Answer(idle_s=0.1)
    answer.comes(TOKENS)
    began = time.monotonic()

    async def ping() -> None:
        while True:
            await asyncio.sleep(0.05)
            answer.comes(b": ping\n\n")

    pinging = asyncio.create_task(ping())
    assert await answer.broken() == ("one two", "stall")
    pinging.cancel()
    assert 0.25 < time.monotonic() - began < 0.5


async def test_a_caller_that_takes_its_time_is_not_the_providers_silence() -> None:
    answer = Answer(idle_s=0.1)
    answer.comes(TOKENS)
    await answer.reader.first()
    answer.comes(sse(chunk({"content": " three"})))
    await answer.reader.next()
    answer.comes(sse(chunk({"content": " four"})))
    await asyncio.sleep(0.35)
    assert kinds(await answer.reader.next()) == ["token"]
    answer.reader.abort()


@pytest.mark.parametrize("data", [b"", b"<html>busy</html>", b": ping\n\n", DONE, b"data: {}\n\n"])
async def test_no_answer_at_all_is_no_first_token(data: bytes) -> None:
    answer = Answer()
    if data:
        answer.comes(data)
    answer.ends()
    with pytest.raises(StreamBroken):
        await answer.reader.first()


async def test_being_cancelled_leaves_the_provider() -> None:
    answer = Answer(Shape.MESSAGES, idle_s=10)
    answer.comes(MESSAGES[:700])
    await answer.reader.first()
    waiting = asyncio.create_task(answer.reader.next())
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert answer.response.closed


async def test_a_whole_stream_in_single_bytes_is_the_same() -> None:
    answer = Answer()
    reading = asyncio.create_task(answer.all())
    for byte in CHAT:
        answer.comes(bytes([byte]))
        await asyncio.sleep(0)
    assert kinds(await reading) == ["start", "token", "token", "finish", "usage", "done"]
    answer.ends()


async def test_once_it_is_over_nothing_is_kept_of_it_and_the_connection_is_let_go() -> None:
    answer = Answer(idle_s=0.05)
    answer.comes(TOKENS)
    await answer.reader.first()
    answer.comes(FINISH + DONE)
    await answer.reader.next()
    assert answer.reader.is_over
    assert not answer.response.closed
    await asyncio.sleep(0.3)
    assert answer.response.closed
    assert answer.reader._timer is None


async def test_a_process_that_was_held_up_itself_reads_first_what_has_arrived() -> None:
    answer = Answer(idle_s=0.1)
    answer.comes(TOKENS)
    await answer.reader.first()
    loop = asyncio.get_running_loop()
    reading = asyncio.create_task(answer.reader.next())
    await asyncio.sleep(0.01)
    time.sleep(0.2)  # noqa: ASYNC251 the loop itself is late
    loop.call_soon(loop.call_soon, answer.comes, FINISH)
    assert kinds(await reading) == ["finish"]
    answer.ends()
