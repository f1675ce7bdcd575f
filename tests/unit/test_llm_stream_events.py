"""Scanning streams of events: what each event is, what is known of the answer, and that no byte is lost."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reanimate.gateway.llm.call import Usage
from reanimate.gateway.llm.endpoints import Shape
from reanimate.gateway.llm.wire.events import Event, EventKind, Scanner
from reanimate.gateway.llm.wire.scanners import scanner_for
from reanimate.gateway.llm.wire.sse import Frames, TooLong, fields_of


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": choices} | more


def sse(*events: dict[str, Any] | str, end: str = "\n\n") -> bytes:
    out = ""
    for event in events:
        if isinstance(event, str):
            out += f"data: {event}{end}"
        else:
            name = f"event: {event['type']}{end[: len(end) // 2]}" if "type" in event else ""
            out += f"{name}data: {json.dumps(event, ensure_ascii=False)}{end}"
    return out.encode()


CHAT = sse(
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Grüße, "}),
    chunk({"content": "世界 🌍"}),
    chunk({}, "stop"),
    chunk(usage={"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}),
    "[DONE]",
)
MESSAGES = sse(
    {"type": "message_start", "message": {"id": "msg", "model": "m", "usage": {"input_tokens": 5, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Grüße, "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "世界 🌍"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}},
    {"type": "message_stop"},
)
RESPONSES = sse(
    {"type": "response.created", "response": {"id": "r1", "model": "m", "status": "in_progress"}},
    {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "i"}},
    {"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": "Grüße, "},
    {"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": "世界 🌍"},
    {"type": "response.output_item.done", "output_index": 0, "item": {"type": "message", "id": "i"}},
    {
        "type": "response.completed",
        "response": {
            "id": "r1",
            "status": "completed",
            "usage": {"input_tokens": 9, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 2}},
        },
    },
)
STREAMS = [(Shape.CHAT, CHAT), (Shape.MESSAGES, MESSAGES), (Shape.RESPONSES, RESPONSES)]


def scan(shape: Shape, data: bytes) -> tuple[Scanner, list[Event]]:
    scanner = scanner_for(shape)
    events = scanner.feed(data)
    return scanner, events + scanner.close()


def kinds(events: list[Event]) -> list[str]:
    return [event.kind.value for event in events]


@st.composite
def splits(draw: st.DrawFn) -> tuple[Shape, bytes, list[bytes]]:
    shape, data = draw(st.sampled_from(STREAMS))
    ending = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    data = data.replace(b"\n", ending)
    if draw(st.booleans()):
        data = b"\xef\xbb\xbf" + data
    if draw(st.booleans()):
        data = b": hello" + ending * 2 + data
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=40)))
    return shape, data, [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(splits())
def test_wherever_the_chunks_end_the_events_are_the_same_and_no_byte_is_lost(
    case: tuple[Shape, bytes, list[bytes]],
) -> None:
    shape, data, pieces = case
    scanner = scanner_for(shape)
    events = [event for piece in pieces for event in scanner.feed(piece)] + scanner.close()
    whole, expected = scan(shape, data)
    assert kinds(events) == kinds(expected)
    assert [event.text for event in events] == [event.text for event in expected]
    assert b"".join(event.raw for event in events).rstrip() == data.rstrip()
    assert scanner.facts.text == whole.facts.text == "Grüße, 世界 🌍"
    assert scanner.facts.complete


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_any_bytes_come_out_as_they_went_in(data: bytes, cuts: list[int]) -> None:
    frames = Frames()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    raws = [raw for a, b in itertools.pairwise(edges) for raw in frames.feed(data[a:b])]
    assert b"".join(raws) + frames.close() == data


@given(st.binary(max_size=300))
def test_garbage_is_malformed_or_nothing_and_never_a_token(data: bytes) -> None:
    _, events = scan(Shape.CHAT, data)
    assert {event.kind for event in events} <= {EventKind.PING, EventKind.MALFORMED, EventKind.DONE, EventKind.ERROR}


def test_chat_says_what_it_is_and_what_was_used() -> None:
    scanner, events = scan(Shape.CHAT, CHAT)
    assert kinds(events) == ["start", "token", "token", "finish", "usage", "done"]
    facts = scanner.facts
    assert (facts.id, facts.model, facts.finish, facts.usage) == ("c1", "m", "stop", Usage(9, 4, 2))


def test_messages_say_what_they_are_and_what_was_used() -> None:
    scanner, events = scan(Shape.MESSAGES, MESSAGES)
    assert kinds(events) == ["start", "start", "ping", "token", "token", "ping", "finish", "done"]
    facts = scanner.facts
    assert (facts.id, facts.finish, facts.usage, facts.blocks, facts.open_block) == (
        "msg", "end_turn", Usage(5, 4, 0), 1, None,
    )  # fmt: skip


def test_responses_say_what_they_are_and_what_was_used() -> None:
    scanner, events = scan(Shape.RESPONSES, RESPONSES)
    assert kinds(events) == ["start", "start", "token", "token", "ping", "finish"]
    facts = scanner.facts
    assert (facts.id, facts.finish, facts.usage, facts.complete) == ("r1", "completed", Usage(9, 4, 2), True)


def test_several_lines_of_data_are_one_event() -> None:
    assert fields_of(b"event: x\ndata: {\ndata: }\nid: 3\n\n") == (b"x", b"{\n}")
    assert fields_of(b"data:1\r\n\r\n") == (b"", b"1")
    assert fields_of(b": a comment\n\n") == (b"", None)


@pytest.mark.parametrize(
    ("shape", "event"),
    [
        (Shape.CHAT, {"error": {"message": "broken", "type": "server_error"}}),
        (Shape.CHAT, {"object": "error", "message": "broken"}),
        (Shape.CHAT, chunk({"content": ""}, "error", error={"message": "broken"})),
        (Shape.MESSAGES, {"type": "error", "error": {"type": "overloaded_error", "message": "broken"}}),
        (Shape.RESPONSES, {"type": "error", "message": "broken"}),
        (Shape.RESPONSES, {"type": "response.failed", "response": {"error": {"message": "broken"}}}),
    ],
)
def test_a_providers_error_is_an_error(shape: Shape, event: dict[str, Any]) -> None:
    _, events = scan(shape, sse(event))
    assert kinds(events) == ["error"]
    assert "broken" in events[0].text


@pytest.mark.parametrize("word", ["error", "insufficient_system_resource"])
def test_a_reason_that_stands_for_a_failure_is_an_error(word: str) -> None:
    """So say it OpenRouter and DeepSeek, within an answer whose status is good."""
    scanner, events = scan(Shape.CHAT, sse(chunk({"content": "one"}), chunk({}, word)))
    assert kinds(events) == ["token", "error"]
    assert word in events[1].text
    assert scanner.facts.finish is None


@pytest.mark.parametrize("shape", [Shape.CHAT, Shape.MESSAGES, Shape.RESPONSES])
@pytest.mark.parametrize(
    "data", ["{", "<html>", "3", "[]", '{"hello": 1}', '{"choices": 3}', '{"choices": [[]]}', "\xff"]
)
def test_what_is_no_event_of_the_wire_is_malformed(shape: Shape, data: str) -> None:
    _, events = scan(shape, b"data: " + data.encode("latin-1") + b"\n\n")
    assert kinds(events) == ["malformed"]


@pytest.mark.parametrize(
    "event",
    [
        {"type": "content_block_delta", "index": 0},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 3}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{"}},
        {"type": "message_start"},
        {"type": "message_delta"},
    ],
)
def test_a_message_of_a_wrong_shape_is_malformed(event: dict[str, Any]) -> None:
    assert kinds(scan(Shape.MESSAGES, sse(event))[1]) == ["malformed"]


def test_an_event_that_is_cut_is_malformed_and_one_without_its_empty_line_is_whole() -> None:
    cut = sse(chunk({"content": "half"}))
    assert kinds(scan(Shape.CHAT, cut[:-9])[1]) == ["malformed"]
    _, events = scan(Shape.CHAT, cut[:-2])
    assert kinds(events) == ["token"]
    assert events[0].raw == cut


def test_tool_calls_are_kept_with_what_has_come_of_them() -> None:
    def piece(index: int, arguments: str, **more: Any) -> dict[str, Any]:
        return chunk({"tool_calls": [{"index": index, "function": {"arguments": arguments, **more}}]})

    scanner, events = scan(
        Shape.CHAT, sse(piece(0, "", name="one"), piece(0, '{"a":'), piece(0, "1}"), piece(1, "{", name="two"))
    )
    assert set(kinds(events)) == {"tool"}
    assert [(call.name, call.arguments, call.is_whole) for call in scanner.facts.tools] == [
        ("one", '{"a":1}', True),
        ("two", "{", False),
    ]


@pytest.mark.parametrize("word", ["", "null"])
def test_a_choice_has_not_ended_where_the_reason_is_an_empty_word(word: str) -> None:
    """So write some servers with each piece what others leave out: it is no end, least of all where a cut follows."""
    scanner, events = scan(Shape.CHAT, sse(chunk({"content": "one"}, word), chunk({"content": " two"}, word)))
    assert kinds(events) == ["token", "token"]
    assert scanner.facts.finish is None
    assert kinds(scanner.feed(sse(chunk({}, "stop")))) == ["finish"]


def test_fewer_choices_than_were_asked_for_end_at_the_end_mark() -> None:
    """Some servers give one whatever `n` is; without the mark nobody knows whether the others were still to come."""
    scanner = scanner_for(Shape.CHAT, {"n": 3})
    assert kinds(scanner.feed(sse(chunk({"content": "one"}), chunk({}, "stop")))) == ["token", "finish"]
    assert scanner.facts.finish is None
    scanner.feed(sse("[DONE]"))
    assert scanner.facts.finish == "stop"


def test_a_choice_that_has_begun_must_end() -> None:
    """An end mark does not make it whole."""
    scanner = scanner_for(Shape.CHAT, {"n": 2})
    second = {"index": 1, "delta": {"content": "zwei"}, "finish_reason": None}
    scanner.feed(sse(chunk({"content": "one"}), chunk({}, "stop"), chunk(choices=[second]), "[DONE]"))
    assert scanner.facts.finish is None


def test_several_choices_end_when_all_of_them_have() -> None:
    scanner = scanner_for(Shape.CHAT, {"n": 2})
    first = chunk({}, "stop")
    second = chunk({}, "length")
    second["choices"][0]["index"] = 1
    scanner.feed(sse(first))
    assert scanner.facts.finish is None
    scanner.feed(sse(second))
    assert scanner.facts.finish == "length"
    assert scanner.facts.several


def test_an_event_without_an_end_is_given_up() -> None:
    frames = Frames()
    for _ in range(255):
        frames.feed(b"x" * 65536)
    with pytest.raises(TooLong):
        frames.feed(b"x" * 65537)
    scanner = scanner_for(Shape.CHAT)
    events = [event for _ in range(300) for event in scanner.feed(b"x" * 65536)]
    assert kinds(events)[0] == "malformed"


@pytest.mark.parametrize(
    "bad", ["{", '{"error": {"message": "x"}}', '{"choices": [{"delta": {"content": "b", "tool_calls": 3}}]}']
)
def test_nothing_is_known_of_what_comes_with_or_behind_a_bad_event(bad: str) -> None:
    scanner, events = scan(Shape.CHAT, sse(chunk({"content": "a"}), bad, chunk({"content": "c"}), chunk({}, "stop")))
    assert len(events) == 2
    assert (scanner.facts.text, scanner.facts.finish) == ("a", None)
