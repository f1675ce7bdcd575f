"""OpenAI's own client, sync and async, through a real gateway: it notices nothing but the headers."""

import asyncio
import gzip
import json
import re
from typing import Any

import openai
import pytest
from sdk_rig import PNG, City, SdkRig, said

from reanimate.demo.provider import Behaviour, Fault, Match, answer_text

PROMPT = "how is the replica?"
TEXT = answer_text(PROMPT)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: Any = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("look", "find")]
RESPONSE_TOOLS: Any = [{"type": "function", "name": name, "parameters": SCHEMA} for name in ("look", "find")]


async def test_chat__the_answer_names_who_gave_it(rig: SdkRig) -> None:
    """Text, reason and tokens are the provider's; the caller's key stays here."""
    for answer in await rig.both_openai(lambda c: c.chat.completions.create(model="chat", messages=said(PROMPT))):
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (TEXT, "stop")
        assert (answer.model, answer.usage.completion_tokens) == ("large", 24)
    assert [(call.key, call.model) for call in rig.gpt_asked] == [("key-of-gpt", "large")] * 2
    assert all("callers-own" not in str(call.headers) for call in rig.gpt_asked)


async def test_chat__headers_say_how_it_came_about(rig: SdkRig) -> None:
    raw = await rig.openai.chat.completions.with_raw_response.create(model="chat", messages=said(PROMPT))
    head = {name: raw.headers[name] for name in raw.headers if name.startswith("x-reanimate-")}
    assert head.pop("x-reanimate-call").startswith("llm-")
    assert head["x-reanimate-target"] == "gpt/large"
    assert head["x-reanimate-attempts"] == "1"
    assert "x-reanimate-degraded" not in head


async def test_chat__streamed(rig: SdkRig) -> None:
    """Tokens are told to who asked for them, and to nobody else."""
    ask: dict[str, Any] = {"model": "chat", "messages": said(PROMPT), "stream": True}
    for chunks in await rig.streams_openai(lambda c: c.chat.completions.create(**ask)):
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert all(chunk.usage is None for chunk in chunks)
    ask["stream_options"] = {"include_usage": True}
    for chunks in await rig.streams_openai(lambda c: c.chat.completions.create(**ask)):
        assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 24)
    assert all(b'"include_usage":true' in call.raw for call in rig.gpt_asked)


async def test_chat__streaming_helper(rig: SdkRig) -> None:
    async with rig.openai.chat.completions.stream(model="chat", messages=said(PROMPT)) as stream:
        final = await stream.get_final_completion()
    assert (final.choices[0].message.content, final.choices[0].finish_reason) == (TEXT, "stop")

    def sync() -> Any:
        with rig.openai_sync.chat.completions.stream(model="chat", messages=said(PROMPT)) as stream:
            return stream.get_final_completion()

    assert (await asyncio.to_thread(sync)).choices[0].message.content == TEXT


async def test_chat__parallel_tool_calls(rig: SdkRig) -> None:
    """Whole and streamed; and the results go back."""
    ask: dict[str, Any] = {"model": "chat", "messages": said(f"{PROMPT} [[tools=2]]"), "tools": TOOLS}
    for answer in await rig.both_openai(lambda c: c.chat.completions.create(**ask)):
        calls = answer.choices[0].message.tool_calls
        assert [call.function.name for call in calls] == ["look", "find"]
        assert answer.choices[0].finish_reason == "tool_calls"
    async with rig.openai.chat.completions.stream(**ask) as stream:
        streamed = (await stream.get_final_completion()).choices[0].message.tool_calls
    assert streamed
    assert [(call.function.name, call.function.arguments) for call in streamed] == [
        (call.function.name, call.function.arguments) for call in calls
    ]
    results: Any = [{"role": "tool", "tool_call_id": call.id, "content": "fine"} for call in calls]
    follow: Any = [*ask["messages"], answer.choices[0].message, *results]
    ended = await rig.openai.chat.completions.create(model="chat", messages=follow, tools=TOOLS)
    assert ended.choices[0].finish_reason == "stop"


async def test_chat__structured_output(rig: SdkRig) -> None:
    ask: dict[str, Any] = {"model": "chat", "messages": said(PROMPT), "response_format": City}
    for answer in await rig.both_openai(lambda c: c.chat.completions.parse(**ask)):
        assert isinstance(answer.choices[0].message.parsed, City)
    async with rig.openai.chat.completions.stream(**ask) as stream:
        assert isinstance((await stream.get_final_completion()).choices[0].message.parsed, City)


