"""Streams that break off, read by the vendors' own clients: complete to the last character, or a clear error."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from stream_rig import IDLE_S, Case, StreamRig, stream_rig_for

from reanimate.demo.provider import Behaviour, answer_text

BREAKS: dict[str, dict[str, Any]] = {
    "rst": {"kind": "cut", "after": 5, "how": "rst"},
    "fin": {"kind": "cut", "after": 5, "how": "fin"},
    "clean end": {"kind": "cut", "after": 5, "how": "end"},
    "stall": {"kind": "stall", "after": 5},
    "malformed": {"kind": "malformed", "after": 5},
    "error event": {"kind": "error_event", "after": 5},
    "no finish": {"kind": "no_finish"},
}
TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "look", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
]
CLAUDE_TOOLS: Any = [{"name": "look", "input_schema": TOOLS[0]["function"]["parameters"]}]
SCHEMA = {
    "type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["city", "n"], "additionalProperties": False,
}  # fmt: skip
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}}


@pytest.fixture(scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StreamRig]:
    more = {("main", "backup"): 60, ("main-a", "backup-a"): 30}
    async with stream_rig_for(tmp_path_factory.mktemp("streams"), each=14, more=more) as running:
        yield running


@pytest.fixture(autouse=True)
def _well(rig: StreamRig) -> None:
    for provider in rig.providers.values():
        provider.reset()


@pytest.mark.parametrize("second", ["backup", "backup-prefill", "backup-a", "backup-a-prefill"])
@pytest.mark.parametrize("broken", BREAKS)
async def test_a_chat_that_breaks_off_is_completed_by_another_provider(
    rig: StreamRig, broken: str, second: str
) -> None:
    case = rig.case("main", second)
    case.breaks(**BREAKS[broken])
    done = await rig.read_chat(case)
    choice = done.choices[0]
    assert (choice.message.content, choice.finish_reason) == (answer_text(case.prompt), "stop")
    assert case.counts == (1, 1) or broken == "rst"  # a reset may overtake the first tokens: then it is asked again
    assert done.usage is not None
    assert done.usage.completion_tokens >= 24
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    if "prefill" in second and broken not in ("no finish", "rst"):
        assert done.usage.completion_tokens in (24, 25)  # white space at the break is said again


@pytest.mark.parametrize("second", ["backup-a", "backup-a-prefill", "backup", "backup-prefill"])
@pytest.mark.parametrize("broken", BREAKS)
async def test_a_message_that_breaks_off_is_completed_by_another_provider(
    rig: StreamRig, broken: str, second: str
) -> None:
    case = rig.case("main-a", second)
    case.breaks(**BREAKS[broken])
    done = await rig.read_message(case)
    assert [(block.type, block.text) for block in done.content] == [("text", answer_text(case.prompt))]
    assert done.stop_reason == "end_turn"
    assert case.counts == (1, 1) or broken == "rst"  # a reset may overtake the first tokens: then it is asked again
    assert done.usage.output_tokens >= 24
    if "prefill" in second and broken not in ("no finish", "rst"):
        assert done.usage.output_tokens in (24, 25)


@pytest.mark.parametrize("how", ["end", "fin", "rst", "stall"])
@pytest.mark.parametrize("wire", ["chat", "messages"])
async def test_an_answer_that_only_lacks_its_end_mark_gets_it_at_once(rig: StreamRig, wire: str, how: str) -> None:
    case = rig.case("main" if wire == "chat" else "main-a", "backup" if wire == "chat" else "backup-a")
    case.breaks("no_end", how=how)
    async with asyncio.timeout(5):
        if wire == "chat":
            done = await rig.read_chat(case)
            assert done.choices[0].message.content == answer_text(case.prompt)
        else:
            message = await rig.read_message(case)
            assert message.content[0].text == answer_text(case.prompt)
    assert case.counts == (1, 0) or how == "rst"  # a reset may overtake the last tokens, and the end with them


async def _raw(
    rig: StreamRig, case: Case, path: str = "/v1/chat/completions", **fields: Any
) -> tuple[dict[str, str], str]:
    """Return head and body of a stream as they come over the wire."""
    asked = (
        {"input": case.prompt} if path == "/v1/responses" else {"messages": [{"role": "user", "content": case.prompt}]}
    )
    said = {"model": case.route, "stream": True, **asked, **fields}
    async with rig.gateway.http.post(rig.gateway.url + path, json=said) as answer:
        return {name.lower(): value for name, value in answer.headers.items()}, await answer.text()


async def _listen(rig: StreamRig, case: Case, heard: list[str]) -> None:
    """Put each piece of a chat's text into `heard`."""
    said: Any = [{"role": "user", "content": case.prompt}]
    async for chunk in await rig.chat.chat.completions.create(model=case.route, messages=said, stream=True):
        heard.append(chunk.choices[0].delta.content or "")


