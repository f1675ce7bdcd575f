"""Requests carried to the other wire: the same question, or a refusal that names what has no place there."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_calls import KEY, call_of, catalogue_of, target_of

from reanimate.gateway.llm.wire.outgoing import Outgoing, Refusal, outgoing

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
OTHER = {CHAT: "anthropic", MESSAGES: "openai"}
PNG = "iVBORw0KGgo="
HELLO = [{"role": "user", "content": "Hello"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
LOOSE = {"type": "object", "properties": {"a": {"type": "string"}}}
OPTIONAL = {**LOOSE, "additionalProperties": False}
FUNCTION = {"name": "look", "description": "Looks.", "parameters": LOOSE}
TOOL = {"name": "look", "description": "Looks.", "input_schema": LOOSE}


def crossed(path: str, fields: dict[str, Any], **provider: Any) -> Outgoing | Refusal:
    catalogue = catalogue_of(OTHER[path], **provider)
    return outgoing(call_of({"model": "chat", "messages": HELLO, **fields}, path, catalogue), target_of(catalogue), KEY)


def carried(path: str, fields: dict[str, Any], **provider: Any) -> dict[str, Any]:
    out = crossed(path, fields, **provider)
    assert isinstance(out, Outgoing), out
    body: dict[str, Any] = orjson.loads(out.body)
    return body


def refused(path: str, fields: dict[str, Any]) -> str:
    out = crossed(path, fields)
    assert isinstance(out, Refusal), out
    return out.reason


def test_to_anthropic__a_whole_conversation() -> None:
    """Instructions, images, parallel tool calls and their results, each where it belongs there."""
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":"x"}'}}
    other = {"id": "fn.look:2", "type": "function", "function": {"name": "look", "arguments": ""}}
    body = carried(
        CHAT,
        {
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "high"}},
                        {"type": "image_url", "image_url": {"url": "https://host/a.png"}},
                    ],
                },
                {"role": "assistant", "content": "I look.", "refusal": None, "tool_calls": [call, other]},
                {"role": "tool", "tool_call_id": "call_1", "content": "a cat"},
                {"role": "tool", "tool_call_id": "fn.look:2", "content": [{"type": "text", "text": "a dog"}]},
                {"role": "user", "content": "And?"},
            ],
            "max_completion_tokens": 99, "temperature": 0.5, "top_p": 1, "stop": "END", "stream": True,
            "stream_options": {"include_usage": True}, "user": "u1", "store": False, "n": 1, "logprobs": False,
            "tools": [{"type": "function", "function": FUNCTION}], "parallel_tool_calls": False,
        },
    )  # fmt: skip
    other_id = body["messages"][1]["content"][2]["id"]
    assert body == {
        "model": "large", "max_tokens": 99, "temperature": 0.5, "stop_sequences": ["END"], "stream": True,
        "system": [{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Be brief."}],
        "metadata": {"user_id": "u1"}, "tools": [TOOL],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                    {"type": "image", "source": {"type": "url", "url": "https://host/a.png"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "call_1", "name": "look", "input": {"a": "x"}},
                    {"type": "tool_use", "id": other_id, "name": "look", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": "a cat"},
                    {"type": "tool_result", "tool_use_id": other_id, "content": [{"type": "text", "text": "a dog"}]},
                    {"type": "text", "text": "And?"},
                ],
            },
        ],
    }  # fmt: skip
    assert other_id.replace("_", "").isalnum()


def test_to_openai__a_whole_conversation() -> None:
    body = carried(
        MESSAGES,
        {
            "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                        {"type": "image", "source": {"type": "url", "url": "https://host/a.png"}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": [
                        {"type": "text", "text": "I "},
                        {"type": "text", "text": "look."},
                        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": "x"}},
                        {"type": "tool_use", "id": "toolu_2", "name": "look", "input": {}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "a cat"},
                        {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no", "is_error": True},
                        {"type": "text", "text": "And?"},
                    ],
                },
            ],
            "max_tokens": 99, "temperature": 0.5, "stop_sequences": ["END"], "stream": True, "tools": [TOOL],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True}, "metadata": {"user_id": "u1"},
            "thinking": {"type": "disabled"}, "service_tier": "auto",
        },
    )  # fmt: skip

    def call(call_id: str, arguments: str) -> dict[str, Any]:
        return {"id": call_id, "type": "function", "function": {"name": "look", "arguments": arguments}}

    assert body == {
        "model": "large", "max_tokens": 99, "temperature": 0.5, "stop": ["END"], "stream": True, "user": "u1",
        "stream_options": {"include_usage": True}, "tool_choice": "required", "parallel_tool_calls": False,
        "tools": [{"type": "function", "function": FUNCTION}],
        "messages": [
            {"role": "system", "content": "Be kind."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                    {"type": "image_url", "image_url": {"url": "https://host/a.png"}},
                ],
            },
            {
                "role": "assistant", "content": "I look.",
                "tool_calls": [call("toolu_1", '{"a":"x"}'), call("toolu_2", "{}")],
            },
            {"role": "tool", "tool_call_id": "toolu_1", "content": "a cat"},
            {"role": "tool", "tool_call_id": "toolu_2", "content": "Error: no"},
            {"role": "user", "content": [{"type": "text", "text": "And?"}]},
        ],
    }  # fmt: skip


def test_to_anthropic__a_limit_is_wanted_there() -> None:
    """The caller's, else the model's, else one that all models take."""
    assert carried(CHAT, {"max_tokens": 5})["max_tokens"] == 5
    assert carried(CHAT, {})["max_tokens"] == 4096
    models = [{"name": "large", "max_output_tokens": 64_000}]
    assert carried(CHAT, {}, models=models)["max_tokens"] == 64_000


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://me.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("http://127.0.0.1:8000/v1", "max_tokens"),
        ("https://notopenai.com/v1", "max_tokens"),
    ],
)
def test_to_openai__the_limit_goes_by_the_name_that_the_server_knows(url: str, name: str) -> None:
    assert carried(MESSAGES, {"max_tokens": 5}, url=url)[name] == 5


def test_to_anthropic__instructions_on_the_way_move_to_the_front_and_it_is_said_so() -> None:
    late = {"role": "system", "content": "Be brief."}
    out = crossed(CHAT, {"messages": [{"role": "system", "content": "Be kind."}, *HELLO, late, *HELLO, late]})
    assert isinstance(out, Outgoing)
    assert out.left_out == ("the places of instructions within the conversation",)
    body = orjson.loads(out.body)
    assert [block["text"] for block in body["system"]] == ["Be kind.", "Be brief.", "Be brief."]
    assert body["messages"] == HELLO * 2


def test_to_openai__thinking_of_earlier_turns_is_left_out_and_said_so() -> None:
    """It is sealed for the model that thought it."""
    thought = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "x"}]
    turns = [{"role": "assistant", "content": [*thought, {"type": "text", "text": "Hi"}]}, *HELLO]
    out = crossed(MESSAGES, {"messages": turns, "max_tokens": 9})
    assert isinstance(out, Outgoing)
    assert out.left_out == ("thinking of earlier turns",)
    assert orjson.loads(out.body)["messages"][0] == {"role": "assistant", "content": "Hi"}
    plain = crossed(MESSAGES, {"max_tokens": 9})
    assert isinstance(plain, Outgoing)
    assert plain.left_out == ()


def test_to_openai__usage_is_asked_for_where_the_server_knows_how() -> None:
    assert "stream_options" not in carried(MESSAGES, {"stream": True}, usage_in_streams=False)
    assert "stream_options" not in carried(MESSAGES, {})


@pytest.mark.parametrize(
    ("chat", "messages"),
    [
        ({"tool_choice": "auto"}, {"tool_choice": {"type": "auto"}}),
        ({"tool_choice": "required"}, {"tool_choice": {"type": "any"}}),
        ({"tool_choice": "none"}, {"tool_choice": {"type": "none"}}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "look"}}},
            {"tool_choice": {"type": "tool", "name": "look"}},
        ),
        (
            {"tool_choice": "required", "parallel_tool_calls": False},
            {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
        ),
        ({"reasoning_effort": "high"}, {"output_config": {"effort": "high"}}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
                }
            },
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        ),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
        ({"temperature": 0.0, "top_p": 0.9}, {"temperature": 0.0, "top_p": 0.9}),
    ],
)
def test_both_ways__one_says_what_the_other_says(chat: dict[str, Any], messages: dict[str, Any]) -> None:
    ours = {"tools": [{"type": "function", "function": FUNCTION}]}
    theirs = {"tools": [TOOL]}
    there = carried(CHAT, {**ours, **chat})
    assert {name: there[name] for name in messages} == messages
    back = carried(MESSAGES, {**theirs, "max_tokens": 9, **messages})
    assert {name: back[name] for name in chat} == chat


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"n": 2}, "n above 1"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"seed": 0}, "seed"),
        ({"seed": 7}, "seed"),
        ({"frequency_penalty": 0.1}, "frequency_penalty"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"verbosity": "low"}, "verbosity"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"functions": [FUNCTION]}, "functions"),
        ({"temperature": 1.5}, "a temperature above 1"),
        ({"stop": ["\n"]}, "a stop sequence of white space"),
        ({"reasoning_effort": "minimal"}, "reasoning_effort 'minimal'"),
        ({"response_format": {"type": "json_object"}}, "response_format 'json_object'"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": LOOSE}}},
         "further properties"),
        ({"top_k": 5}, "top_k"),
        ({"an_extension": {"x": 1}}, "an_extension"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "a tool of type 'custom'"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "allowed_tools"),
        ({"messages": [{"role": "function", "name": "f", "content": ""}]}, "a message of role 'function'"),
        ({"messages": [{"role": "user", "name": "Ann", "content": "Hi"}]}, "the name of a message's author"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "audio"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "files"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}]},
         "base64"),
        ({"messages": [{"role": "assistant", "content": None, "audio": {"id": "a"}}]}, "audio"),
        ({"messages": [{"role": "assistant", "content": "", "reasoning_content": "hm"}]}, "reasoning_content"),
        ({"messages": [
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{"}}]}]},
         "no JSON object"),
        ({"messages": [{"role": "assistant", "tool_calls": [
            {"id": "c", "function": {"name": "f", "arguments": '{"wei":1234567890123456789012}'}}]}]},
         "a number of more than 64 bits"),
        ({"messages": [{"role": "tool", "tool_call_id": "c", "content": [{"type": "image_url"}]}]}, "image_url"),
    ],
)  # fmt: skip
def test_to_anthropic__what_has_no_place_is_named(fields: dict[str, Any], named: str) -> None:
    """Never left out in silence."""
    reason = refused(CHAT, fields)
    assert named in reason
    assert reason.endswith("cannot be carried to the Anthropic wire")


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_request__its_numbers_cross_to_the_last_digit_or_not_at_all(path: str) -> None:
    for number, crosses in (
        (b"18446744073709551615", True),
        (b'"1234567890123456789012"', True),
        (b"100000000000000000000", True),  # 1e20 is the same
        (b"1234567890123456789012", False),
    ):
        raw = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}],"tools":[%s]}' % (
            b'{"type":"function","function":{"name":"f","parameters":{"properties":{"n":{"const":%s}}}}}' % number
            if path == CHAT
            else b'{"name":"f","input_schema":{"type":"object","properties":{"n":{"const":%s}}}}' % number
        )
        catalogue = catalogue_of(OTHER[path])
        out = outgoing(call_of(raw, path, catalogue), target_of(catalogue), KEY)
        assert isinstance(out, Outgoing) is crosses
        assert crosses or "a number of more than 64 bits" in repr(out)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking"),
        ({"thinking": {"type": "adaptive"}}, "thinking"),
        ({"top_k": 5}, "top_k"),
        ({"stop_sequences": list("abcde")}, "more than 4 stop sequences"),
        ({"service_tier": "standard_only"}, "service_tier"),
        ({"speed": "fast"}, "speed"),
        ({"container": "c"}, "container"),
        ({"inference_geo": "eu"}, "inference_geo"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"output_config": {"effort": "max"}}, "effort 'max'"),
        ({"output_config": {"format": {"type": "json_schema", "schema": OPTIONAL}}}, "that are not required"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "the tool web_search_20250305"),
        ({"tools": [{**TOOL, "input_examples": [{}]}]}, "input_examples"),
        ({"tools": [{**TOOL, "defer_loading": True}]}, "defer_loading"),
        ({"tools": [{**TOOL, "strict": True}]}, "a strict tool"),
        ({"tools": [{**TOOL, "name": "x" * 65}]}, "64 characters"),
        ({"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]}, "documents"),
        ({"messages": [{"role": "user", "content": [{"type": "search_result"}]}]}, "search results"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]}, "from a file"),
        ({"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "", "signature": ""}]}]},
         "thinking blocks"),
        ({"messages": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}]}, "server_tool_use"),
        ({"messages": [{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]}]}]}, "in a tool's result"),
        ({"messages": [{"role": "user", "content": [
            {"type": "text", "text": "x"}, {"type": "tool_result", "tool_use_id": "t"}]}]}, "after other content"),
    ],
)  # fmt: skip
def test_to_openai__what_has_no_place_is_named(fields: dict[str, Any], named: str) -> None:
    reason = refused(MESSAGES, {"max_tokens": 9, **fields})
    assert named in reason
    assert reason.endswith("cannot be carried to the OpenAI wire")


@pytest.mark.parametrize(
    ("path", "wire", "named"),
    [
        ("/v1/embeddings", "anthropic", "embeddings cannot be carried to the Anthropic wire"),
        ("/v1/messages/count_tokens", "openai", "token counting cannot be carried to the OpenAI wire"),
    ],
)
def test_endpoints__without_a_counterpart_are_refused(path: str, wire: str, named: str) -> None:
    catalogue = catalogue_of(wire)
    out = outgoing(
        call_of({"model": "chat", "input": "", "messages": HELLO}, path, catalogue), target_of(catalogue), KEY
    )
    assert out == Refusal(named)


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize(
    "messages", [None, "Hello", [7], [{"role": "user"}], [{"role": "user", "content": 7}], [{"content": "x"}]]
)
def test_a_request_that_its_own_wire_would_refuse__is_not_guessed_at(path: str, messages: Any) -> None:
    assert isinstance(crossed(path, {"messages": messages, "max_tokens": 9}), Refusal)


def test_headers__of_the_other_wire_stay_behind() -> None:
    """With the key of the provider that is asked, and never the caller's: that one is for another vendor."""
    headers = {
        "authorization": "Bearer callers", "openai-beta": "x", "anthropic-beta": "y", "user-agent": "agent/1",
        "anthropic-version": "2029-01-01",
    }  # fmt: skip
    for path in (CHAT, MESSAGES):
        catalogue = catalogue_of(OTHER[path], pass_key=True)
        call = call_of({"model": "m", "messages": HELLO, "max_tokens": 9}, path, catalogue, headers, "beta=true")
        for key in (KEY, None):
            out = outgoing(call, target_of(catalogue), key)
            assert isinstance(out, Outgoing)
            assert b"callers" not in b" ".join(value for _, value in out.headers)
            assert not {b"openai-beta", b"anthropic-beta"} & {name for name, _ in out.headers}
            assert (b"anthropic-version", b"2029-01-01") not in out.headers
            assert out.path == (b"/v1/messages" if path == CHAT else b"/chat/completions")