async def test_bytes__images_and_unknown_fields_arrive_as_they_were_sent(rig: SdkRig) -> None:
    """Nothing is written anew: the bytes differ in the model's name only."""
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "high"}}
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "Ünïcode \U0001f600 \u2028"}, image]}]
    unknown = {"a_new_field": {"model": "chat", "x": [1.50, None, {"y": 1e-7}]}, "temperature": 0.10}
    for _ in await rig.both_openai(
        lambda c: c.chat.completions.create(model="chat", messages=messages, seed=7, extra_body=unknown)
    ):
        pass
    assert len(rig.sent) == len(rig.gpt_asked) == 2
    for sent, call in zip(rig.sent, rig.gpt_asked, strict=True):
        assert b"a_new_field" in sent
        assert json.loads(call.raw) == {**json.loads(sent), "model": "large"}
        old, new = b'"model":"chat"', b'"model":"large"'
        places = [found.start() for found in re.finditer(old, sent)]
        assert call.raw in [sent[:at] + new + sent[at + len(old) :] for at in places]


async def test_responses__whole_streamed_parsed_and_with_tools(rig: SdkRig) -> None:
    for answer in await rig.both_openai(lambda c: c.responses.create(model="chat", input=PROMPT)):
        assert (answer.output_text, answer.status, answer.model) == (TEXT, "completed", "large")
        assert answer.usage.output_tokens == 24
    for events in await rig.streams_openai(lambda c: c.responses.create(model="chat", input=PROMPT, stream=True)):
        assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
        assert events[-1].type == "response.completed"
    async with rig.openai.responses.stream(model="chat", input=PROMPT) as stream:
        assert (await stream.get_final_response()).output_text == TEXT
    for parsed in await rig.both_openai(lambda c: c.responses.parse(model="chat", input=PROMPT, text_format=City)):
        assert isinstance(parsed.output_parsed, City)
    called = await rig.openai.responses.create(model="chat", input=f"{PROMPT} [[tools=2]]", tools=RESPONSE_TOOLS)
    assert [item.name for item in called.output if item.type == "function_call"] == ["look", "find"]


async def test_embeddings__as_the_client_wants_them(rig: SdkRig) -> None:
    """It asks for base64 by itself, and decodes it."""
    plain, coded = (
        [item.embedding for item in answer.data]
        for answer in (
            await rig.openai.embeddings.create(model="vectors", input=["a", "b"], encoding_format="float"),
            await asyncio.to_thread(lambda: rig.openai_sync.embeddings.create(model="vectors", input=["a", "b"])),
        )
    )
    assert len(plain) == len(coded) == 2
    assert plain[0] == pytest.approx(coded[0], abs=1e-6)
    assert rig.sent[0].replace(b'"vectors"', b'"embedder"') == rig.gpt_asked[0].raw


async def test_models__list_and_retrieve(rig: SdkRig) -> None:
    assert "chat" in [model.id async for model in rig.openai.models.list()]
    [found, again] = await rig.both_openai(lambda c: c.models.retrieve("chat"))
    assert (found.id, again.id) == ("chat", "chat")


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ("bad_request", openai.BadRequestError),
        ("content_policy", openai.BadRequestError),
        ("context_length", openai.BadRequestError),
    ],
)
async def test_errors__of_the_callers_own_pass_as_they_are(rig: SdkRig, error: str, raised: type[Exception]) -> None:
    """Once; asking again would not help."""
    rig.gpt.fail(Fault("status", error=error))
    direct = openai.AsyncOpenAI(base_url=rig.gpt.openai_url, api_key="k", max_retries=0)
    with pytest.raises(openai.APIStatusError) as expected:
        await direct.chat.completions.create(model="large", messages=said(PROMPT))
    await direct.close()
    rig.gpt.calls.clear()
    with pytest.raises(raised) as caught:
        await rig.openai.chat.completions.create(model="chat", messages=said(PROMPT))
    assert isinstance(caught.value, openai.APIStatusError)
    assert (caught.value.code, caught.value.body) == (expected.value.code, expected.value.body)
    assert len(rig.gpt_asked) == 1


@pytest.mark.parametrize("status", [400, 401])
async def test_errors__never_show_a_key_of_the_gateways(rig: SdkRig, status: int) -> None:
    """Also when the provider repeats it."""
    said = {"error": {"message": "you sent key-of-gpt4", "type": "invalid_request_error", "param": "key-of-gpt4"}}
    rig.gpt.fail(Fault("status", status=status, body=json.dumps(said)))
    with pytest.raises(openai.APIStatusError) as caught:
        await rig.openai.chat.completions.create(model="gpt4", messages=[{"role": "user", "content": PROMPT}])
    assert "you sent [key]" in str(caught.value)
    assert "key-of-gpt4" not in str(caught.value) + str(caught.value.body) + caught.value.response.text


