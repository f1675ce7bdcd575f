"""A whole answer becomes a stream, and a stream the whole answer, without losing a character."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_answers_by_hand import ANSWERS, PATHS, body_of, chat_answer
from llm_calls import call_of

from reanimate.gateway.llm.cache.assembly import assemble
from reanimate.gateway.llm.cache.hit import Hit
from reanimate.gateway.llm.cache.replay import replay
from reanimate.gateway.llm.endpoints import Shape
from reanimate.gateway.llm.wire.events import EventKind
from reanimate.gateway.llm.wire.scanners import scanner_for


def _same(shape: str, whole: dict[str, Any] | None, answer: dict[str, Any]) -> None:
    """Compare; an empty text and no text are one in a stream of chat."""
    assert whole is not None
    if shape == "chat":
        for choice in whole["choices"]:
            choice["message"]["content"] = choice["message"]["content"] or None
            choice.setdefault("logprobs", None)
    assert whole == answer


@pytest.mark.parametrize("name", ANSWERS)
def test_replay__is_what_was_kept(name: str) -> None:
    """Text, tools, thoughts, several choices: put together again, the events are the answer."""
    shape, answer = ANSWERS[name]
    stream = b"".join(replay(Shape(shape), answer, include_usage=True))
    _same(shape, assemble(Shape(shape), stream), answer)


@pytest.mark.parametrize("name", ANSWERS)
def test_replay__is_a_proper_stream(name: str) -> None:
    """The scanner that judges the streams of providers finds nothing wrong with it."""
    shape, answer = ANSWERS[name]
    asked = {"n": 2} if "two" in name else {}
    scanner = scanner_for(Shape(shape), asked)
    events = scanner.feed(b"".join(replay(Shape(shape), answer, include_usage=True))) + scanner.close()
    assert scanner.facts.complete
    assert not [event for event in events if event.kind in (EventKind.ERROR, EventKind.MALFORMED)]
    assert (scanner.facts.usage.input_tokens, scanner.facts.usage.output_tokens) == (5, 7)


@given(st.text(min_size=1, max_size=1_000))
def test_replay__of_any_text(text: str) -> None:
    """Whatever the characters, none is lost or changed."""
    answer = chat_answer(text)
    stream = b"".join(replay(Shape.CHAT, answer, include_usage=True))
    _same("chat", assemble(Shape.CHAT, stream), answer)


def test_replay__usage_only_when_asked_for() -> None:
    """A caller who did not ask for it has no chunk without choices, which many programs do not expect."""
    stream = b"".join(replay(Shape.CHAT, chat_answer(), include_usage=False))
    assert b"usage" not in stream
    assert stream.endswith(b"data: [DONE]\n\n")


def test_replay__marked_where_it_begins_and_ends() -> None:
    """What is marked is so in the first event and in the last, for those who read only one of them."""
    hit = Hit(body_of(chat_answer()), "main/large", 90.0, {"cache": "stale", "age_s": 90, "degraded": "x"})
    call = call_of({"model": "m", "stream": True})
    chunks = [orjson.loads(event[6:]) for event in list(hit.events(call))[:-1]]
    assert ["reanimate" in chunk for chunk in chunks] == [True, *[False] * (len(chunks) - 2), True]
    assert orjson.loads(hit.marked())["reanimate"]["age_s"] == 90
    for shape in ("messages", "responses"):
        hit = Hit(body_of(ANSWERS[f"{shape} text"][1]), None, 0.0, {"cache": "static"})
        stream = b"".join(hit.events(call_of({"model": "m", "stream": True}, PATHS[shape])))
        assert stream.count(b'"reanimate":{"cache":"static"}') >= 1
        assert b'"reanimate"' in stream.split(b"\n\n")[0]


@pytest.mark.parametrize("shape", ["chat", "messages", "responses"])
def test_assembly__of_what_is_no_whole_answer(shape: str) -> None:
    """A stream with an error in it, or without its end, is nothing to keep."""
    answer = ANSWERS[f"{shape} text"][1]
    events = list(replay(Shape(shape), answer, include_usage=True))
    error = b'event: error\ndata: {"type":"error","error":{"message":"overloaded"}}\n\n'
    assert assemble(Shape(shape), b"".join([*events[:2], error])) is None
    if shape != "chat":  # in chat it is the finish reason that tells
        assert assemble(Shape(shape), b"".join(events[:-2])) is None
    assert assemble(Shape(shape), b"data: nonsense\n\n") is None


def test_assembly__of_untidy_streams() -> None:
    """Comments, carriage returns, names said again or as nothing, and pieces of arguments."""
    pieces: list[dict[str, Any]] = [
        {"role": "assistant", "content": None, "tool_calls": [
            {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "id": None, "function": {"name": "", "arguments": '{"a":'}}]},
        {"tool_calls": [{"index": 0, "function": {"name": None, "arguments": '"b"}'}}]},
    ]  # fmt: skip
    lines = [": ping\r\n\r\n"]
    for delta in pieces:
        chunk = {"id": "1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        lines.append(f"data: {orjson.dumps(chunk).decode()}\r\n\r\n")
    end = {"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    lines.append(f"data:{orjson.dumps(end).decode()}\r\n\r\ndata: [DONE]\r\n\r\n")
    whole = assemble(Shape.CHAT, "".join(lines).encode())
    assert whole is not None
    (choice,) = whole["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":"b"}'}}
    ]
