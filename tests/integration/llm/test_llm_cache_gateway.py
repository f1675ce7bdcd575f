"""The cache in a real gateway, asked by the official clients; what counts is how often providers were asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import openai
import orjson
import pytest
from llm_gateway import LlmGateway, llm_gateway_for, provider_toml, route_toml, write_settings

from reanimate.demo.provider import Fault, Provider, answer_text

TOOLS: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
STATIC = "We are back soon."


def _settings(home: Path, provider: Provider) -> None:
    """Three routes that all end at one provider: two of them keep answers fresh, `plain` only for bad times."""
    write_settings(
        home,
        provider_toml("main", provider.url, models=["model", {"name": "vectors", "kind": "embedding"}]),
        provider_toml("claude", provider.url, wire="anthropic"),
        route_toml("chat", ["main/model"], cache_ttl_s=60, hedge=False, static_answer=STATIC),
        route_toml("claude", ["claude/model"], cache_ttl_s=60, hedge=False, static_answer=STATIC),
        route_toml("plain", ["main/model"], hedge=False),
        route_toml("vectors", ["main/vectors"], cache_ttl_s=60, hedge=False, static_answer=STATIC),
    )


@dataclass
class Rig:
    """A gateway, its provider, and clients with one key."""

    gateway: LlmGateway
    provider: Provider
    chat: openai.AsyncOpenAI
    claude: anthropic.AsyncAnthropic

    async def asked(self, count: int) -> None:
        """Check how often the provider was asked; what has just ended may still be on its way into the list."""
        await asyncio.sleep(0.05)
        assert self.provider.total == count


@asynccontextmanager
async def _rig(home: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(Provider("main"))
        _settings(home, provider)
        gateway = await stack.enter_async_context(llm_gateway_for(home))
        chat = openai.AsyncOpenAI(base_url=gateway.openai_url, api_key="sk", max_retries=0)
        claude = anthropic.AsyncAnthropic(base_url=gateway.url, api_key="sk", max_retries=0)
        yield Rig(gateway, provider, await stack.enter_async_context(chat), await stack.enter_async_context(claude))


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with _rig(tmp_path_factory.mktemp("home")) as rig:
        yield rig


@pytest.fixture
def calm(shared: Rig) -> Rig:
    """For tests that break nothing; each asks questions of its own."""
    shared.provider.reset()
    return shared


@pytest.fixture
async def fresh(tmp_path: Path) -> AsyncIterator[Rig]:
    """For tests after which the provider is known to be bad."""
    async with _rig(tmp_path) as rig:
        yield rig


def _said(text: str) -> Any:
    return [{"role": "user", "content": text}]


def _break(provider: Provider) -> None:
    provider.fail(Fault("status", status=500))


async def test_hits__whole_and_streamed_of_chat(calm: Rig) -> None:
    """Who asks first may stream or not, and so may all the others: one question, one call."""
    whole = await calm.chat.chat.completions.create(model="chat", messages=_said("in both forms"))
    async with calm.chat.chat.completions.stream(model="chat", messages=_said("in both forms")) as stream:
        streamed = await stream.get_final_completion()
    assert streamed.choices[0].message.content == whole.choices[0].message.content == answer_text("in both forms")
    assert (streamed.id, streamed.model, streamed.choices[0].finish_reason) == (whole.id, whole.model, "stop")

    async with calm.chat.chat.completions.stream(model="chat", messages=_said("in both forms two")) as stream:
        streamed = await stream.get_final_completion()
    options: Any = {"include_usage": True}
    chunks = [
        chunk
        async for chunk in await calm.chat.chat.completions.create(
            model="chat", messages=_said("in both forms two"), stream=True, stream_options=options
        )
    ]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == answer_text(
        "in both forms two"
    )
    whole = await calm.chat.chat.completions.create(model="chat", messages=_said("in both forms two"))
    assert whole.choices[0].message.content == answer_text("in both forms two")
    assert whole.usage
    assert chunks[-1].usage == whole.usage
    assert whole.usage.completion_tokens == 24
    await calm.asked(2)


async def test_hits__tool_calls(calm: Rig) -> None:
    """Arguments and ids are the same in each form."""
    text = "tool-calls [[tools=2]]"
    async with calm.chat.chat.completions.stream(model="chat", messages=_said(text), tools=TOOLS) as stream:
        first = (await stream.get_final_completion()).choices[0].message.tool_calls
    whole = (await calm.chat.chat.completions.create(model="chat", messages=_said(text), tools=TOOLS)).choices[0]
    async with calm.chat.chat.completions.stream(model="chat", messages=_said(text), tools=TOOLS) as stream:
        again = (await stream.get_final_completion()).choices[0].message.tool_calls
    for calls in (first, whole.message.tool_calls, again):
        assert calls
        assert [call.function.name for call in calls] == ["look", "look"]  # type: ignore[union-attr]
    assert [call.id for call in first or ()] == [call.id for call in again or ()]
    assert whole.finish_reason == "tool_calls"
    await calm.asked(1)


async def test_hits__responses(calm: Rig) -> None:
    """The Responses API, whose streams are of many kinds of events."""
    async with calm.chat.responses.stream(model="chat", input="responses") as stream:
        first = await stream.get_final_response()
    whole = await calm.chat.responses.create(model="chat", input="responses")
    async with calm.chat.responses.stream(model="chat", input="responses") as stream:
        deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        again = await stream.get_final_response()
    assert first.output_text == whole.output_text == again.output_text == "".join(deltas) == answer_text("responses")
    assert again.usage == whole.usage
    await calm.asked(1)


async def test_hits__messages(calm: Rig) -> None:
    """Anthropic's API."""
    async with calm.claude.messages.stream(model="claude", max_tokens=500, messages=_said("messages")) as stream:
        first = await stream.get_final_message()
    whole = await calm.claude.messages.create(model="claude", max_tokens=500, messages=_said("messages"))
    async with calm.claude.messages.stream(model="claude", max_tokens=500, messages=_said("messages")) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        again = await stream.get_final_message()
    for message in (first, whole, again):
        assert message.content[0].text == text == answer_text("messages")  # type: ignore[union-attr]
        assert (message.id, message.stop_reason) == (first.id, "end_turn")
        assert message.usage.output_tokens == 24
    await calm.asked(1)