async def test_errors__of_the_gateway(rig: SdkRig) -> None:
    with pytest.raises(openai.NotFoundError, match="no route is called 'none'"):
        await rig.openai.chat.completions.create(model="none", messages=said(PROMPT))
    with pytest.raises(openai.NotFoundError, match="the gateway has no /v1/images/generations"):
        await rig.openai.images.generate(model="chat", prompt=PROMPT)
    assert len(rig.gpt_asked) == 0


async def test_errors__a_base_url_without_its_version_is_told(rig: SdkRig) -> None:
    """Not by the vector plane, which has every other path."""
    client = openai.AsyncOpenAI(base_url=rig.gateway.url, api_key="k", max_retries=0)
    async with client:
        with pytest.raises(openai.NotFoundError, match="lacks /v1"):
            await client.chat.completions.create(model="gpt", messages=said(PROMPT))


async def test_errors__a_compressed_request_is_told_so(rig: SdkRig) -> None:
    """Not as JSON that is broken."""
    status, answer, _ = await rig.gateway.ask(
        "POST", "/v1/chat/completions", data=gzip.compress(b"{}"), headers={"content-encoding": "gzip"}
    )
    assert (status, "compressed" in answer["error"]["message"]) == (415, True)


async def test_stream__what_breaks_off_and_cannot_be_gone_on_with_is_raised(rig: SdkRig) -> None:
    """In the middle of the arguments of a tool: nobody may invent the rest."""
    rig.gpt.behaviour = Behaviour(token_ms=2)
    rig.gpt.fail(Fault("cut", after=4, how="fin"))
    ask: dict[str, Any] = {"model": "gpt3", "messages": said(f"{PROMPT} [[tools=2]]"), "tools": TOOLS, "stream": True}
    with pytest.raises(openai.APIError) as caught:
        await rig.streams_openai(lambda c: c.chat.completions.create(**ask))
    assert not isinstance(caught.value, openai.APIConnectionError)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["reanimate"]["attempts"][0]["target"] == "gpt3/large"


NOT_STORED = {"error": {"message": "Previous response not found.", "type": "invalid_request_error",
                        "param": "previous_response_id", "code": "previous_response_not_found"}}  # fmt: skip


@pytest.mark.parametrize("streamed", [False, True])
async def test_responses__what_one_provider_keeps_is_asked_for_there_only(rig: SdkRig, streamed: bool) -> None:
    """Also when another one would be first again."""

    async def ask(**more: Any) -> Any:
        if not streamed:
            return await rig.openai.responses.create(model="twins", input=PROMPT, **more)
        async with rig.openai.responses.stream(model="twins", input=PROMPT, **more) as stream:
            return await stream.get_final_response()

    rig.gpt.fail(Fault("status", error="overloaded", match=Match(key="key-of-gpt5")))
    first = await ask()
    rig.gpt.fail()
    second = await ask(previous_response_id=first.id)
    assert {call.key for call in rig.gpt_asked if call.status == 200} == {"key-of-gpt"}
    rig.gpt.calls.clear()
    rig.gpt.fail(Fault("status", error="bad_request", match=Match(key="key-of-gpt")))
    with pytest.raises(openai.BadRequestError):
        await ask(previous_response_id=second.id)
    assert [call.key for call in rig.gpt_asked] == ["key-of-gpt"]


async def test_responses__what_is_not_remembered_is_looked_for_at_each(rig: SdkRig) -> None:
    """After a restart, say. Where nobody has it, the caller hears that."""
    fault = Fault("status", status=400, body=json.dumps(NOT_STORED), match=Match(key="key-of-gpt"))
    everywhere = Fault("status", status=400, body=json.dumps(NOT_STORED))
    rig.gpt.fail(fault)
    raw = await rig.openai.responses.with_raw_response.create(
        model="back-twins", input=PROMPT, previous_response_id="resp_old"
    )
    assert raw.headers["x-reanimate-target"] == "gpt2/large"
    rig.gpt.fail(everywhere)
    with pytest.raises(openai.BadRequestError) as caught:
        await rig.openai.responses.create(model="back-twins", input=PROMPT, previous_response_id="resp_old")
    assert caught.value.code == "previous_response_not_found"


async def test_responses__a_server_without_them_answers_chats_all_the_same(rig: SdkRig) -> None:
    """Many compatible ones have none: that is no reason to leave the model alone."""
    rig.gpt.fail(Fault("status", status=404, body='{"detail":"Not Found"}', match=Match(path="/v1/responses")))
    for _ in range(3):
        with pytest.raises(openai.NotFoundError, match="Not Found"):
            await rig.openai.responses.create(model="gpt3", input=PROMPT)
        answer = await rig.openai.chat.completions.create(model="gpt3", messages=said(PROMPT))
        assert answer.choices[0].message.content == TEXT
    assert [call.path for call in rig.gpt_asked] == ["/v1/responses", "/v1/chat/completions"] * 3
