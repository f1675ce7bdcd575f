"""Anthropic's own client, sync and async, through a real gateway: it notices nothing but the headers."""

import asyncio
import json
from typing import Any

import anthropic
import pytest
from sdk_rig import PNG, City, SdkRig, said

from reanimate.demo.provider import Behaviour, Fault, Match, answer_text

PROMPT = "how is the replica?"
TEXT = answer_text(PROMPT)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: Any = [{"name": name, "input_schema": SCHEMA} for name in ("look", "find")]


def asking(text: str = PROMPT, **more: Any) -> dict[str, Any]:
    return {"model": "message", "max_tokens": 500, "messages": said(text), **more}


async def test_messages__the_answer_names_who_gave_it(rig: SdkRig) -> None:
    for answer in await rig.both_anthropic(lambda c: c.messages.create(**asking(system="Be brief."))):
        assert (answer.content[0].text, answer.stop_reason, answer.model) == (TEXT, "end_turn", "large")
        assert answer.usage.output_tokens == 24
    assert [(call.key, call.model) for call in rig.claude_asked] == [("key-of-claude", "large")] * 2
    assert all("callers-own" not in str(call.headers) for call in rig.claude_asked)
    assert rig.claude_asked[0].headers["anthropic-version"] == rig.anthropic.default_headers["anthropic-version"]


async def test_messages__headers_say_how_it_came_about(rig: SdkRig) -> None:
    raw = await rig.anthropic.messages.with_raw_response.create(**asking())
    assert raw.headers["x-reanimate-call"].startswith("llm-")
    assert (raw.headers["x-reanimate-target"], raw.headers["x-reanimate-attempts"]) == ("claude/large", "1")


async def test_messages__streamed(rig: SdkRig) -> None:
    for events in await rig.streams_anthropic(lambda c: c.messages.create(**asking(stream=True))):
        pieces = [event.delta.text for event in events if event.type == "content_block_delta"]
        assert "".join(pieces) == TEXT
        assert events[-1].type == "message_stop"
    async with rig.anthropic.messages.stream(**asking()) as stream:
        assert "".join([text async for text in stream.text_stream]) == TEXT
        final = await stream.get_final_message()
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 24)

    def sync() -> Any:
        with rig.anthropic_sync.messages.stream(**asking()) as stream:
            return stream.get_final_text()

    assert await asyncio.to_thread(sync) == TEXT


async def test_messages__parallel_tool_calls(rig: SdkRig) -> None:
    ask = asking(f"{PROMPT} [[tools=2]]", tools=TOOLS)
    for answer in await rig.both_anthropic(lambda c: c.messages.create(**ask)):
        calls = [block for block in answer.content if block.type == "tool_use"]
        assert [call.name for call in calls] == ["look", "find"]
        assert answer.stop_reason == "tool_use"
    async with rig.anthropic.messages.stream(**ask) as stream:
        streamed = [block for block in (await stream.get_final_message()).content if block.type == "tool_use"]
    assert [(call.name, call.input) for call in streamed] == [(call.name, call.input) for call in calls]
    results: Any = [{"type": "tool_result", "tool_use_id": call.id, "content": "fine"} for call in calls]
    follow = [*ask["messages"], {"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
    ended = await rig.anthropic.messages.create(**{**ask, "messages": follow})
    assert ended.stop_reason == "end_turn"


async def test_messages__structured_output(rig: SdkRig) -> None:
    for answer in await rig.both_anthropic(lambda c: c.messages.parse(**asking(), output_format=City)):
        assert isinstance(answer.parsed_output, City)


async def test_bytes__images_and_unknown_fields_arrive_as_they_were_sent(rig: SdkRig) -> None:
    """Nothing is written anew: the bytes differ in the model's name only."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    ask = asking(messages=[{"role": "user", "content": [{"type": "text", "text": "Ünïcode \U0001f600"}, image]}])
    unknown = {"a_new_field": {"x": [1.50, None, {"y": 1e-7}]}, "temperature": 0.10}
    await rig.both_anthropic(lambda c: c.messages.create(**ask, extra_body=unknown))
    assert len(rig.sent) == len(rig.claude_asked) == 2
    for sent, call in zip(rig.sent, rig.claude_asked, strict=True):
        assert json.loads(sent)["a_new_field"] == unknown["a_new_field"]
        assert call.raw == sent.replace(b'"model":"message"', b'"model":"large"')


async def test_betas__pass_with_their_header_and_query(rig: SdkRig) -> None:
    """They are asked for beside the body."""
    answer = await rig.anthropic.beta.messages.create(**asking(), betas=["a-beta-2026-01-01"])
    assert answer.content[0].type == "text"
    assert rig.claude_asked[0].headers["anthropic-beta"] == "a-beta-2026-01-01"


async def test_count_tokens__is_the_providers_own_count(rig: SdkRig) -> None:
    counts = await rig.both_anthropic(lambda c: c.messages.count_tokens(model="message", messages=said(PROMPT)))
    assert [count.input_tokens for count in counts] == [len(PROMPT) // 4] * 2
    assert [call.path for call in rig.claude_asked] == ["/v1/messages/count_tokens"] * 2


async def test_models__list_and_retrieve(rig: SdkRig) -> None:
    assert "message" in [model.id async for model in rig.anthropic.models.list()]
    [found, _] = await rig.both_anthropic(lambda c: c.models.retrieve("message"))
    assert (found.id, found.max_tokens) == ("message", 4000)


async def test_errors__of_the_callers_own_pass_as_they_are(rig: SdkRig) -> None:
    rig.claude.fail(Fault("status", error="bad_request"))
    direct = anthropic.AsyncAnthropic(base_url=rig.claude.url, api_key="k", max_retries=0)
    with pytest.raises(anthropic.BadRequestError) as expected:
        await direct.messages.create(**asking())
    await direct.close()
    rig.claude.calls.clear()
    with pytest.raises(anthropic.BadRequestError) as caught:
        await rig.anthropic.messages.create(**asking())
    wanted, got = expected.value.body, caught.value.body
    assert isinstance(wanted, dict)
    assert isinstance(got, dict)
    assert got["error"] == wanted["error"]
    assert len(rig.claude_asked) == 1


async def test_errors__of_the_gateway(rig: SdkRig) -> None:
    with pytest.raises(anthropic.NotFoundError, match="no route is called 'none'"):
        await rig.anthropic.messages.create(**asking(model="none"))
    assert len(rig.claude_asked) == 0


async def test_stream__what_breaks_off_and_cannot_be_gone_on_with_is_raised(rig: SdkRig) -> None:
    rig.claude.behaviour = Behaviour(token_ms=2)
    rig.claude.fail(Fault("cut", after=4, how="fin"))
    ask = asking(f"{PROMPT} [[tools=2]]", model="claude3", tools=TOOLS, stream=True)
    with pytest.raises(anthropic.APIStatusError) as caught:
        await rig.streams_anthropic(lambda c: c.messages.create(**ask))
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["reanimate"]["attempts"][0]["target"] == "claude3/large"


async def test_count_tokens__a_server_that_cannot_is_not_left_alone_for_it(rig: SdkRig) -> None:
    """The count is an estimate then, and messages are answered as before."""
    rig.claude.fail(Fault("status", status=404, body="{}", match=Match(path="/v1/messages/count_tokens")))
    for _ in range(3):
        raw = await rig.anthropic.messages.with_raw_response.count_tokens(model="message", messages=said(PROMPT))
        assert "estimate" in raw.headers["x-reanimate-degraded"]
        assert (await rig.anthropic.messages.create(**asking())).stop_reason == "end_turn"