async def test_hits__embeddings(calm: Rig) -> None:
    vectors = [await calm.chat.embeddings.create(model="vectors", input=["embeddings", "b"]) for _ in range(2)]
    assert vectors[0].data == vectors[1].data
    await calm.asked(1)


async def test_hits__say_so(calm: Rig) -> None:
    """In the headers: whether, from whom, how old."""
    _, first, asked = await calm.gateway.chat("say-so")
    _, again, found = await calm.gateway.chat("say-so")
    assert first == again
    assert (asked["x-reanimate-cache"], found["x-reanimate-cache"]) == ("miss", "hit")
    assert (found["x-reanimate-target"], found["x-reanimate-attempts"], found["x-reanimate-age"]) == (
        "main/model", "0", "0",
    )  # fmt: skip
    assert "x-reanimate-degraded" not in found
    assert asked["x-reanimate-call"] != found["x-reanimate-call"]


@pytest.mark.parametrize("stream", [False, True])
async def test_flights__equal_calls_are_one(calm: Rig, stream: bool) -> None:
    """Forty at once, streamed or not: the provider is asked once, and everybody has the whole answer."""
    calm.provider.fail(Fault("delay", ms=300))

    async def ask() -> str:
        body = {"model": "chat", "stream": stream, "messages": _said(f"equal {stream}")}
        async with calm.gateway.http.post(f"{calm.gateway.openai_url}/chat/completions", json=body) as answer:
            said = await answer.read()
        if not stream:
            return str(orjson.loads(said)["choices"][0]["message"]["content"])
        chunks = [orjson.loads(event[6:]) for event in said.split(b"\n\n") if event.startswith(b"data: {")]
        return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])

    said = await asyncio.gather(*(ask() for _ in range(40)))
    assert set(said) == {answer_text(f"equal {stream}")}
    await calm.asked(1)


