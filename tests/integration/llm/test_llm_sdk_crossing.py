"""Each vendor's client, answered by the other vendor's wire: the same conversation, or a refusal that says why."""

import asyncio
import contextlib
import json
from typing import Any

import anthropic
import openai
import pytest
from sdk_rig import PNG, City, SdkRig, said

from reanimate.demo.provider import Behaviour, Fault, Match, answer_text

PROMPT = "how is the replica?"
TEXT = answer_text(PROMPT)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
OPENAI_TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("look", "find")
]
ANTHROPIC_TOOLS: Any = [{"name": name, "input_schema": SCHEMA} for name in ("look", "find")]


async def test_openai_to_claude__whole_and_streamed(rig: SdkRig) -> None:
    ask: dict[str, Any] = {
        "model": "to-claude",
        "messages": [{"role": "system", "content": "Be brief."}, *said(PROMPT)],
    }
    for answer in await rig.both_openai(lambda c: c.chat.completions.create(**ask)):
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (TEXT, "stop")
        assert (answer.object, answer.model, answer.usage.completion_tokens) == ("chat.completion", "large", 24)
    options = {"include_usage": True}
    for chunks in await rig.streams_openai(
        lambda c: c.chat.completions.create(**ask, stream=True, stream_options=options)
    ):
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
        assert chunks[-1].usage.completion_tokens == 24
    async with rig.openai.chat.completions.stream(**ask) as stream:
        assert (await stream.get_final_completion()).choices[0].message.content == TEXT
    body = json.loads(rig.claude_asked[0].raw)
    assert (body["system"], body["model"], body["max_tokens"]) == ("Be brief.", "large", 4000)
    assert all(call.path == "/v1/messages" and call.key == "key-of-claude" for call in rig.claude_asked)


async def test_claude_to_openai__whole_and_streamed(rig: SdkRig) -> None:
    ask: dict[str, Any] = {"model": "to-gpt", "max_tokens": 500, "system": "Be brief.", "messages": said(PROMPT)}
    for answer in await rig.both_anthropic(lambda c: c.messages.create(**ask)):
        assert (answer.content[0].text, answer.stop_reason, answer.model) == (TEXT, "end_turn", "large")
        assert answer.usage.output_tokens == 24
    for events in await rig.streams_anthropic(lambda c: c.messages.create(**ask, stream=True)):
        assert [event.type for event in events][:2] == ["message_start", "content_block_start"]
        assert events[-1].type == "message_stop"
    async with rig.anthropic.messages.stream(**ask) as stream:
        final = await stream.get_final_message()
    assert (final.content[0].type, final.stop_reason, final.usage.output_tokens) == ("text", "end_turn", 24)
    assert all(call.path == "/v1/chat/completions" and call.key == "key-of-gpt" for call in rig.gpt_asked)


async def test_openai_to_claude__a_conversation_with_tools(rig: SdkRig) -> None:
    """Parallel calls, whole and streamed, and their results on the way back."""
    ask: dict[str, Any] = {"model": "to-claude", "messages": said(f"{PROMPT} [[tools=2]]"), "tools": OPENAI_TOOLS}
    for answer in await rig.both_openai(lambda c: c.chat.completions.create(**ask)):
        calls = answer.choices[0].message.tool_calls
        assert [call.function.name for call in calls] == ["look", "find"]
        assert answer.choices[0].finish_reason == "tool_calls"
    async with rig.openai.chat.completions.stream(**ask) as stream:
        streamed = (await stream.get_final_completion()).choices[0].message.tool_calls
    assert streamed
    assert [json.loads(call.function.arguments) for call in streamed] == [
        json.loads(call.function.arguments) for call in calls
    ]
    results: Any = [{"role": "tool", "tool_call_id": call.id, "content": "fine"} for call in calls]
    follow: Any = [*ask["messages"], answer.choices[0].message, *results]
    ended = await rig.openai.chat.completions.create(model="to-claude", messages=follow, tools=OPENAI_TOOLS)
    assert ended.choices[0].finish_reason == "stop"


