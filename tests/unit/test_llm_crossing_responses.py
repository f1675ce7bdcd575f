"""OpenAI's responses, answered by Anthropic's wire."""

from typing import Any

import httpx2
import openai
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_calls import KEY, call_of, catalogue_of, target_of
from llm_messages import message, messages_stream, sse

from reanimate.gateway.llm.call import Usage
from reanimate.gateway.llm.endpoints import ENDPOINTS
from reanimate.gateway.llm.wire.answers import read_answer
from reanimate.gateway.llm.wire.carrying import CannotCarry
from reanimate.gateway.llm.wire.crossing import translate_answer, translator_for
from reanimate.gateway.llm.wire.events import EventKind
from reanimate.gateway.llm.wire.outgoing import Outgoing, Refusal, outgoing
from reanimate.gateway.llm.wire.scanners import scanner_for

RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
CATALOGUE = catalogue_of("anthropic")
TOOL = {"type": "function", "name": "look", "description": "Looks.", "parameters": SCHEMA, "strict": True}


def crossed(fields: dict[str, Any]) -> Outgoing | Refusal:
    return outgoing(
        call_of({"model": "m", "input": "Hello", **fields}, RESPONSES, CATALOGUE), target_of(CATALOGUE), KEY
    )


def carried(fields: dict[str, Any]) -> dict[str, Any]:
    out = crossed(fields)
    assert isinstance(out, Outgoing), out
    assert out.path == b"/v1/messages"
    body: dict[str, Any] = orjson.loads(out.body)
    return body


def test_request__a_conversation_with_calls() -> None:
    body = carried(
        {
            "instructions": "Be kind.",
            "input": [
                {"role": "developer", "content": "Be brief."},
                {"type": "message", "role": "user", "content": [
                    {"type": "input_text", "text": "What is this?"},
                    {"type": "input_image", "image_url": "https://host/a.png", "detail": "auto"},
                ]},
                {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
                {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [
                    {"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []},
                ]},
                {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "look", "arguments": '{"a":"x"}',
                 "status": "completed"},
                {"type": "function_call", "call_id": "c2", "name": "look", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "a cat"},
                {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "a dog"}]},
            ],
            "max_output_tokens": 99, "temperature": 0.5, "stream": True, "tools": [TOOL], "tool_choice": "required",
            "parallel_tool_calls": False, "store": False, "include": ["reasoning.encrypted_content"], "user": "u1",
            "reasoning": {"effort": "low"}, "metadata": {"a": "b"},
            "text": {"format": {"type": "json_schema", "name": "city", "schema": SCHEMA, "strict": True}},
        }
    )  # fmt: skip
    assert body == {
        "model": "large", "max_tokens": 99, "temperature": 0.5, "stream": True, "metadata": {"user_id": "u1"},
        "system": [{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Be brief."}],
        "tools": [{"name": "look", "description": "Looks.", "input_schema": SCHEMA, "strict": True}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image", "source": {"type": "url", "url": "https://host/a.png"}},
            ]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "c1", "name": "look", "input": {"a": "x"}},
                {"type": "tool_use", "id": "c2", "name": "look", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "a cat"},
                {"type": "tool_result", "tool_use_id": "c2", "content": [{"type": "text", "text": "a dog"}]},
            ]},
        ],
    }  # fmt: skip


def test_request__reasoning_of_earlier_turns_is_left_out_and_said_so() -> None:
    out = crossed({"input": [{"role": "user", "content": "Hi"}, {"type": "reasoning", "summary": []}]})
    assert isinstance(out, Outgoing)
    assert out.left_out == ("reasoning of earlier turns",)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id, which only its provider has,"),
        ({"conversation": "conv_1"}, "conversation, which only its provider has,"),
        ({"prompt": {"id": "p"}}, "prompt, which only its provider has,"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"reasoning": {"summary": "auto"}}, "reasoning's summary"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"max_tool_calls": 3}, "max_tool_calls"),
        ({"text": {"format": {"type": "json_object"}}}, "response_format 'json_object'"),
        ({"tools": [{"type": "web_search"}]}, "the tool web_search"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "the tool mcp"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "an item of type 'item_reference'"),
        ({"input": [{"type": "web_search_call", "id": "ws"}]}, "an item of type 'web_search_call'"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "files"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "images from a file"),
        ({"a_new_field": 1}, "a_new_field"),
    ],
)
def test_request__what_has_no_place_is_named(fields: dict[str, Any], named: str) -> None:
    out = crossed(fields)
    assert isinstance(out, Refusal)
    assert named in out.reason
    assert out.reason.endswith("cannot be carried to the Anthropic wire")


def openai_client(body: bytes, content_type: str) -> openai.OpenAI:
    answer = {"content-type": content_type}
    http = httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, headers=answer, content=body)))
    return openai.OpenAI(api_key="k", base_url="http://g/v1", http_client=http)