def _chunks(body: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]


async def test_a_chat_goes_on_with_one_id_one_model_one_finish_and_says_by_whom(rig: StreamRig) -> None:
    case = rig.case()
    case.breaks("cut", how="fin", after=7)
    head, body = await _raw(rig, case)
    chunks = _chunks(body)
    assert len({(chunk["id"], chunk["model"], chunk["created"]) for chunk in chunks}) == 1
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"][0]["finish_reason"]] == [
        "stop"
    ]
    assert all(chunk.get("usage") is None for chunk in chunks)  # nobody asked for it
    assert body.count("data: [DONE]\n\n") == 1
    assert body.endswith("data: [DONE]\n\n")
    assert body.count(f": reanimate continued by backup/{case.model}\n\n") == 1
    assert head["x-reanimate-target"] == f"main/{case.model}"
    assert head["content-type"].startswith("text/event-stream")


async def test_a_message_goes_on_with_one_start_one_stop_and_its_blocks_in_order(rig: StreamRig) -> None:
    case = rig.case("main-a", "backup-a")
    case.breaks("cut", how="fin", after=7)
    _, body = await _raw(rig, case, "/v1/messages", max_tokens=1000)
    kinds = [chunk["type"] for chunk in _chunks(body) if chunk["type"] not in ("ping", "content_block_delta")]
    assert kinds == ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"]
    assert all(chunk["index"] == 0 for chunk in _chunks(body) if "index" in chunk)


async def _read_response(rig: StreamRig, case: Case, **fields: Any) -> tuple[str, Any]:
    """Return the text that came in pieces, and the final response, of OpenAI's streaming helper."""
    heard = []
    async with rig.chat.responses.stream(model=case.route, input=case.prompt, **fields) as stream:
        async for event in stream:
            if event.type == "response.output_text.delta":
                heard.append(event.delta)
        return "".join(heard), await stream.get_final_response()


@pytest.mark.parametrize("broken", [name for name in BREAKS if name != "no finish"])
async def test_a_response_that_breaks_off_is_completed_by_another_provider(rig: StreamRig, broken: str) -> None:
    case = rig.case()
    case.breaks(**BREAKS[broken])
    heard, done = await _read_response(rig, case)
    text = answer_text(case.prompt)
    assert (heard, done.output_text, done.status) == (text, text, "completed")
    assert [item.type for item in done.output] == ["message"]
    assert done.usage.output_tokens >= 24
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens
    assert case.counts == (1, 1) or broken == "rst"


@pytest.mark.parametrize("closed", [1, 2, 3])
@pytest.mark.parametrize("second", ["backup", "backup-a"])
async def test_a_response_whose_text_was_whole_is_ended_by_another_provider(
    rig: StreamRig, closed: int, second: str
) -> None:
    """It broke off behind its text, before why it ended: another one repeats the last words, and has nothing more."""
    case = rig.case("main", second)
    case.breaks("cut", how="fin", after=24, rest=closed)
    _, body = await _raw(rig, case, "/v1/responses")
    events = [chunk for chunk in _chunks(body) if chunk["type"] != "response.output_text.delta"]
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created", "in_progress", "output_item.added", "content_part.added",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    text, last = answer_text(case.prompt), events[-1]["response"]
    assert "".join(chunk["delta"] for chunk in _chunks(body) if chunk["type"].endswith(".delta")) == text
    assert (events[4]["text"], last["status"]) == (text, "completed")
    assert [(item["id"], item["content"][0]["text"]) for item in last["output"]] == [(events[2]["item"]["id"], text)]
    assert case.counts == (1, 1)
    assert body.count(": reanimate continued by") == 1


@pytest.mark.parametrize(("first", "path"), [("main-a", "/v1/messages"), ("main-a", "/v1/responses")])
@pytest.mark.parametrize("second", ["backup", "backup-a"])
async def test_a_closed_block_is_ended_by_another_provider(rig: StreamRig, first: str, second: str, path: str) -> None:
    """The same on Anthropic's wire, behind the end of its block, and where that is carried over to a response."""
    case = rig.case(first, second)
    case.breaks("cut", how="fin", after=24, rest=1)
    _, body = await _raw(rig, case, path, **({"max_tokens": 1000} if path == "/v1/messages" else {}))
    chunks = _chunks(body)
    kinds = [chunk["type"] for chunk in chunks if not chunk["type"].endswith("delta") and chunk["type"] != "ping"]
    text = "".join(
        chunk["delta"] if isinstance(chunk["delta"], str) else chunk["delta"].get("text", "")
        for chunk in chunks
        if chunk["type"] in ("content_block_delta", "response.output_text.delta")
    )
    assert text == answer_text(case.prompt)
    if path == "/v1/messages":
        assert kinds == ["message_start", "content_block_start", "content_block_stop", "message_stop"]
        assert [chunk["delta"]["stop_reason"] for chunk in chunks if chunk["type"] == "message_delta"] == ["end_turn"]
    else:
        assert kinds[-4:] == [
            "response.output_text.done", "response.content_part.done", "response.output_item.done",
            "response.completed",
        ]  # fmt: skip
        assert len(kinds) == len(set(kinds))
    assert case.counts == (1, 1)


