"""Reading whole answers: what is one, what is not, and what it cost."""

from typing import Any

import orjson
import pytest

from reanimate.gateway.llm.call import Usage
from reanimate.gateway.llm.endpoints import ENDPOINTS
from reanimate.gateway.llm.wire.answers import Answer, Garbage, ToolCall, read_answer

CHAT, RESPONSES, EMBEDDINGS, MESSAGES, COUNT = ENDPOINTS.values()

CHAT_ANSWER: dict[str, Any] = {
    "id": "c", "object": "chat.completion", "model": "gpt-x",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
}  # fmt: skip
MESSAGE: dict[str, Any] = {
    "id": "m", "type": "message", "role": "assistant", "model": "claude-x", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Hi"}, {"type": "thinking", "thinking": "…", "signature": "s"}],
    "usage": {"input_tokens": 3, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2, "output_tokens": 5},
}  # fmt: skip
RESPONSE: dict[str, Any] = {
    "id": "r", "object": "response", "status": "completed", "model": "gpt-x", "error": None,
    "output": [
        {"type": "reasoning", "summary": []},
        {"type": "message", "content": [{"type": "output_text", "text": "Hi"}, {"type": "refusal", "refusal": "no"}]},
        {"type": "function_call", "call_id": "f", "name": "look", "arguments": "{}"},
    ],
    "usage": {"input_tokens": 9, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 1}},
}  # fmt: skip


def read(endpoint: Any, fields: Any) -> Answer:
    return read_answer(endpoint, 200, [], fields if isinstance(fields, bytes) else orjson.dumps(fields))


def garbage(endpoint: Any, fields: Any, headers: Any = ()) -> Garbage:
    with pytest.raises(Garbage) as caught:
        read_answer(endpoint, 200, list(headers), fields if isinstance(fields, bytes) else orjson.dumps(fields))
    return caught.value


def chat(finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    return {**CHAT_ANSWER, "choices": [{"message": {"role": "assistant", **message}, "finish_reason": finish}]}


def test_chat__text_usage_finish_model() -> None:
    answer = read(CHAT, CHAT_ANSWER)
    assert (answer.text, answer.finish, answer.model, answer.complete) == ("Hi", "stop", "gpt-x", True)
    assert answer.usage == Usage(9, 2, 4)


def test_chat__tool_calls() -> None:
    calls = [
        {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}},
        {"id": "2", "type": "custom", "custom": {"name": "run", "input": "ls"}},
    ]
    answer = read(CHAT, chat("tool_calls", content=None, tool_calls=calls))
    assert answer.tool_calls == (ToolCall("1", "look", '{"a":1}'), ToolCall("2", "run", "ls"))
    assert answer.complete


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_chat__what_a_limit_or_a_filter_ended_is_an_answer_but_not_complete(finish: str) -> None:
    """It may lack content, then."""
    assert not read(CHAT, chat(finish, content=None)).complete
    assert not read(CHAT, chat(finish, content="")).complete


def test_chat__without_usage_it_is_an_answer_all_the_same() -> None:
    assert read(CHAT, {**CHAT_ANSWER, "usage": None}).usage is None


def test_messages__cached_tokens_are_input() -> None:
    """As OpenAI counts them, so that both wires add up alike."""
    answer = read(MESSAGES, MESSAGE)
    assert (answer.text, answer.finish, answer.usage) == ("Hi", "end_turn", Usage(9, 5, 4))
    tool = {"type": "tool_use", "id": "t", "name": "look", "input": {"a": 1}}
    assert read(MESSAGES, {**MESSAGE, "content": [tool]}).tool_calls == (ToolCall("t", "look", '{"a":1}'),)


