"""The events of who goes on, made to fit the answer that was begun: tool calls, thinking, blocks, ends."""

from typing import Any

import orjson
import pytest
from llm_calls import call_of
from test_llm_stream_events import chunk, sse

from reanimate.gateway.llm.call import Usage
from reanimate.gateway.llm.endpoints import Shape
from reanimate.gateway.llm.failures import Failure, Help
from reanimate.gateway.llm.streams.continuing.reasons import why_not
from reanimate.gateway.llm.streams.continuing.request import Continuation
from reanimate.gateway.llm.streams.continuing.seam import NotWhole
from reanimate.gateway.llm.streams.continuing.seams import seam_for
from reanimate.gateway.llm.streams.continuing.stitch import Stitch, Unstitchable
from reanimate.gateway.llm.wire.events import Facts, Scanner
from reanimate.gateway.llm.wire.scanners import scanner_for

PATHS = {Shape.CHAT: "/v1/chat/completions", Shape.MESSAGES: "/v1/messages", Shape.RESPONSES: "/v1/responses"}
CUT = Failure("cut", Help.RETRY, "the stream broke")
LOOK = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}


def begun(shape: Shape, *events: dict[str, Any]) -> Scanner:
    """Return what a caller has seen of an answer."""
    scanner = scanner_for(shape)
    scanner.feed(sse(*events))
    return scanner


def joined(
    shape: Shape, told: Facts, *events: dict[str, Any] | str, prefilled: bool = True, **asked: Any
) -> tuple[Facts, bytes]:
    """Return all that the caller knows after the continuation, and what was sent for it."""
    call = call_of({"model": "large", "messages": [{"role": "user", "content": "?"}], **asked}, PATHS[shape])
    said = scanner_for(shape)
    found = said.feed(sse(*events))
    stitch = Stitch(told.text, prefilled=prefilled)
    seam = seam_for(call, told, said.facts, stitch, Usage(10, 3), shows_usage=True)
    sent = b"".join(seam.pass_on(event) for event in found)
    return told, sent


def message(*blocks: tuple[dict[str, Any], list[dict[str, Any]]], stop: str = "end_turn") -> list[dict[str, Any]]:
    """Return the events of a message."""
    events: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": {"id": "b", "model": "m", "usage": {"input_tokens": 7, "output_tokens": 1}},
        }
    ]
    for index, (block, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 5}})
    return [*events, {"type": "message_stop"}]


def text(*pieces: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]


TOOL = (
    {"type": "tool_use", "id": "t1", "name": "look", "input": {}},
    [{"type": "input_json_delta", "partial_json": "{}"}],
)
THINKING = ({"type": "thinking", "thinking": ""}, [{"type": "thinking_delta", "thinking": "hm"}])
BEGUN = message(text("Let me", " look"))[:4]


def test_chat__text_then_a_tool_call() -> None:
    told = begun(Shape.CHAT, chunk({"role": "assistant", "content": ""}), chunk({"content": "Let me"})).facts
    _, sent = joined(
        Shape.CHAT, told, chunk({"role": "assistant", "content": ""}), chunk({"content": " look."}),
        chunk({"tool_calls": [LOOK]}), chunk({}, "tool_calls"),
        chunk(usage={"prompt_tokens": 20, "completion_tokens": 4}), "[DONE]",
    )  # fmt: skip
    whole = scanner_for(Shape.CHAT)
    whole.feed(sse(chunk({"content": "Let me"})) + sent)
    facts = whole.facts
    assert (facts.text, facts.finish, facts.complete) == ("Let me look.", "tool_calls", True)
    assert [(call.id, call.name, call.arguments) for call in facts.tools] == [("call_1", "look", '{"a":1}')]
    assert facts.usage == told.usage == Usage(30, 7)


def test_chat__a_tool_call_at_once_does_not_prove_where_the_text_stopped() -> None:
    told = begun(Shape.CHAT, chunk({"content": "Let me look into what the replica says"})).facts
    with pytest.raises(Unstitchable):
        joined(Shape.CHAT, told, chunk({"tool_calls": [LOOK]}), chunk({}, "tool_calls"), prefilled=False)


def test_chat__thinking_and_roles_of_who_goes_on_are_left_out() -> None:
    told = begun(Shape.CHAT, chunk({"content": "One"})).facts
    _, sent = joined(
        Shape.CHAT, told, chunk({"role": "assistant", "reasoning_content": "hm"}), chunk({"content": " two"}),
        chunk({}, "stop"),
    )  # fmt: skip
    assert b"hm" not in sent
    assert b"role" not in sent
    assert told.text == "One two"


@pytest.mark.parametrize("delta", [{"refusal": "I won't"}, {"content": " x", "audio": {"id": "a"}}])
def test_chat__what_cannot_be_joined_is_refused(delta: dict[str, Any]) -> None:
    told = begun(Shape.CHAT, chunk({"content": "One"})).facts
    with pytest.raises(Unstitchable):
        joined(Shape.CHAT, told, chunk(delta), chunk({}, "stop"))
    assert told.text == "One"