@pytest.mark.parametrize("how", ["wordy", "direct", "refuse"])
async def test_a_response_whose_text_was_whole_gets_no_end_that_is_not_proven(rig: StreamRig, how: Any) -> None:
    """Who adds to a whole text, or says nothing that shows where it goes on, proves nothing: it ends as an error."""
    case = rig.case()
    case.breaks("cut", how="fin", after=24, rest=1)
    for provider in rig.providers.values():
        provider.behaviour = Behaviour(token_ms=0.5, continues=how)
    _, body = await _raw(rig, case, "/v1/responses")
    last = _chunks(body)[-1]
    assert (last["type"], "broke off" in last["error"]["message"]) == ("error", True)
    assert "response.completed" not in body
    assert "".join(chunk.get("delta", "") for chunk in _chunks(body)) == answer_text(case.prompt)


async def test_a_response_that_nobody_can_go_on_with_ends_as_an_error(rig: StreamRig) -> None:
    case, kept = rig.case(), rig.case()
    case.breaks("cut", how="fin", after=5)
    rig.providers["backup"].behaviour = Behaviour(token_ms=0.5, continues="refuse")
    with pytest.raises(openai.APIError, match="broke off"):
        await _read_response(rig, case)
    kept.breaks("cut", how="fin", after=5)
    with pytest.raises(openai.APIError, match="only its provider keeps"):
        await _read_response(rig, kept, previous_response_id="resp_1")
    assert kept.counts == (1, 0)


async def test_usage_nobody_asked_for_is_asked_for_and_not_shown(rig: StreamRig) -> None:
    case = rig.case()
    _, body = await _raw(rig, case)
    assert '"usage":{' not in body
    assert case.asked("main")[0].body["stream_options"] == {"include_usage": True}