def test_answer__as_openais_client_reads_it() -> None:
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "Hi"},
        {"type": "tool_use", "id": "t1", "name": "look", "input": {"a": 1}},
    ]
    answer = read_answer(ENDPOINTS[MESSAGES], 200, [], orjson.dumps(message("tool_use", *content)))
    call = call_of({"model": "m", "input": "Hello", "tools": [TOOL], "instructions": "Be."}, RESPONSES, CATALOGUE)
    body = translate_answer(call, target_of(CATALOGUE), answer)
    got = openai_client(body, "application/json").responses.create(model="m", input="Hello")
    assert (got.output_text, got.status, got.model, got.instructions) == ("Hi", "completed", "claude-x", "Be.")
    assert [item.type for item in got.output] == ["message", "function_call"]
    assert got.output[1].to_dict()["arguments"] == '{"a":1}'
    assert got.usage is not None
    assert (got.usage.input_tokens, got.usage.output_tokens, got.usage.total_tokens) == (10, 7, 17)
    assert got.usage.input_tokens_details.cached_tokens == 3
    assert read_answer(ENDPOINTS[RESPONSES], 200, [], body).usage == Usage(10, 7, 3)


@pytest.mark.parametrize(
    ("stop", "status", "reason"),
    [
        ("end_turn", "completed", None), ("stop_sequence", "completed", None), ("tool_use", "completed", None),
        ("max_tokens", "incomplete", "max_output_tokens"), ("refusal", "incomplete", "content_filter"),
    ],
)  # fmt: skip
def test_answer__and_stream_end_for_the_same_reason(stop: str, status: str, reason: str | None) -> None:
    call = call_of({"model": "m", "input": "Hello", "stream": True}, RESPONSES, CATALOGUE)
    answer = read_answer(ENDPOINTS[MESSAGES], 200, [], orjson.dumps(message(stop, {"type": "text", "text": "Hi"})))
    whole = orjson.loads(translate_answer(call, target_of(CATALOGUE), answer))
    last = orjson.loads(through(messages_stream(["Hi"], [], stop)).strip().rpartition(b"data: ")[2])
    assert last["type"] == f"response.{status}"
    for told in (whole, last["response"]):
        assert told["status"] == status
        assert (told["incomplete_details"] or {}).get("reason") == reason


def through(stream: bytes, size: int = 0) -> bytes:
    call = call_of({"model": "m", "input": "Hello", "stream": True}, RESPONSES, CATALOGUE)
    translator = translator_for(call, target_of(CATALOGUE))
    assert translator is not None
    scanner = scanner_for(ENDPOINTS[MESSAGES].shape)
    size = size or len(stream)
    pieces = (stream[at : at + size] for at in range(0, len(stream), size))
    told = b"".join(translator.translate(event) for piece in pieces for event in scanner.feed(piece))
    return told + translator.end() + translator.end()


@pytest.mark.parametrize("stop", ["pause_turn", "something_new"])
def test_stream__an_end_without_a_word_here_is_refused_by_name(stop: str) -> None:
    """It must not be told as completed, also where the stream lacks its end mark."""
    stream = messages_stream(["Hi"], [], stop)
    for come in (stream, stream[: stream.rindex(b"event:")]):
        with pytest.raises(CannotCarry, match=stop):
            through(come)


def test_stream__as_openais_client_reads_it() -> None:
    """Event by event, and put together by its helper."""
    stream = through(messages_stream(["Hi", " there"], [("look", ['{"a"', ":1}"]), ("run", [])], "tool_use"))
    client = openai_client(stream, "text/event-stream")
    events = list(client.responses.create(model="m", input="Hello", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    with client.responses.stream(model="m", input="Hello") as helper:
        final = helper.get_final_response()
    assert final.output_text == "Hi there"
    calls = [item for item in final.output if item.type == "function_call"]
    assert [(call.call_id, call.name, call.arguments) for call in calls] == [
        ("t1", "look", '{"a":1}'),
        ("t2", "run", "{}"),
    ]
    assert final.usage is not None
    assert final.usage.output_tokens == 7
    assert len({item.id for item in final.output}) == 3


def test_stream__a_cut_one_gets_no_end_and_an_error_stays_one() -> None:
    whole = messages_stream(["Hi"], [("look", ["{}"])], "tool_use")
    events = whole.split(b"\n\n")[:-1]
    ending = next(n for n, event in enumerate(events) if b"message_delta" in event)
    for count in range(1, ending):
        scanner = scanner_for(ENDPOINTS[RESPONSES].shape)
        scanner.feed(through(b"\n\n".join(events[:count]) + b"\n\n"))
        assert not scanner.facts.complete
    told = through(sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}))
    with pytest.raises(openai.APIError, match="Overloaded"):
        list(openai_client(told, "text/event-stream").responses.create(model="m", input="Hello", stream=True))