async def test_flights__a_leader_that_leaves_is_replaced(calm: Rig) -> None:
    """One of those who wait asks in its place; nobody is left without an answer."""
    calm.provider.fail(Fault("delay", ms=700))
    leader = asyncio.ensure_future(calm.gateway.chat("a-leader-that-leaves-is-replaced"))
    await asyncio.sleep(0.3)
    others = [asyncio.ensure_future(calm.gateway.chat("a-leader-that-leaves-is-replaced")) for _ in range(10)]
    await asyncio.sleep(0.1)
    leader.cancel()
    answers = await asyncio.gather(*others)
    assert {answer[0] for answer in answers} == {200}
    await calm.asked(2)


async def test_flights__a_failing_leader_fails_alone(calm: Rig) -> None:
    """What it was told is its own; the others ask for themselves."""
    calm.provider.fail(Fault("status", error="bad_request", status=400, times=1), Fault("delay", ms=300))
    leader = asyncio.ensure_future(calm.gateway.chat("a-failing-leader-fails-alone"))
    await asyncio.sleep(0.1)
    answers = await asyncio.gather(*(calm.gateway.chat("a-failing-leader-fails-alone") for _ in range(5)))
    assert (await leader)[0] == 400
    assert {answer[0] for answer in answers} == {200}


async def test_keys__what_makes_a_question_another_one(calm: Rig) -> None:
    """Parameters, the version of the knowledge base, the tenant; not who asks within it."""
    await calm.gateway.chat("what-makes-a-question-another-one")
    await calm.gateway.chat("what-makes-a-question-another-one", user="u-1", metadata={"a": "b"})
    await calm.asked(1)
    await calm.gateway.chat("what-makes-a-question-another-one", temperature=0.5)
    await calm.gateway.chat("what-makes-a-question-another-one", headers={"x-reanimate-knowledge-version": "7"})
    await calm.gateway.chat("what-makes-a-question-another-one", headers={"x-reanimate-tenant": "other"})
    await calm.gateway.chat("what-makes-a-question-another-one", headers={"authorization": "Bearer another-key"})
    await calm.asked(5)


async def test_keep__not_what_was_cut_at_the_limit(calm: Rig) -> None:
    for _ in range(2):
        _, answer, _ = await calm.gateway.chat("not-what-was-cut-at-the-limit", max_tokens=5)
        assert answer["choices"][0]["finish_reason"] == "length"
    await calm.asked(2)


async def test_wishes__of_the_caller(calm: Rig) -> None:
    """`Cache-Control` as RFC 9111 has it."""

    async def ask(wants: str) -> tuple[int, str]:
        status, _, headers = await calm.gateway.chat("of-the-caller", headers={"cache-control": wants})
        return status, headers["x-reanimate-cache"]

    assert await ask("only-if-cached") == (504, "miss")
    assert await ask("no-store") == (200, "off")
    assert await ask("only-if-cached") == (504, "miss")
    await calm.asked(1)
    assert await ask("no-cache") == (200, "off")
    assert await ask("only-if-cached") == (200, "hit")
    assert await ask("max-age=30") == (200, "hit")
    await asyncio.sleep(1.1)
    assert await ask("max-age=1") == (200, "miss")
    await calm.asked(3)