texts = st.text(min_size=1, max_size=12)
names = st.sampled_from(["look", "run_it", "a-b"])
inputs = st.dictionaries(texts, st.none() | st.integers(-99, 99) | texts | st.lists(texts, max_size=2), max_size=2)
text_blocks = texts.map(lambda text: {"type": "text", "text": text})
images = st.one_of(
    st.just({"type": "image", "source": {"type": "url", "url": "https://h/a"}}),
    st.just({"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": PNG}}),
)
tools = st.builds(
    lambda name, told, schema: {"name": name, "description": told, "input_schema": schema},
    names, texts, st.sampled_from([SCHEMA, LOOSE, {"type": "object", "properties": {}}]),
)  # fmt: skip


@st.composite
def turns(draw: Any) -> list[dict[str, Any]]:
    """Draw a conversation as Anthropic's wire has it."""
    messages: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 3))):
        spoken = draw(texts | st.lists(text_blocks | images, min_size=1, max_size=3))
        messages.append({"role": "user", "content": spoken})
        calls = draw(st.lists(st.tuples(names, inputs), max_size=3))
        said = draw(st.lists(text_blocks, max_size=1))
        if not calls:
            messages.append({"role": "assistant", "content": draw(texts)})
            continue
        uses = [
            {"type": "tool_use", "id": f"call_{number}_{n}", "name": name, "input": given}
            for n, (name, given) in enumerate(calls)
        ]
        messages.append({"role": "assistant", "content": said + uses})
        results = [
            {
                "type": "tool_result",
                "tool_use_id": use["id"],
                "content": draw(texts | st.lists(text_blocks, min_size=2)),
            }
            for use in uses
        ]
        messages.append({"role": "user", "content": results + draw(st.lists(text_blocks | images, max_size=2))})
        messages.append({"role": "assistant", "content": draw(texts)})
    return messages


requests = st.fixed_dictionaries(
    {"model": st.just("large"), "max_tokens": st.integers(1, 9999), "messages": turns()},
    optional={
        "system": texts | st.lists(text_blocks, min_size=2, max_size=3),
        "temperature": st.floats(0, 0.99),
        "top_p": st.floats(0.01, 0.99),
        "stop_sequences": st.lists(texts.filter(str.strip), min_size=1, max_size=4),
        "metadata": st.fixed_dictionaries({"user_id": texts}),
        "tools": st.lists(tools, min_size=1, max_size=3),
        "output_config": st.sampled_from([{"effort": "low"}, {"format": {"type": "json_schema", "schema": SCHEMA}}]),
    },
)


@given(requests)
def test_there_and_back__a_message_is_the_same(fields: dict[str, Any]) -> None:
    """Nothing is lost, nothing is added, nothing changes its place."""
    there = carried(MESSAGES, fields)
    assert carried(CHAT, there) == fields


@given(requests, st.booleans())
def test_there_and_back__a_chat_completion_is_the_same(fields: dict[str, Any], streams: bool) -> None:
    chat = carried(MESSAGES, {**fields, "stream": streams})
    assert carried(MESSAGES, carried(CHAT, chat)) == chat
