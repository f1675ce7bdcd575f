"""Every fault of the stand-in provider, seen byte by byte from a raw socket, and what the provider noted of it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from reanimate.demo.provider import Behaviour, Fault, Match, Provider, answer_text

PROMPT = "what now?"
TEXT = answer_text(PROMPT)
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}
SHORT_S = 0.2
"""What stays silent for so long, stays silent."""


def _request(wire: str, stream: bool, key: str = "k", model: str = "m") -> bytes:
    said: dict[str, Any] = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 99}
    body = json.dumps({"model": model, "stream": stream, **({"input": PROMPT} if wire == "responses" else said)})
    return (
        f"POST {PATHS[wire]} HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {key}\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}"
    ).encode()


@dataclass
class Seen:
    """What came back on the wire."""

    data: bytes
    end: str
    """`open`: it was silent at last; `fin`; `rst`."""
    first_s: float
    """When the first byte came."""
    took_s: float
    """When the last byte came."""

    @property
    def head(self) -> str:
        return self.data.partition(b"\r\n\r\n")[0].decode()

    @property
    def status(self) -> int:
        return int(self.head.split(" ")[1]) if self.data else 0

    @property
    def body(self) -> bytes:
        body = self.data.partition(b"\r\n\r\n")[2]
        if "chunked" not in self.head:
            return body
        whole = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            whole += body[: int(size, 16)]
            body = body[int(size, 16) + 2 :]
        return whole

    @property
    def finished(self) -> bool:
        """The chunked body ended as it must."""
        return self.data.endswith(b"\r\n0\r\n\r\n")

    @property
    def complete(self) -> bool:
        """Nothing more is to come."""
        _, found, length = self.head.partition("content-length: ")
        return self.finished or (bool(found) and len(self.body) == int(length.split("\r\n")[0]))

    @property
    def tokens(self) -> list[str]:
        """The text of the tokens that came, on any wire."""
        found = []
        for line in self.body.decode().split("\n"):
            if not line.startswith("data: {"):
                continue
            try:
                event = json.loads(line.removeprefix("data: "))
            except ValueError:
                continue
            if event.get("choices"):
                found.append(event["choices"][0]["delta"].get("content"))
            delta = event.get("delta")
            found.append(delta if isinstance(delta, str) else (delta or {}).get("text"))
        return [text for text in found if text]


@asynccontextmanager
async def _connected(provider: Provider) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(provider.url.rsplit(":", 1)[1]))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _ask(provider: Provider, wire: str = "chat", stream: bool = True, **given: str) -> Seen:
    """Ask on a connection of its own, and read until it ends or is silent."""
    began = time.monotonic()
    async with _connected(provider) as (reader, writer):
        writer.write(_request(wire, stream, **given))
        data, end, first_s, last_s = b"", "open", 0.0, 0.0
        while True:
            try:
                patience_s = 0.02 if Seen(data, end, 0, 0).complete else SHORT_S
                got = await asyncio.wait_for(reader.read(65536), patience_s)
            except TimeoutError:
                break
            except ConnectionResetError:
                end = "rst"
                break
            if not got:
                end = "fin"
                break
            last_s = time.monotonic() - began
            first_s = first_s or last_s
            data += got
        return Seen(data, end, first_s, last_s)


async def test_well__bytes_of_each_wire(provider: Provider) -> None:
    for wire in PATHS:
        seen = await _ask(provider, wire)
        assert (seen.status, seen.finished, seen.end) == (200, True, "open")
        assert "".join(seen.tokens) == TEXT
        assert "text/event-stream" in seen.head
        assert b"@@@@" not in seen.data
    assert (await _ask(provider, "chat")).body.endswith(b"data: [DONE]\n\n")
    assert b"event: message_stop\n" in (await _ask(provider, "messages")).body


@pytest.mark.parametrize("wire", PATHS)
@pytest.mark.parametrize(("how", "end"), [("rst", "rst"), ("fin", "fin"), ("end", "open")])
async def test_cut__after_a_token(provider: Provider, wire: str, how: Any, end: str) -> None:
    provider.fail(Fault("cut", after=5, how=how))
    seen = await _ask(provider, wire)
    assert (seen.end, seen.finished) == (end, how == "end")
    assert len(seen.tokens) == 5
    assert TEXT.startswith("".join(seen.tokens))
    assert b'finish_reason":"stop' not in seen.data
    (call,) = provider.calls
    assert (call.tokens, call.ended, call.faults) == (5, {"open": "answered"}.get(end, end), ("cut",))


@pytest.mark.parametrize(("how", "end"), [("rst", "rst"), ("fin", "fin")])
async def test_cut__of_an_answer_in_one_piece_loses_half_of_its_body(provider: Provider, how: Any, end: str) -> None:
    whole = (await _ask(provider, stream=False)).body
    provider.fail(Fault("cut", how=how))
    seen = await _ask(provider, stream=False)
    assert (seen.end, f"content-length: {len(whole)}" in seen.head) == (end, True)
    assert len(seen.body) == len(whole) // 2


@pytest.mark.timed
async def test_stall__for_a_while_or_for_ever(provider: Provider) -> None:
    provider.fail(Fault("stall", after=3))
    for wire in PATHS:
        seen = await _ask(provider, wire)
        assert (len(seen.tokens), seen.end, seen.finished) == (3, "open", False)
    await provider.ended()
    assert {call.ended for call in provider.calls} == {"client closed"}
    assert all(190 < call.ms < 1000 for call in provider.calls)
    provider.fail(Fault("stall", after=3, ms=120))
    seen = await _ask(provider)
    assert ("".join(seen.tokens), seen.finished) == (TEXT, True)
    assert seen.took_s > 0.12
    assert len((await _ask(provider, stream=False)).body) > 100


async def test_hang_reset_and_close__before_anything_is_said(provider: Provider) -> None:
    for kind, end in (("hang", "open"), ("reset", "rst"), ("close", "fin")):
        provider.fail(Fault(kind))  # type: ignore[arg-type]
        seen = await _ask(provider)
        assert (seen.data, seen.end) == (b"", end)
        assert provider.calls[-1].status == 0


@pytest.mark.timed
async def test_delays__before_the_head_after_the_head_and_between_tokens(provider: Provider) -> None:
    provider.fail(Fault("delay", ms=80), Fault("delay", ms=40))
    seen = await _ask(provider)
    assert 0.12 <= seen.first_s < 0.3
    provider.fail(Fault("late_body", ms=120))
    for stream in (True, False):
        seen = await _ask(provider, stream=stream)
        assert seen.first_s < 0.1
        assert seen.took_s >= 0.12
    provider.fail(Fault("slow_tokens", ms=5))
    seen = await _ask(provider)
    assert seen.took_s >= 0.12
    assert "".join(seen.tokens) == TEXT
    provider.heal()
    provider.behaviour = Behaviour(think_ms=60, token_ms=3)
    seen = await _ask(provider)
    assert seen.first_s >= 0.06
    assert seen.took_s >= 0.13


async def test_events__malformed_error_no_finish_no_end(provider: Provider) -> None:
    provider.fail(Fault("malformed", after=4))
    seen = await _ask(provider)
    broken = [line for line in seen.body.split(b"\n\n") if line and not line.endswith((b"}", b"[DONE]"))]
    assert (len(broken), "".join(seen.tokens), seen.finished) == (1, TEXT, True)
    provider.fail(Fault("error_event", after=4, error="overloaded"))
    for wire, mark in (("chat", b'"server_error"'), ("messages", b"event: error\n"), ("responses", b"event: error\n")):
        seen = await _ask(provider, wire)
        assert (len(seen.tokens), mark in seen.body, seen.finished) == (4, True, True)
    provider.fail(Fault("no_finish"))
    for wire, mark in (
        ("chat", b'"finish_reason":"stop"'),
        ("messages", b"message_delta"),
        ("responses", b".completed"),
    ):
        seen = await _ask(provider, wire)
        assert ("".join(seen.tokens), mark in seen.body, seen.finished) == (TEXT, False, True)
    provider.fail(Fault("no_end"))
    for wire, mark in (("chat", b"[DONE]\n\n"), ("messages", b"message_stop")):
        seen = await _ask(provider, wire)
        assert ("".join(seen.tokens), seen.body.count(mark), seen.finished) == (TEXT, 0, True)
    provider.fail(Fault("no_end", how="stall"))
    seen = await _ask(provider)
    assert (seen.body.count(b'"finish_reason":"stop"'), seen.end, seen.finished) == (1, "open", False)


@pytest.mark.parametrize("stream", [True, False])
async def test_garbage__with_status_200(provider: Provider, stream: bool) -> None:
    found = {}
    for garbage in ("html", "empty", "truncated", "schema", "error"):
        provider.fail(Fault("garbage", garbage=garbage))  # type: ignore[arg-type]
        seen = await _ask(provider, stream=stream)
        assert (seen.status, seen.end) == (200, "open")
        found[garbage] = seen
    assert b"<html>" in found["html"].body
    assert "text/html" in found["html"].head
    assert found["empty"].body == b""
    assert found["truncated"].body
    assert b'"choices":null' not in found["schema"].body
    assert b'"error":{"message"' in found["error"].body
    if not stream:
        with pytest.raises(ValueError):
            json.loads(found["truncated"].body)


async def test_status__with_any_headers_and_body(provider: Provider) -> None:
    provider.fail(Fault("status", error="rate_limit", headers={"Retry-After": "7", "x-ratelimit-reset-requests": "2s"}))
    seen = await _ask(provider)
    assert (seen.status, json.loads(seen.body)["error"]["code"]) == (429, "rate_limit_exceeded")
    for line in ("retry-after: 7", "x-ratelimit-reset-requests: 2s", "retry-after-ms: 1400"):
        assert f"\r\n{line}" in seen.head
    assert seen.head.count("retry-after:") == 1
    provider.fail(Fault("status", status=529, body="<p>busy</p>", headers={"content-type": "text/html"}))
    seen = await _ask(provider, "messages")
    assert (seen.status, seen.body, "content-type: text/html" in seen.head) == (529, b"<p>busy</p>", True)
    provider.fail(Fault("status", error="overloaded"))
    assert [(await _ask(provider, wire)).status for wire in ("chat", "messages")] == [503, 529]


async def test_refuse__connections_are_refused_until_it_is_healed(provider: Provider) -> None:
    async with _connected(provider) as (reader, writer):
        writer.write(_request("chat", False))
        assert await reader.readuntil(b"\r\n\r\n")
        provider.fail(Fault("refuse"))
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 1)
    with pytest.raises(ConnectionRefusedError):
        await _ask(provider)
    provider.heal()
    assert (await _ask(provider)).status == 200


async def test_unaccepted__connections_wait_at_the_door(provider: Provider) -> None:
    provider.fail(Fault("unaccepted"))
    seen = await _ask(provider)
    assert (seen.data, seen.end) == (b"", "open")
    assert provider.total == 0
    provider.heal()
    assert (await _ask(provider)).status == 200


async def test_choice__times_skip_match_and_the_first_that_is_due(provider: Provider) -> None:
    provider.fail(
        Fault("status", status=500, times=2, match=Match(key="a")),
        Fault("status", status=501, match=Match(model="n")),
        Fault("status", status=502, skip=1, times=1, match=Match(path=PATHS["messages"], stream=False)),
    )
    asked = [("chat", "a", "n"), ("chat", "a", "m"), ("chat", "a", "n"), ("chat", "b", "m")]
    assert [(await _ask(provider, wire, key=key, model=model)).status for wire, key, model in asked] == [
        500, 500, 501, 200,
    ]  # fmt: skip
    assert [(await _ask(provider, "messages", stream=False)).status for _ in range(3)] == [200, 502, 200]


@pytest.mark.timed
async def test_flapping__by_the_clock(provider: Provider) -> None:
    provider.fail(Fault("status", status=500, good_s=0.4, bad_s=0.4))
    began, seen = time.monotonic(), []
    async with _connected(provider) as (reader, writer):
        while (at := time.monotonic() - began) < 1.2:
            writer.write(_request("chat", False))
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(size)
            seen.append((at, int(head.split(b" ")[1])))
            await asyncio.sleep(0.02)
    assert {status for at, status in seen if at < 0.35 or 0.85 < at < 1.15} == {200}
    assert {status for at, status in seen if 0.45 < at < 0.75} == {500}


async def test_requests__in_one_go_are_answered_in_order(provider: Provider) -> None:
    """Pipelined requests wait for their turn; a body may come in pieces; what is no HTTP is told so."""
    provider.behaviour = Behaviour(token_ms=1)
    async with _connected(provider) as (reader, writer):
        whole = _request("chat", True) + _request("chat", False)
        writer.write(whole[:150])
        await asyncio.sleep(0.02)
        writer.write(whole[150:])
        first = await reader.readuntil(b"\r\n0\r\n\r\n")
        second = await reader.readuntil(b"\r\n\r\n")
    assert b"text/event-stream" in first
    assert b"application/json" in second
    async with _connected(provider) as (reader, writer):
        writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(("kind", "end"), [("hang", "open"), ("reset", "rst"), ("close", "fin")])
async def test_running__answers_underway_are_hit_as_well(provider: Provider, kind: Any, end: str) -> None:
    provider.behaviour = Behaviour(token_ms=10)
    asked = asyncio.create_task(_ask(provider))
    spared = asyncio.create_task(_ask(provider, model="other"))
    await asyncio.sleep(0.06)
    provider.fail(Fault(kind, running=True, match=Match(model="m")))
    seen = await asked
    assert 0 < len(seen.tokens) < 24
    assert (seen.end, TEXT.startswith("".join(seen.tokens))) == (end, True)
    assert (await _ask(provider)).tokens == []
    assert "".join((await spared).tokens) == TEXT