async def test_both_vendors_blocking_clients_read_a_continued_stream(rig: StreamRig) -> None:
    case, other = rig.case(), rig.case("main-a", "backup-a")
    case.breaks("cut", how="fin", after=5)
    other.breaks("cut", how="fin", after=5)

    def read() -> tuple[str, str]:
        said: Any = [{"role": "user", "content": case.prompt}]
        with openai.OpenAI(base_url=rig.gateway.openai_url, api_key="k", max_retries=0) as client:
            chunks = client.chat.completions.create(model=case.route, messages=said, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        said = [{"role": "user", "content": other.prompt}]
        with (
            anthropic.Anthropic(base_url=rig.gateway.url, api_key="k", max_retries=0) as claude,
            claude.messages.stream(model=other.route, messages=said, max_tokens=1000) as stream,
        ):
            return text, "".join(stream.text_stream)

    assert await asyncio.to_thread(read) == (answer_text(case.prompt), answer_text(other.prompt))


@pytest.mark.parametrize("after", [1, 2, 3, 9, 15, 23, 24])
async def test_it_is_joined_wherever_it_breaks(rig: StreamRig, after: int) -> None:
    case = rig.case()
    case.breaks("cut", how="fin", after=after)
    assert (await rig.read_chat(case)).choices[0].message.content == answer_text(case.prompt)


@pytest.mark.parametrize("how", ["direct", "trimmed", "overlap", "chatty", "other", "refuse"])
async def test_a_model_that_does_not_go_on_as_asked_is_never_shown(rig: StreamRig, how: Any) -> None:
    """Nothing but an error is right, with the reason for the first break: what it says cannot be shown to fit."""
    case = rig.case(prompt=" [[tokens=40]]")
    case.breaks("cut", how="fin", after=20)
    for provider in rig.providers.values():
        provider.behaviour = Behaviour(token_ms=0.5, continues=how)
    heard: list[str] = []
    with pytest.raises(openai.APIError, match=r"broke off: main/\S+: the stream broke: .* 2\. \S+: unstitchable"):
        await _listen(rig, case, heard)
    assert heard
    assert answer_text(case.prompt).startswith("".join(heard))


async def test_a_model_that_begins_anew_is_cut_to_fit(rig: StreamRig) -> None:
    case, other = rig.case(), rig.case("main", "backup-prefill")
    case.breaks("cut", how="fin", after=5)
    other.breaks("cut", how="fin", after=5)
    rig.providers["backup"].behaviour = Behaviour(token_ms=0.5, continues="restart", prefill="restart")
    assert (await rig.read_chat(case)).choices[0].message.content == answer_text(case.prompt)
    assert (await rig.read_chat(other)).choices[0].message.content == answer_text(other.prompt)


async def test_each_break_is_gone_on_with_again(rig: StreamRig) -> None:
    """Main, backup, and main again: the second part broke off too, and nobody else is left."""
    case = rig.case(prompt=" [[tokens=60]]")
    case.breaks("cut", how="fin", after=20, times=1)
    case.breaks("cut", where="backup", how="fin", after=30, times=1)
    done = await rig.read_chat(case)
    assert done.choices[0].message.content == answer_text(case.prompt)
    assert case.counts == (2, 1)


@pytest.mark.parametrize("schema", [True, False])
@pytest.mark.parametrize("second", ["backup", "backup-prefill"])
async def test_structured_output_is_gone_on_with_to_a_well_formed_end(
    rig: StreamRig, second: str, schema: bool
) -> None:
    case, whole = rig.case("main", second), rig.case("main", second)
    whole.prompt = case.prompt
    wish: Any = FORMAT if schema else {"type": "json_object"}
    expected = (await rig.read_chat(whole, response_format=wish)).choices[0].message.content
    case.breaks("cut", how="fin", after=2)
    done = await rig.read_chat(case, response_format=wish)
    assert done.choices[0].message.content == expected
    json.loads(expected)


async def test_structured_output_that_would_not_be_well_formed_gets_no_end(rig: StreamRig) -> None:
    """Who goes on writes text: the parts fit, and are no JSON."""
    case = rig.case()
    case.breaks("cut", how="fin", after=2)
    rig.providers["backup"].behaviour = Behaviour(token_ms=0.5, continues="wordy")
    with pytest.raises(openai.APIError, match="do not make one JSON document"):
        await rig.read_chat(case, response_format=FORMAT)


RESPONSES_TOOLS: Any = [{"type": "function", **TOOLS[0]["function"], "strict": False}]
TOOL_CALLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "chat": ("main", "/v1/chat/completions", {"tools": TOOLS}),
    "messages": ("main-a", "/v1/messages", {"tools": CLAUDE_TOOLS, "max_tokens": 1000}),
    "responses": ("main", "/v1/responses", {"tools": RESPONSES_TOOLS}),
}


def _arguments(chunks: list[dict[str, Any]]) -> dict[int, str]:
    """Return the arguments of each tool call, put together, on any wire."""
    found: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk.get("choices", ()):
            for piece in choice["delta"].get("tool_calls") or ():
                found[piece["index"]] = found.get(piece["index"], "") + (piece["function"].get("arguments") or "")
        if chunk.get("type") == "content_block_delta":
            found[chunk["index"]] = found.get(chunk["index"], "") + chunk["delta"]["partial_json"]
        if chunk.get("type") == "response.function_call_arguments.delta":
            found[chunk["output_index"]] = found.get(chunk["output_index"], "") + chunk["delta"]
    return found


@pytest.mark.parametrize("how", ["fin", "end"])
@pytest.mark.parametrize("wire", TOOL_CALLS)
async def test_tool_calls_begin_anew_while_nothing_was_given(rig: StreamRig, wire: str, how: str) -> None:
    """The role, an empty beginning, or the mere name of a tool binds nobody: another provider is asked anew."""
    first, path, fields = TOOL_CALLS[wire]
    case = rig.case(first, first.replace("main", "backup"), " [[tools=2]]")
    case.breaks("cut", how=how, after=0)
    head, body = await _raw(rig, case, path, **fields)
    chunks = _chunks(body)
    found = list(_arguments(chunks).values())
    assert len(found) == 2
    assert all("city" in json.loads(arguments) for arguments in found)
    assert head["x-reanimate-target"] == f"{first.replace('main', 'backup')}/{case.model}"
    assert case.counts[1] == 1
    assert case.counts[0] in (1, 2)  # a connection that was broken before anything came is tried once more at once
    begun = [chunk for chunk in chunks if chunk.get("type") in ("message_start", "response.created")]
    assert len(begun) == (0 if wire == "chat" else 1)
    assert len({chunk["id"] for chunk in chunks if "choices" in chunk}) == (1 if wire == "chat" else 0)