async def test_claude_to_openai__a_conversation_with_tools(rig: SdkRig) -> None:
    ask: dict[str, Any] = {
        "model": "to-gpt", "max_tokens": 500, "messages": said(f"{PROMPT} [[tools=2]]"), "tools": ANTHROPIC_TOOLS,
    }  # fmt: skip
    for answer in await rig.both_anthropic(lambda c: c.messages.create(**ask)):
        calls = [block for block in answer.content if block.type == "tool_use"]
        assert [call.name for call in calls] == ["look", "find"]
        assert answer.stop_reason == "tool_use"
    async with rig.anthropic.messages.stream(**ask) as stream:
        streamed = [block for block in (await stream.get_final_message()).content if block.type == "tool_use"]
    assert [call.input for call in streamed] == [call.input for call in calls]
    results: Any = [{"type": "tool_result", "tool_use_id": call.id, "content": "fine"} for call in calls]
    follow = [*ask["messages"], {"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
    ended = await rig.anthropic.messages.create(**{**ask, "messages": follow})
    assert ended.stop_reason == "end_turn"


RESPONSE_TOOLS: Any = [{"type": "function", "name": name, "parameters": SCHEMA} for name in ("look", "find")]


@pytest.mark.parametrize("model", ["to-claude", "to-older"])
async def test_responses__carried_whole_streamed_parsed_and_with_tools(rig: SdkRig, model: str) -> None:
    """And what it thinks of as stored is not: no provider keeps it."""
    ask: dict[str, Any] = {"model": model, "input": PROMPT}
    for answer in await rig.both_openai(lambda c: c.responses.create(**ask, instructions="Be brief.")):
        assert (answer.output_text, answer.status, answer.model) == (TEXT, "completed", "large")
        assert answer.usage.output_tokens == 24
    for events in await rig.streams_openai(lambda c: c.responses.create(**ask, stream=True)):
        assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
        assert events[-1].type == "response.completed"
    for parsed in await rig.both_openai(lambda c: c.responses.parse(**ask, text_format=City)):
        assert isinstance(parsed.output_parsed, City)
    called = await rig.openai.responses.create(model=model, input=f"{PROMPT} [[tools=2]]", tools=RESPONSE_TOOLS)
    calls = [item for item in called.output if item.type == "function_call"]
    assert [call.name for call in calls] == ["look", "find"]
    results: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "fine"} for call in calls]
    follow: Any = [{"role": "user", "content": PROMPT}, *called.output, *results]
    ended = await rig.openai.responses.create(model=model, input=follow, tools=RESPONSE_TOOLS)
    assert ended.status == "completed"
    asked = len(rig.claude_asked + rig.gpt_asked)
    with pytest.raises(openai.APIStatusError, match="previous_response_id, which only its provider has"):
        await rig.openai.responses.create(**ask, previous_response_id=called.id)
    assert len(rig.claude_asked + rig.gpt_asked) == asked
    assert {call.path for call in rig.claude_asked + rig.gpt_asked} <= {"/v1/messages", "/v1/chat/completions"}