async def test_outage__old_answers_then_the_static_one(fresh: Rig) -> None:
    """Only when nobody answers; marked in the headers and in the answer; in each form."""
    assert (await fresh.gateway.chat("one", model="plain"))[2]["x-reanimate-cache"] == "off"
    await fresh.chat.chat.completions.create(model="plain", messages=_said("one"))
    await fresh.gateway.chat("one", model="plain", headers={"cache-control": "no-cache"})
    await fresh.asked(3)
    await asyncio.sleep(1.1)
    _break(fresh.provider)
    status, answer, headers = await fresh.gateway.chat("one", model="plain")
    assert (status, headers["x-reanimate-cache"], headers["x-reanimate-target"]) == (200, "stale", "main/model")
    assert int(headers["x-reanimate-age"]) >= 1
    assert "nobody answers" in headers["x-reanimate-degraded"]
    assert answer["choices"][0]["message"]["content"] == answer_text("one")
    assert answer["reanimate"]["cache"] == "stale"
    assert answer["reanimate"]["age_s"] >= 1
    assert (await fresh.gateway.chat("other", model="plain"))[0] >= 500  # neither kept nor a static answer
    assert (await fresh.gateway.chat("one", model="plain", headers={"x-reanimate-tenant": "b"}))[0] >= 500
    assert (await fresh.gateway.chat("one", model="plain", headers={"cache-control": "no-cache"}))[0] >= 500

    status, answer, headers = await fresh.gateway.chat("never asked")
    assert (status, headers["x-reanimate-cache"]) == (200, "static")
    assert answer["choices"][0]["message"]["content"] == STATIC
    assert "static" in headers["x-reanimate-degraded"]
    async with fresh.chat.chat.completions.stream(model="plain", messages=_said("one")) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == answer_text("one")
    assert final.model_extra
    assert final.model_extra["reanimate"]["cache"] == "stale"


async def test_outage__the_static_answer_in_each_shape(fresh: Rig) -> None:
    """Streamed and not, as each client reads it, and marked for who looks."""
    _break(fresh.provider)
    whole = await fresh.chat.chat.completions.create(model="chat", messages=_said("one"))
    assert whole.choices[0].message.content == STATIC
    async with fresh.chat.chat.completions.stream(model="chat", messages=_said("one")) as stream:
        assert (await stream.get_final_completion()).choices[0].message.content == STATIC
    response = await fresh.chat.responses.create(model="chat", input="one")
    assert response.output_text == STATIC
    async with fresh.chat.responses.stream(model="chat", input="one") as events:
        final = await events.get_final_response()
    assert final.output_text == STATIC
    message = await fresh.claude.messages.create(model="claude", max_tokens=50, messages=_said("one"))
    assert message.content[0].text == STATIC  # type: ignore[union-attr]
    async with fresh.claude.messages.stream(model="claude", max_tokens=50, messages=_said("one")) as pieces:
        last = await pieces.get_final_message()
    assert last.content[0].text == STATIC  # type: ignore[union-attr]
    for answer in (whole, response, final, message, last):
        assert answer.model_extra
        assert answer.model_extra["reanimate"]["cache"] == "static"
        assert answer.model == "reanimate/static"
    with pytest.raises(openai.InternalServerError):  # there is no standard vector
        await fresh.chat.embeddings.create(model="vectors", input="a")


async def test_outage__no_tool_call_of_the_past(fresh: Rig) -> None:
    """It would act today on what was so then."""
    asked: dict[str, Any] = {"model": "plain", "tools": TOOLS}
    _, answer, _ = await fresh.gateway.chat("go [[tools=1]]", **asked)
    assert answer["choices"][0]["message"]["tool_calls"]
    _break(fresh.provider)
    assert (await fresh.gateway.chat("go [[tools=1]]", **asked))[0] >= 500


async def test_restart__answers_are_still_there(fresh: Rig) -> None:
    """Also after a kill, when what was kept has reached the disk."""
    for number in range(20):
        await fresh.gateway.chat(f"one {number}")
    await asyncio.sleep(0.6)
    await fresh.gateway.stop()
    await fresh.gateway.start()
    _break(fresh.provider)
    for number in range(20):
        _, answer, headers = await fresh.gateway.chat(f"one {number}")
        assert headers["x-reanimate-cache"] == "hit"
        assert answer["choices"][0]["message"]["content"] == answer_text(f"one {number}")
    await fresh.asked(20)