@given(
    st.lists(st.text(min_size=1, max_size=6), max_size=5),
    st.lists(st.tuples(st.sampled_from(["look", "run"]), st.sampled_from(["{}", '{"a":1}', '{"b":"é"}'])), max_size=3),
    st.sampled_from([0, 1, 9]),
)
def test_stream__says_the_same_as_the_whole_answer(text: list[str], calls: list[tuple[str, str]], size: int) -> None:
    stop = "tool_use" if calls else "end_turn"
    told = through(messages_stream(text, [(name, [given]) for name, given in calls], stop), size)
    scanner = scanner_for(ENDPOINTS[RESPONSES].shape)
    assert EventKind.MALFORMED not in [event.kind for event in scanner.feed(told) + scanner.close()]
    facts = scanner.facts
    assert (facts.text, facts.complete, facts.usage) == ("".join(text), True, Usage(10, 7, 3))
    assert [(call.name, call.arguments) for call in facts.tools] == calls
    last = orjson.loads(told.strip().rpartition(b"data: ")[2])["response"]
    answer = read_answer(ENDPOINTS[RESPONSES], 200, [], orjson.dumps(last))
    assert (answer.text, [(call.name, call.arguments) for call in answer.tool_calls]) == ("".join(text), calls)


# Servers of OpenAI's wire that have no responses

OLDER = catalogue_of(responses=False)


def from_chunks(told: bytes) -> bytes:
    """Return what a caller of responses gets for Anthropic's stream `told` when it comes as chunks of a completion."""
    chat = call_of({"model": "m", "stream": True, "stream_options": {"include_usage": True}}, catalogue=CATALOGUE)
    call = call_of({"model": "m", "input": "Hello", "stream": True}, RESPONSES, OLDER)
    for one, target, shape in (
        (chat, target_of(CATALOGUE), MESSAGES),
        (call, target_of(OLDER), "/v1/chat/completions"),
    ):
        translator = translator_for(one, target)
        assert translator is not None
        scanner = scanner_for(ENDPOINTS[shape].shape)
        told = b"".join([translator.translate(event) for event in scanner.feed(told)]) + translator.end()
    return told


@given(
    st.lists(st.text(min_size=1, max_size=6), max_size=5),
    st.lists(st.tuples(st.sampled_from(["look", "run"]), st.sampled_from(["{}", '{"a":1}'])), max_size=3),
)
def test_chunks__say_the_same(text: list[str], calls: list[tuple[str, str]]) -> None:
    stop = "tool_use" if calls else "end_turn"
    told = from_chunks(messages_stream(text, [(name, [given]) for name, given in calls], stop))
    scanner = scanner_for(ENDPOINTS[RESPONSES].shape)
    assert EventKind.MALFORMED not in [event.kind for event in scanner.feed(told) + scanner.close()]
    facts = scanner.facts
    assert (facts.text, facts.complete, facts.usage) == ("".join(text), True, Usage(10, 7, 3))
    assert [(call.name, call.arguments) for call in facts.tools] == calls


def test_chunks__calls_whose_pieces_come_mixed_stay_apart() -> None:
    def chunk(finish: str | None = None, **piece: Any) -> dict[str, Any]:
        delta = {"tool_calls": [piece]} if piece else {}
        return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    def part(number: int, said: str) -> dict[str, Any]:
        return chunk(index=number, function={"arguments": said})

    begun = [chunk(index=at, id=f"c{at}", function={"name": f"f{at}", "arguments": ""}) for at in (0, 1)]
    mixed = [part(0, '{"a":'), part(1, '{"b":'), part(1, "2}"), part(0, "1}")]
    translator = translator_for(
        call_of({"model": "m", "input": "Hello", "stream": True}, RESPONSES, OLDER), target_of(OLDER)
    )
    assert translator is not None
    scanner = scanner_for(ENDPOINTS["/v1/chat/completions"].shape)
    events = scanner.feed(sse(*begun, *mixed, chunk("tool_calls"), b"[DONE]"))
    told = b"".join([translator.translate(event) for event in events]) + translator.end()
    reader = scanner_for(ENDPOINTS[RESPONSES].shape)
    reader.feed(told)
    assert [(call.name, call.arguments) for call in reader.facts.tools] == [("f0", '{"a":1}'), ("f1", '{"b":2}')]


def test_chunks__a_cut_stream_gets_no_end() -> None:
    events = messages_stream(["Hi", " there"], [], "end_turn").split(b"\n\n")[:-1]
    ending = next(n for n, event in enumerate(events) if b"message_delta" in event)
    for count in range(1, ending):
        assert b"response.completed" not in from_chunks(b"\n\n".join(events[:count]) + b"\n\n")


def test_request__to_a_server_without_responses() -> None:
    fields = {
        "model": "m",
        "input": "Hi",
        "instructions": "Be.",
        "max_output_tokens": 9,
        "stream": True,
        "tools": [TOOL],
    }
    out = outgoing(call_of(fields, RESPONSES, OLDER), target_of(OLDER), KEY)
    assert isinstance(out, Outgoing)
    assert out.path == b"/chat/completions"
    assert orjson.loads(out.body) == {
        "model": "large", "max_tokens": 9, "stream": True, "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": "Be."}, {"role": "user", "content": "Hi"}],
        "tools": [{"type": "function", "function": {name: TOOL[name] for name in TOOL if name != "type"}}],
    }  # fmt: skip
    bound = outgoing(call_of({**fields, "previous_response_id": "r"}, RESPONSES, OLDER), target_of(OLDER), KEY)
    assert bound == Refusal("previous_response_id, which only its provider has, cannot be carried to chat completions")