async def test_a_tool_call_of_which_only_the_name_came_is_held_until_there_is_more(rig: StreamRig) -> None:
    """It stalls behind the name. Where nobody else answers, that is no broken stream: an error with its status."""
    case, alone = (rig.case("main-a", "backup-a", " [[tools=1]]") for _ in range(2))
    case.breaks("stall", after=0)
    _, path, fields = TOOL_CALLS["messages"]
    head, body = await _raw(rig, case, path, **fields)
    assert head["x-reanimate-degraded"] == f"main-a/{case.model}: stall"
    assert len(_arguments(_chunks(body))) == 1
    assert case.counts == (1, 1)
    alone.breaks("stall", after=0)
    alone.breaks("status", where="backup", error="server_error")
    said = [{"role": "user", "content": alone.prompt}]
    asked = {"model": alone.route, "stream": True, "messages": said, **fields}
    async with rig.gateway.http.post(rig.gateway.url + path, json=asked) as answer:
        told = (await answer.json())["error"]["message"]
        assert answer.status == 502
    assert f"main-a/{alone.model}: nothing came for {IDLE_S:g} s" in told
    assert f"backup-a/{alone.model}" in told
    assert alone.counts[0] == 1  # who fell silent is not asked again


@pytest.mark.parametrize("after", [1, 3, 6])
async def test_tool_calls_are_never_completed_by_another_model(rig: StreamRig, after: int) -> None:
    case, other = rig.case(prompt=" [[tools=2]]"), rig.case("main-a", "backup-a", prompt=" [[tools=2]]")
    case.breaks("cut", how="fin", after=after)
    other.breaks("cut", how="fin", after=after)
    with pytest.raises(openai.APIError, match="tool call"):
        await rig.read_chat(case, tools=TOOLS)
    with pytest.raises(anthropic.APIError, match="tool call"):
        await rig.read_message(other, tools=CLAUDE_TOOLS)
    assert case.counts == other.counts == (1, 0)


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"n": 2}, "more than one choice"), ({"logprobs": True}, None)],
)
async def test_what_cannot_be_gone_on_with_ends_as_an_error(rig: StreamRig, fields: Any, why: str | None) -> None:
    case = rig.case()
    case.breaks("cut", how="fin", after=5)
    if why is None:
        assert (await rig.read_chat(case, **fields)).choices[0].message.content == answer_text(case.prompt)
        return
    with pytest.raises(openai.APIError, match=why):
        await rig.read_chat(case, **fields)
    assert case.counts == (1, 0)


async def test_every_attempt_is_told_in_the_error(rig: StreamRig) -> None:
    case = rig.case()
    case.breaks("cut", how="fin", after=5)
    case.breaks("status", where="backup", error="server_error")
    with pytest.raises(openai.APIError) as told:
        await rig.read_chat(case)
    attempts = told.value.body["reanimate"]["attempts"]  # type: ignore[index,call-overload]
    assert [(attempt["target"], attempt["purpose"]) for attempt in attempts][:2] == [
        (f"main/{case.model}", "first"),
        (f"backup/{case.model}", "continuation"),
    ]
    assert told.value.code == "broken_off"


async def test_a_limit_of_the_caller_holds_for_both_parts_together(rig: StreamRig) -> None:
    case = rig.case("main", "backup-prefill")
    case.breaks("cut", how="fin", after=5)
    _, body = await _raw(rig, case, max_tokens=12)
    chunks = _chunks(body)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert case.asked("backup")[0].body["max_tokens"] == 7
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert answer_text(case.prompt).startswith(text)


async def test_a_route_may_forbid_it(tmp_path: Path) -> None:
    async with stream_rig_for(tmp_path, continue_streams=False) as rig:
        case, other = rig.case(), rig.case("main-a", "backup-a")
        case.breaks("cut", how="fin", after=5)
        other.breaks("cut", how="fin", after=5)
        with pytest.raises(openai.APIError, match="does not allow it"):
            await rig.read_chat(case)
        with pytest.raises(anthropic.APIError, match="does not allow it"):
            await rig.read_message(other)
        assert case.counts == other.counts == (1, 0)


async def test_what_both_parts_used_is_summed(rig: StreamRig) -> None:
    case = rig.case("main-a", "backup-a-prefill")
    case.breaks("cut", how="fin", after=9)
    done = await rig.read_message(case)
    (asked,) = case.asked("backup")
    first, second = len(case.prompt) // 4, sum(len(item["content"]) for item in asked.body["messages"]) // 4
    assert done.usage.input_tokens == first + second
    assert done.usage.output_tokens in (24, 25)