async def test_responses__fall_back_to_claude_without_the_reasoning_of_another(rig: SdkRig) -> None:
    """Which is said in a header."""
    rig.gpt.fail(Fault("status", error="overloaded"))
    history: Any = [
        {"role": "user", "content": "Hello"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": PROMPT},
    ]
    raw = await rig.openai.responses.with_raw_response.create(model="both", input=history)
    assert raw.parse().output_text == TEXT
    assert "asked without reasoning of earlier turns" in raw.headers["x-reanimate-degraded"]
    assert b"sealed" not in rig.claude_asked[0].raw


async def test_both_ways__structured_output(rig: SdkRig) -> None:
    ask: dict[str, Any] = {"model": "to-claude", "messages": said(PROMPT), "response_format": City}
    for answer in await rig.both_openai(lambda c: c.chat.completions.parse(**ask)):
        assert isinstance(answer.choices[0].message.parsed, City)
    back: dict[str, Any] = {"model": "to-gpt", "max_tokens": 500, "messages": said(PROMPT), "output_format": City}
    for message in await rig.both_anthropic(lambda c: c.messages.parse(**back)):
        assert isinstance(message.parsed_output, City)


async def test_both_ways__images(rig: SdkRig) -> None:
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    await rig.openai.chat.completions.create(model="to-claude", messages=[{"role": "user", "content": [url]}])  # type: ignore[list-item,misc]
    block = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    ask: Any = {"model": "to-gpt", "max_tokens": 500, "messages": [{"role": "user", "content": [block]}]}
    await rig.anthropic.messages.create(**ask)
    assert json.loads(rig.claude_asked[0].raw)["messages"][0]["content"] == [block]
    assert json.loads(rig.gpt_asked[0].raw)["messages"][0]["content"] == [url]


async def test_both_ways__limits_end_the_answer_in_the_callers_words(rig: SdkRig) -> None:
    cut = await rig.openai.chat.completions.create(model="to-claude", messages=said(PROMPT), max_completion_tokens=3)
    assert cut.choices[0].finish_reason == "length"
    message = await rig.anthropic.messages.create(model="to-gpt", messages=said(PROMPT), max_tokens=3)
    assert message.stop_reason == "max_tokens"


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"logprobs": True}, "logprobs cannot be carried to the Anthropic wire"),
        ({"n": 2}, "n above 1 cannot be carried"),
        ({"seed": 7}, "seed cannot be carried"),
        ({"extra_body": {"a_new_field": 1}}, "a_new_field cannot be carried"),
    ],
)
async def test_openai_to_claude__what_cannot_be_carried_is_refused_by_name(
    rig: SdkRig, asked: dict[str, Any], named: str
) -> None:
    """Nobody is asked a question that is not the caller's."""
    with pytest.raises(openai.APIStatusError, match=named):
        await rig.openai.chat.completions.create(model="to-claude", messages=said(PROMPT), **asked)
    assert len(rig.claude_asked) == 0


async def test_claude_to_openai__what_cannot_be_carried_is_refused_by_name(rig: SdkRig) -> None:
    thinking: Any = {"type": "enabled", "budget_tokens": 2000}
    ask: dict[str, Any] = {"model": "to-gpt", "max_tokens": 4000, "messages": said(PROMPT)}
    with pytest.raises(anthropic.APIStatusError, match="thinking cannot be carried to the OpenAI wire"):
        await rig.anthropic.messages.create(**ask, thinking=thinking)
    assert len(rig.gpt_asked) == 0


async def test_openai__falls_back_to_claude(rig: SdkRig) -> None:
    """Whole and streamed, the caller cannot tell by the answer, but by its headers."""
    rig.gpt.fail(Fault("status", error="overloaded"))
    ask: dict[str, Any] = {"model": "both", "messages": said(PROMPT)}
    raw = await rig.openai.chat.completions.with_raw_response.create(**ask)
    assert raw.headers["x-reanimate-target"] == "claude/large"
    assert raw.headers["x-reanimate-degraded"].startswith("gpt2/large")
    assert raw.parse().choices[0].message.content == TEXT
    for chunks in await rig.streams_openai(lambda c: c.chat.completions.create(**ask, stream=True)):
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert len(rig.claude_asked) == 3


async def test_claude__falls_back_to_openai(rig: SdkRig) -> None:
    rig.claude.fail(Fault("status", error="overloaded"))
    ask: dict[str, Any] = {"model": "back", "max_tokens": 500, "messages": said(PROMPT)}
    for answer in await rig.both_anthropic(lambda c: c.messages.create(**ask)):
        assert answer.content[0].text == TEXT
    async with rig.anthropic.messages.stream(**ask) as stream:
        assert await stream.get_final_text() == TEXT
    assert len(rig.gpt_asked) == 3


async def test_a_call_that_cannot_cross__gets_the_first_providers_reason(rig: SdkRig) -> None:
    """And the other one is not asked something else."""
    rig.gpt.fail(Fault("status", error="overloaded"))
    with pytest.raises(openai.APIStatusError) as caught:
        await rig.openai.chat.completions.create(model="both", messages=said(PROMPT), seed=7)
    assert "seed cannot be carried to the Anthropic wire" in str(caught.value)
    assert len(rig.claude_asked) == 0