def test_responses__text_tools_and_the_reason_of_an_unfinished_one() -> None:
    answer = read(RESPONSES, RESPONSE)
    assert (answer.text, answer.finish, answer.complete, answer.usage) == ("Hi", "completed", True, Usage(9, 2, 1))
    assert answer.tool_calls == (ToolCall("f", "look", "{}"),)
    cut = {**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    assert (read(RESPONSES, cut).finish, read(RESPONSES, cut).complete) == ("max_output_tokens", False)


def test_embeddings_and_counts() -> None:
    vectors = {"object": "list", "data": [{"embedding": [0.1]}, {"embedding": "AAA="}], "usage": {"prompt_tokens": 3}}
    assert read(EMBEDDINGS, vectors).usage == Usage(3, 0)
    assert read(COUNT, {"input_tokens": 14}).usage == Usage()


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", "an empty answer"),
        (b" \r\n", "an empty answer"),
        (b"<html><h1>502 Bad\nGateway</h1></html>", "HTML or XML instead of an answer: <html><h1>502 Bad Gateway"),
        (orjson.dumps(CHAT_ANSWER)[:-9], "JSON that breaks off"),
        (b"\x1f\x8b\x08\x00", "a compressed answer"),
        (b"upstream connect error", "no JSON: upstream connect error"),
        (b"[]", "no JSON object"),
        (b'"ok"', "no JSON object"),
        (b"{}", "another shape"),
        (b'{"status":"ok"}', "another shape"),
        (b'data: {"choices":[]}\n\n', "no JSON"),
    ],
)
def test_garbage__is_named_by_what_it_is(body: bytes, found: str) -> None:
    """For each shape alike."""
    for endpoint in ENDPOINTS.values():
        assert found in garbage(endpoint, body).detail


@pytest.mark.parametrize(
    ("endpoint", "fields"),
    [
        (CHAT, {**CHAT_ANSWER, "choices": []}),
        (CHAT, {**CHAT_ANSWER, "choices": None}),
        (CHAT, {**CHAT_ANSWER, "choices": [{"finish_reason": "stop"}]}),
        (CHAT, chat(None, content="half an ans")),
        (CHAT, chat("stop")),
        (CHAT, chat("stop", content=7)),
        (CHAT, chat("tool_calls", tool_calls=[{"id": "1", "function": {"name": "look"}}])),
        (CHAT, chat("tool_calls", tool_calls=[{"id": "1", "function": {"name": "look", "arguments": {"a": 1}}}])),
        (CHAT, MESSAGE),
        (MESSAGES, CHAT_ANSWER),
        (MESSAGES, {**MESSAGE, "stop_reason": None}),
        (MESSAGES, {**MESSAGE, "content": "Hi"}),
        (MESSAGES, {**MESSAGE, "content": [{"type": "tool_use", "id": "t", "name": "look", "input": "{"}]}),
        (RESPONSES, {**RESPONSE, "output": None}),
        (RESPONSES, {**RESPONSE, "status": "failed"}),
        (RESPONSES, CHAT_ANSWER),
        (EMBEDDINGS, {"data": []}),
        (EMBEDDINGS, {"data": [{"embedding": []}]}),
        (EMBEDDINGS, {"data": [{"embedding": None}]}),
        (COUNT, {"input_tokens": "14"}),
    ],
)
def test_garbage__another_shape(endpoint: Any, fields: Any) -> None:
    garbage(endpoint, fields)


@pytest.mark.parametrize("word", ["error", "insufficient_system_resource"])
def test_garbage__a_reason_that_stands_for_a_failure(word: str) -> None:
    """What there is of the answer is none."""
    choice = {"index": 0, "finish_reason": word, "message": {"role": "assistant", "content": "Hal"}}
    assert word in garbage(CHAT, {"choices": [choice]}).detail


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}, "rate_limit_exceeded"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "overloaded_error"),
        ({"error": "model is loading"}, "model is loading"),
        ({**RESPONSE, "status": "failed", "error": {"code": "server_error", "message": "oh"}}, "server_error"),
    ],
)
def test_garbage__an_error_with_a_good_status_keeps_what_it_said(body: dict[str, Any], said: str) -> None:
    """So that it can be classed like any other error."""
    for endpoint in ENDPOINTS.values():
        caught = garbage(endpoint, body)
        assert said in caught.detail
        assert caught.error is not None
        assert caught.error["message"]
