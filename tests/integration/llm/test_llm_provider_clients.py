"""The official clients read every kind of answer that the stand-in provider gives, on each API."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest
from pydantic import BaseModel

from reanimate.demo.provider import Behaviour, Fault, Provider, answer_text
from reanimate.demo.provider.answers import REFUSAL

PROMPT = "how is the replica?"
TEXT = answer_text(PROMPT)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "integer"}}, "required": ["city"]}
CHAT_TOOLS: Any = [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}},
                   {"type": "function", "function": {"name": "find", "parameters": SCHEMA}}]  # fmt: skip
RESPONSE_TOOLS: Any = [{"type": "function", "name": name, "parameters": SCHEMA} for name in ("look", "find")]
MESSAGE_TOOLS: Any = [{"name": name, "input_schema": SCHEMA} for name in ("look", "find")]
WITH_TOOLS = f"{PROMPT} [[tools=3]]"


class City(BaseModel):
    city: str
    n: int


def _said(text: str) -> Any:
    return [{"role": "user", "content": text}]


@pytest.fixture
async def chat(provider: Provider) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="sk-1", max_retries=0) as client:
        yield client


@pytest.fixture
async def claude(provider: Provider) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=provider.url, api_key="sk-2", max_retries=0) as client:
        yield client


async def test_chat__whole_and_streamed(chat: openai.AsyncOpenAI, provider: Provider) -> None:
    whole = await chat.chat.completions.create(model="m", messages=_said(PROMPT))
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason, whole.model) == (TEXT, "stop", "m")
    assert whole.usage
    assert (whole.usage.completion_tokens, whole.usage.prompt_tokens) == (24, len(PROMPT) // 4)
    async with chat.chat.completions.stream(model="m", messages=_said(PROMPT)) as stream:
        final = await stream.get_final_completion()
    assert (final.choices[0].message.content, final.choices[0].finish_reason, final.usage) == (TEXT, "stop", None)
    assert final.id != whole.id
    assert [(call.key, call.stream, call.ended, call.tokens) for call in provider.calls] == [
        ("sk-1", False, "answered", 24),
        ("sk-1", True, "answered", 24),
    ]


async def test_chat__usage_of_a_stream_only_when_asked_for(chat: openai.AsyncOpenAI) -> None:
    options: Any = {"include_usage": True}
    events = [
        event
        async for event in await chat.chat.completions.create(
            model="m", messages=_said(PROMPT), stream=True, stream_options=options
        )
    ]
    assert not events[-1].choices
    assert events[-1].usage
    assert events[-1].usage.completion_tokens == 24
    assert all(event.usage is None for event in events[:-1])
    assert [event.choices[0].finish_reason for event in events[:-1]] == [None] * 25 + ["stop"]


async def test_chat__parallel_tool_calls(chat: openai.AsyncOpenAI) -> None:
    whole = await chat.chat.completions.create(model="m", messages=_said(WITH_TOOLS), tools=CHAT_TOOLS)
    async with chat.chat.completions.stream(model="m", messages=_said(WITH_TOOLS), tools=CHAT_TOOLS) as stream:
        final = await stream.get_final_completion()
    for answer in (whole, final):
        calls: Any = answer.choices[0].message.tool_calls
        assert [call.function.name for call in calls] == ["look", "find", "look"]
        assert len({call.id for call in calls}) == 3
        assert all(City.model_validate_json(call.function.arguments) for call in calls)
        assert answer.choices[0].finish_reason == "tool_calls"
    one = await chat.chat.completions.create(
        model="m", messages=_said(PROMPT), tools=CHAT_TOOLS, parallel_tool_calls=False,
        tool_choice={"type": "function", "function": {"name": "find"}},
    )  # fmt: skip
    assert [call.function.name for call in one.choices[0].message.tool_calls or ()] == ["find"]  # type: ignore[union-attr]


async def test_chat__structured_refused_filtered_and_cut_short(chat: openai.AsyncOpenAI) -> None:
    parsed = await chat.chat.completions.parse(model="m", messages=_said(PROMPT), response_format=City)
    assert isinstance(parsed.choices[0].message.parsed, City)
    for stream in (False, True):
        answers: list[Any] = []
        for text, limit in ((f"{PROMPT} [[refuse]]", 99), (f"{PROMPT} [[filter]]", 99), (PROMPT, 5)):
            given: Any = {"model": "m", "messages": _said(text), "max_tokens": limit}
            if stream:
                chunks = [c.choices[0] async for c in await chat.chat.completions.create(**given, stream=True)]
                said = ["".join(getattr(c.delta, field) or "" for c in chunks) for field in ("content", "refusal")]
                answers.append((*said, chunks[-1].finish_reason))
            else:
                choice = (await chat.chat.completions.create(**given)).choices[0]
                answers.append((choice.message.content or "", choice.message.refusal or "", choice.finish_reason))
        assert [finish for _, _, finish in answers] == ["stop", "content_filter", "length"]
        assert answers[0][:2] == ("", REFUSAL)
        assert TEXT.startswith(answers[2][0])


async def test_responses__whole_streamed_tools_and_structured(chat: openai.AsyncOpenAI) -> None:
    whole = await chat.responses.create(model="m", input=PROMPT)
    assert (whole.output_text, whole.status, whole.usage and whole.usage.output_tokens) == (TEXT, "completed", 24)
    async with chat.responses.stream(model="m", input=PROMPT) as stream:
        events = [event async for event in stream]
        final: Any = await stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (final.output_text, final.status, final.usage.output_tokens) == (TEXT, "completed", 24)
    async with chat.responses.stream(model="m", input=WITH_TOOLS, tools=RESPONSE_TOOLS) as stream:
        final = await stream.get_final_response()
    assert [item.name for item in final.output] == ["look", "find", "look"]
    assert all(City.model_validate_json(item.arguments) for item in final.output)
    assert isinstance((await chat.responses.parse(model="m", input=PROMPT, text_format=City)).output_parsed, City)
    short = await chat.responses.create(model="m", input=PROMPT, max_output_tokens=3)
    assert (short.status, short.incomplete_details and short.incomplete_details.reason) == (
        "incomplete",
        "max_output_tokens",
    )
    refused: Any = (await chat.responses.create(model="m", input=f"{PROMPT} [[refuse]]")).output[0]
    assert refused.content[0].refusal == REFUSAL
    events = [e async for e in await chat.responses.create(model="m", input=f"{PROMPT} [[refuse]]", stream=True)]
    assert "".join(event.delta for event in events if event.type == "response.refusal.delta") == REFUSAL


async def test_messages__whole_and_streamed(claude: anthropic.AsyncAnthropic, provider: Provider) -> None:
    whole = await claude.messages.create(model="m", max_tokens=99, messages=_said(PROMPT))
    assert whole.content[0].type == "text"
    assert (whole.content[0].text, whole.stop_reason, whole.usage.output_tokens) == (TEXT, "end_turn", 24)
    async with claude.messages.stream(model="m", max_tokens=99, messages=_said(PROMPT)) as stream:
        assert "".join([text async for text in stream.text_stream]) == TEXT
        final = await stream.get_final_message()
    assert (final.stop_reason, final.usage.output_tokens, final.usage.input_tokens) == ("end_turn", 24, 4)
    assert [call.key for call in provider.calls] == ["sk-2", "sk-2"]


async def test_messages__tools_limits_stops_and_counts(claude: anthropic.AsyncAnthropic) -> None:
    async with claude.messages.stream(
        model="m", max_tokens=99, messages=_said(WITH_TOOLS), tools=MESSAGE_TOOLS
    ) as stream:
        final = await stream.get_final_message()
    whole = await claude.messages.create(model="m", max_tokens=99, messages=_said(WITH_TOOLS), tools=MESSAGE_TOOLS)
    for answer in (final, whole):
        assert [block.name for block in answer.content if block.type == "tool_use"] == ["look", "find", "look"]
        assert all(City.model_validate(block.input) for block in answer.content if block.type == "tool_use")
        assert answer.stop_reason == "tool_use"
    short = await claude.messages.create(model="m", max_tokens=3, messages=_said(PROMPT))
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 3)
    stop = TEXT[20:24]
    stopped = await claude.messages.create(model="m", max_tokens=99, messages=_said(PROMPT), stop_sequences=[stop])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", stop)
    refused = await claude.messages.create(model="m", max_tokens=99, messages=_said(f"{PROMPT} [[refuse]]"))
    assert refused.stop_reason == "refusal"
    assert (await claude.messages.count_tokens(model="m", messages=_said(PROMPT))).input_tokens == 4


async def test_messages__prefill_is_gone_on_with_unless_it_ends_in_a_space(claude: anthropic.AsyncAnthropic) -> None:
    at = TEXT.index(" ", 30)
    asked = [*_said(PROMPT), {"role": "assistant", "content": TEXT[:at]}]
    rest = await claude.messages.create(model="m", max_tokens=99, messages=asked)
    assert rest.content[0].type == "text"
    assert TEXT[:at] + rest.content[0].text == TEXT
    asked[-1] = {"role": "assistant", "content": TEXT[: at + 1]}
    with pytest.raises(anthropic.BadRequestError, match="cannot end with trailing whitespace"):
        await claude.messages.create(model="m", max_tokens=99, messages=asked)


async def test_prefill__refused_as_the_newest_models_do(claude: anthropic.AsyncAnthropic, provider: Provider) -> None:
    provider.behaviour = Behaviour(prefill="refuse")
    asked = [*_said(PROMPT), {"role": "assistant", "content": TEXT[:9]}]
    with pytest.raises(anthropic.BadRequestError, match="does not support assistant message prefill"):
        await claude.messages.create(model="m", max_tokens=99, messages=asked)


async def test_models_embeddings_and_keys(
    chat: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic, provider: Provider
) -> None:
    provider.behaviour = Behaviour(models=("a", "b"), keys=("sk-1", "sk-2"))
    assert [model.id async for model in chat.models.list()] == ["a", "b"]
    assert [model.id async for model in claude.models.list()] == ["a", "b"]
    assert (await chat.models.retrieve("b")).id == "b"
    coded = await chat.embeddings.create(model="a", input=["one", "two"], dimensions=8)
    plain = await chat.embeddings.create(model="a", input=["one", "two"], dimensions=8, encoding_format="float")
    for one, other in zip(coded.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, rel=1e-6)
        assert sum(value * value for value in one.embedding) == pytest.approx(1.0, rel=1e-5)
    with pytest.raises(openai.NotFoundError):
        await chat.chat.completions.create(model="c", messages=_said(PROMPT))
    with pytest.raises(openai.AuthenticationError):
        await chat.with_options(api_key="sk-3").models.list()
    with pytest.raises(anthropic.AuthenticationError):
        await claude.with_options(api_key="sk-3").models.list()


async def test_sync_clients(provider: Provider) -> None:
    def ask() -> tuple[str, str, str]:
        chat = openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0)
        claude = anthropic.Anthropic(base_url=provider.url, api_key="k", max_retries=0)
        with chat, claude:
            first = chat.chat.completions.create(model="m", messages=_said(PROMPT), stream=True)
            said = "".join(chunk.choices[0].delta.content or "" for chunk in first)
            with claude.messages.stream(model="m", max_tokens=99, messages=_said(PROMPT)) as second:
                text = "".join(second.text_stream)
            return said, text, chat.responses.create(model="m", input=PROMPT).output_text

    assert await asyncio.to_thread(ask) == (TEXT, TEXT, TEXT)


@pytest.mark.parametrize(
    ("error", "openai_error", "anthropic_error"),
    [
        ("rate_limit", openai.RateLimitError, anthropic.RateLimitError),
        ("insufficient_quota", openai.RateLimitError, anthropic.BadRequestError),
        ("invalid_key", openai.AuthenticationError, anthropic.AuthenticationError),
        ("forbidden", openai.PermissionDeniedError, anthropic.PermissionDeniedError),
        ("context_length", openai.BadRequestError, anthropic.BadRequestError),
        ("content_policy", openai.BadRequestError, anthropic.BadRequestError),
        ("model_not_found", openai.NotFoundError, anthropic.NotFoundError),
        ("server_error", openai.InternalServerError, anthropic.InternalServerError),
        ("overloaded", openai.InternalServerError, anthropic.InternalServerError),
    ],
)
async def test_errors__are_those_that_the_clients_know(
    chat: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic, provider: Provider, error: str,
    openai_error: type[Exception], anthropic_error: type[Exception],
) -> None:  # fmt: skip
    provider.fail(Fault("status", error=error))
    with pytest.raises(openai_error):
        await chat.chat.completions.create(model="m", messages=_said(PROMPT))
    with pytest.raises(anthropic_error):
        await claude.messages.create(model="m", max_tokens=9, messages=_said(PROMPT))
    provider.fail(Fault("error_event", after=2, error=error))
    with pytest.raises(openai.APIError):
        [c async for c in await chat.chat.completions.create(model="m", messages=_said(PROMPT), stream=True)]
    async with chat.responses.stream(model="m", input=PROMPT) as stream:  # this one is not raised by the client
        assert [event.type async for event in stream][-1] == "error"
    with pytest.raises(anthropic.APIError):
        async with claude.messages.stream(model="m", max_tokens=99, messages=_said(PROMPT)) as messages:
            await messages.get_final_message()