def test_chat__json_that_is_none_gets_no_end_unless_it_was_cut_by_its_limit() -> None:
    asked = {"response_format": {"type": "json_object"}}
    begin = chunk({"content": '{"a":'})
    with pytest.raises(NotWhole):
        joined(Shape.CHAT, begun(Shape.CHAT, begin).facts, chunk({"content": "1"}), chunk({}, "stop"), **asked)
    told, _ = joined(Shape.CHAT, begun(Shape.CHAT, begin).facts, chunk({"content": "1"}), chunk({}, "length"), **asked)
    assert told.finish == "length"
    told, _ = joined(Shape.CHAT, begun(Shape.CHAT, begin).facts, chunk({"content": "1}"}), chunk({}, "stop"), **asked)
    assert told.text == '{"a":1}'


@pytest.mark.parametrize(
    ("begin", "goes_on", "blocks", "said"),
    [
        (BEGUN, message(text(".", " So")), 1, "Let me look. So"),
        (BEGUN, message(text("."), TOOL, stop="tool_use"), 2, "Let me look."),
        (BEGUN, message(TOOL, stop="tool_use"), 2, "Let me look"),
        (BEGUN, message(THINKING, text(".")), 1, "Let me look."),
        (BEGUN, message(text(" on."), text("More")), 2, "Let me look on.More"),
        (BEGUN, message(), 1, "Let me look"),
        (message(text("Let me", " look"))[:5], message(text(".")), 2, "Let me look."),
        (message(THINKING)[:4], message(THINKING, text("Yes")), 2, "Yes"),
    ],
)
def test_messages__blocks_go_on_where_they_were(
    begin: list[dict[str, Any]], goes_on: list[dict[str, Any]], blocks: int, said: str
) -> None:
    told = begun(Shape.MESSAGES, *begin).facts
    _, sent = joined(Shape.MESSAGES, told, *goes_on, max_tokens=99)
    events = begun(Shape.MESSAGES, *begin)
    open_at: list[int] = []
    seen: list[int] = []
    for event in events.feed(sent) or []:
        data = event.data or {}
        if data["type"] == "content_block_start":
            seen.append(data["index"])
        if data["type"] == "content_block_stop":
            open_at.append(data["index"])
        assert data["type"] != "message_start"
    facts = events.facts
    assert (facts.text, facts.blocks, facts.open_block, facts.complete) == (said, blocks, None, True)
    assert seen == sorted(set(seen))
    assert open_at == sorted(set(open_at))
    assert open_at[-1] == blocks - 1
    assert facts.usage == Usage(17, 8)


def test_why_an_answer_is_not_gone_on_with() -> None:
    call = call_of({"model": "large", "messages": []})

    def why(shape: Shape, *events: dict[str, Any], failure: Failure = CUT) -> str | None:
        return why_not(call, begun(shape, *events).facts, failure)

    assert why(Shape.CHAT, chunk({"content": "One"})) is None
    assert why(Shape.CHAT, chunk({"content": "One"}), failure=Failure("x", Help.NONE, "policy")) is not None
    assert "an end with each piece" in str(why(Shape.CHAT, chunk({"content": "One"}, "stop")))
    assert "within a tool call" in str(why(Shape.CHAT, chunk({"tool_calls": [LOOK]})))
    assert "tool calls are not" in str(why(Shape.MESSAGES, *message(text("One"), TOOL)[:-2]))
    assert "thinking" in str(why(Shape.MESSAGES, *message(THINKING)[:3]))
    other = chunk({"content": "Two"})
    other["choices"][0]["index"] = 1
    assert "more than one choice" in str(why(Shape.CHAT, chunk({"content": "One"}), other))
    likely = chunk({"content": "One"})
    likely["choices"][0]["logprobs"] = {"content": []}
    assert "log probabilities" in str(why(Shape.CHAT, likely))


@pytest.mark.parametrize("prefill", [True, False])
def test_what_is_asked_ends_with_the_text_and_how_to_go_on(prefill: bool) -> None:
    schema = {"type": "object"}
    wish = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    call = call_of(
        {
            "model": "large", "stream": True, "max_tokens": 50, "messages": [{"role": "user", "content": "Ask"}],
            **({} if prefill else {"response_format": wish}),
        }
    )  # fmt: skip
    target = call.route.targets[0].target
    object.__setattr__(target.can, "prefill", prefill)
    sent = Continuation(call, "The replica is ready \n", 20).build(call, target, None)
    fields = orjson.loads(sent.body)  # type: ignore[union-attr]
    assert fields["messages"][1] == {"role": "assistant", "content": "The replica is ready"}
    assert "response_format" not in fields
    if prefill:
        assert len(fields["messages"]) == 2
        assert fields["max_tokens"] == 30
    else:
        last = fields["messages"][2]["content"]
        assert last.endswith("<last_words>The replica is ready</last_words>")
        assert '<json_schema>{"type":"object"}</json_schema>' in last
        assert 30 < fields["max_tokens"] < 60


def test_an_answer_that_the_caller_had_begun_goes_on_in_the_same_message() -> None:
    said = [{"role": "user", "content": "Ask"}, {"role": "assistant", "content": "Dear "}]
    call = call_of({"model": "large", "stream": True, "messages": said})
    sent = Continuation(call, "customer,", 2).build(call, call.route.targets[0].target, None)
    fields = orjson.loads(sent.body)  # type: ignore[union-attr]
    assert fields["messages"][1] == {"role": "assistant", "content": "Dear customer,"}