@pytest.mark.parametrize(
    "ask",
    [
        lambda rig: rig.openai.chat.completions.create(model="claude4", messages=said(PROMPT)),
        lambda rig: rig.anthropic.messages.create(model="gpt4", max_tokens=9, messages=said(PROMPT)),
    ],
)
async def test_errors__of_the_other_wire_raise_the_callers_own(rig: SdkRig, ask: Any) -> None:
    """A rate limit is one on both wires, with the time to wait."""
    fault = Fault("status", error="rate_limit", headers={"retry-after": "7"})
    rig.gpt.fail(fault)
    rig.claude.fail(fault)
    with pytest.raises((openai.RateLimitError, anthropic.RateLimitError)) as caught:
        await ask(rig)
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 7


async def test_stream__a_broken_one_is_raised_by_the_callers_client(rig: SdkRig) -> None:
    """In the arguments of a tool; the other wire's break is told in the caller's own way."""
    for provider in (rig.gpt, rig.claude):
        provider.behaviour = Behaviour(token_ms=2)
        provider.fail(Fault("cut", after=4, how="fin"))
    ask: dict[str, Any] = {"messages": said(f"{PROMPT} [[tools=2]]"), "stream": True}
    with pytest.raises(openai.APIError) as caught:
        await rig.streams_openai(lambda c: c.chat.completions.create(model="claude3", tools=OPENAI_TOOLS, **ask))
    assert not isinstance(caught.value, openai.APIConnectionError)
    with pytest.raises(anthropic.APIStatusError):
        await rig.streams_anthropic(
            lambda c: c.messages.create(model="gpt3", max_tokens=500, tools=ANTHROPIC_TOOLS, **ask)
        )


async def test_count_tokens__without_anthropic_it_is_an_estimate_and_says_so(rig: SdkRig) -> None:
    raw = await rig.anthropic.messages.with_raw_response.count_tokens(model="to-gpt", messages=said("word " * 400))
    assert 300 < (await raw.parse()).input_tokens < 800
    assert "estimate" in raw.headers["x-reanimate-degraded"]
    assert len(rig.gpt_asked) == 0


async def test_embeddings__have_no_place_at_anthropic(rig: SdkRig) -> None:
    with pytest.raises(openai.APIStatusError, match="embeddings"):
        await asyncio.to_thread(lambda: rig.openai_sync.embeddings.create(model="to-claude", input="a"))


@pytest.mark.parametrize("how", ["fin", "rst", "end"])
async def test_stream__one_that_breaks_off_is_gone_on_with_across_the_wires(rig: SdkRig, how: Any) -> None:
    """To the last character, with one finish; each client sees one answer."""
    for provider in (rig.gpt, rig.claude):
        provider.behaviour = Behaviour(token_ms=2)
    rig.gpt.fail(Fault("cut", after=5, how=how, match=Match(key="key-of-gpt6")))
    rig.claude.fail(Fault("cut", after=5, how=how, match=Match(key="key-of-claude6")))
    async with rig.openai.chat.completions.stream(model="cut-gpt", messages=said(PROMPT)) as stream:
        final = await stream.get_final_completion()
    assert (final.choices[0].message.content, final.choices[0].finish_reason) == (TEXT, "stop")
    async with rig.anthropic.messages.stream(model="cut-claude", max_tokens=500, messages=said(PROMPT)) as events:
        message = await events.get_final_message()
    assert [block.to_dict().get("text") for block in message.content] == [TEXT]
    assert message.stop_reason == "end_turn"
    async with rig.openai.responses.stream(model="cut-gpt", input=PROMPT) as told:
        with contextlib.suppress(openai.APIError):  # or a clear error: never half an answer that looks whole
            assert (await told.get_final_response()).output_text == TEXT


async def test_openai_to_claude__an_answers_numbers_cross_to_the_last_digit_or_not_at_all(rig: SdkRig) -> None:
    call = '{"type":"tool_use","id":"t","name":"pay","input":{"wei":1234567890123456789012}}'
    head = '"id":"m","type":"message","role":"assistant","model":"m","stop_reason":"tool_use"'
    rig.claude.fail(Fault("status", status=200, body=f'{{{head},"content":[{call}]}}'))
    with pytest.raises(openai.APIStatusError, match="more than 64 bits"):
        await rig.openai.chat.completions.create(model="to-claude", messages=said(PROMPT), tools=OPENAI_TOOLS)
