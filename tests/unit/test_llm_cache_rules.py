"""What the caller wants of the cache, which questions are equal, which answers are good, and what is on disk."""

import json
import math
from typing import Any

import pytest
from llm_answers_by_hand import ANSWERS, PATHS, chat_answer, route_of
from llm_calls import call_of

from reanimate.errors import Damaged
from reanimate.gateway.llm.cache.entry import Entry, decode, encode
from reanimate.gateway.llm.cache.goodness import judge
from reanimate.gateway.llm.cache.keys import is_a_question, key_of
from reanimate.gateway.llm.cache.memory import Memory
from reanimate.gateway.llm.cache.static import static_answer
from reanimate.gateway.llm.cache.wishes import Wishes, read_wishes
from reanimate.gateway.llm.call import Call, Tenant
from reanimate.gateway.llm.endpoints import Shape

BODY: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "temperature": 0}


@pytest.mark.parametrize(
    ("said", "wishes"),
    [
        ("no-store", Wishes(no_store=True)),
        ("NO-CACHE, max-age=0", Wishes(no_cache=True, max_age_s=0)),
        ('max-age="60"', Wishes(max_age_s=60)),
        ("max-stale", Wishes(max_stale_s=math.inf)),
        ("max-stale=5,only-if-cached", Wishes(max_stale_s=5, only_if_cached=True)),
        ("stale-if-error=10, min-fresh=3", Wishes(stale_if_error_s=10, min_fresh_s=3)),
        ("max-age=soon, private, =, max-age", Wishes()),
        ("max-age=-1", Wishes()),
    ],
)
def test_wishes__are_read(said: str, wishes: Wishes) -> None:
    """As RFC 9111 writes them; what is not understood changes nothing."""
    assert read_wishes([(b"accept", b"*/*"), (b"cache-control", said.encode())]) == wishes


def test_wishes__of_two_headers_are_both_heard() -> None:
    """A header given twice is one list."""
    assert read_wishes([(b"cache-control", b"max-age=9"), (b"cache-control", b"no-store")]) == Wishes(
        no_store=True, max_age_s=9
    )
    assert read_wishes([]) == Wishes()


def test_key__is_the_same_for_the_same_question() -> None:
    """The order of fields, who asks, how it is billed, the name of the route and streaming do not matter."""
    key = key_of(call_of(BODY))
    reordered = dict(reversed(BODY.items()))
    same = {"user": "u-1", "metadata": {"a": "1"}, "stream": True, "stream_options": {"include_usage": True}}
    assert key_of(call_of(reordered)) == key
    assert key_of(call_of({**BODY, **same, "model": "gpt-9", "service_tier": "flex"})) == key


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 1}, {"messages": [{"role": "user", "content": "hello"}]}, {"max_tokens": 5}, {"seed": 1},
        {"tools": []}, {"response_format": {"type": "json_object"}}, {"a_field_of_next_year": 1}, {"n": 2},
    ],
)  # fmt: skip
def test_key__differs_with_every_parameter(change: dict[str, Any]) -> None:
    assert key_of(call_of({**BODY, **change})) != key_of(call_of(BODY))


def test_key__differs_with_tenant_shape_knowledge_and_betas() -> None:
    """Tenants never share, and neither do versions of the knowledge base."""
    calls = [call_of(BODY), call_of(BODY), call_of(BODY, "/v1/responses")]
    calls[1].tenant = Tenant("other", "other")
    calls += [call_of(BODY, headers={"X-Reanimate-Knowledge-Version": version}) for version in ("1", "2")]
    calls.append(call_of(BODY, headers={"anthropic-beta": "x"}))
    assert len({key_of(call) for call in calls}) == len(calls)
    assert key_of(call_of(BODY, headers={"user-agent": "x", "authorization": "Bearer y"})) == key_of(call_of(BODY))


def test_key__not_of_conversations_that_the_provider_keeps() -> None:
    assert is_a_question(call_of({"model": "m", "input": "x", "previous_response_id": "r"}, PATHS["responses"]))
    assert not is_a_question(call_of({"model": "m", "input": "x", "conversation": "c"}, PATHS["responses"]))
    assert not is_a_question(call_of({"model": "m", "input": "x", "background": True}, PATHS["responses"]))


def test_key__not_of_numbers_that_are_read_as_their_neighbours() -> None:
    def seeded(seed: float) -> Call:
        return call_of(json.dumps({**BODY, "seed": seed}).encode())

    assert key_of(seeded(2**70)) == key_of(seeded(2**70 + 1))
    assert not any(is_a_question(seeded(seed)) for seed in (2**70, -(2**70)))
    assert all(is_a_question(seeded(seed)) for seed in (2**63, 1 - 2**63, 0.5))


@pytest.mark.parametrize("name", ANSWERS)
def test_goodness__of_whole_answers(name: str) -> None:
    """Whole answers are good, and those that ask for tools are known for it."""
    shape, answer = ANSWERS[name]
    verdict = judge(Shape(shape), {}, answer)
    assert (verdict.good, verdict.tools) == (True, "tools" in name)


_CUT_CALL = [{"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"city":'}}]


@pytest.mark.parametrize(
    ("shape", "answer"),
    [
        ("chat", chat_answer("Hel", "length")),
        ("chat", chat_answer("Hel", "content_filter")),
        ("chat", {**chat_answer(), "choices": [{**chat_answer()["choices"][0], "finish_reason": None}]}),
        ("chat", chat_answer("")),
        ("chat", chat_answer(None)),
        ("chat", chat_answer(None, refusal="No.")),
        ("chat", chat_answer(None, "tool_calls", tool_calls=_CUT_CALL)),
        ("chat", {"choices": []}),
        ("chat", {"error": {"message": "overloaded"}}),
        ("chat", {"id": "1"}),
        ("chat", ["no", "object"]),
        ("messages", {**ANSWERS["messages text"][1], "stop_reason": "max_tokens"}),
        ("messages", {**ANSWERS["messages text"][1], "stop_reason": "refusal"}),
        ("messages", {**ANSWERS["messages text"][1], "stop_reason": "pause_turn"}),
        ("messages", {**ANSWERS["messages text"][1], "content": []}),
        ("messages", {"type": "error", "error": {"type": "overloaded_error"}}),
        ("responses", {**ANSWERS["responses text"][1], "status": "incomplete"}),
        ("responses", {**ANSWERS["responses text"][1], "output": []}),
    ],
)
def test_goodness__of_others(shape: str, answer: Any) -> None:
    """Cut, filtered, refused, empty, unfinished, broken: given once, not again."""
    assert not judge(Shape(shape), {}, answer).good


def test_goodness__of_vectors() -> None:
    """As many as were asked for."""
    two = {"data": [{"embedding": [0.1]}, {"embedding": "AAAA"}]}
    assert judge(Shape.EMBEDDINGS, {"input": ["a", "b"]}, two).good
    assert not judge(Shape.EMBEDDINGS, {"input": "a"}, two).good
    assert judge(Shape.EMBEDDINGS, {"input": [1, 2, 3]}, {"data": [{"embedding": [0.1]}]}).good
    assert not judge(Shape.EMBEDDINGS, {"input": ["a"]}, {"data": [{"embedding": []}]}).good


def _entry(number: int, size: int = 400) -> Entry:
    return Entry(bytes([number] * 20), "t", "chat", "chat", "main/large", 1.5, True, ("slow",), b"x" * size)


def test_entry__on_disk_is_what_it_was() -> None:
    assert decode(encode(_entry(1))) == _entry(1)


def test_entry__damaged_anywhere_is_seen() -> None:
    """One flipped bit, or a missing end, wherever it is."""
    content = encode(_entry(1, 50))
    for at in range(len(content)):
        flipped = bytearray(content)
        flipped[at] ^= 1
        with pytest.raises(Damaged):
            decode(bytes(flipped))
        with pytest.raises(Damaged):
            decode(content[:at])


def test_memory__the_least_recently_asked_for_give_way() -> None:
    """Never more bytes than allowed; what is asked for stays."""
    memory = Memory(5_000)
    for number in range(5):
        memory.put(_entry(number))
    assert memory.get(bytes([0] * 20))
    memory.put(_entry(5))
    assert [memory.get(bytes([number] * 20)) is not None for number in range(6)] == [True, False, *[True] * 4]
    memory.put(_entry(6, 4_000))  # more than its share
    assert memory.get(bytes([6] * 20)) is None
    assert memory.size == 5_000
    memory.limit = 1_500
    memory.shrink()
    assert len(memory) == 1


TEXT = "We are back soon."


@pytest.mark.parametrize("shape", PATHS)
def test_static__is_a_good_answer_in_each_shape(shape: str) -> None:
    call = call_of({"model": "chat", "messages": [], "tool_choice": "auto"}, PATHS[shape], route_of())
    answer = static_answer(call, TEXT, 1.0)
    assert judge(Shape(shape), {}, answer).good
    assert TEXT in str(answer)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/embeddings", {"input": "x"}),
        ("/v1/messages/count_tokens", {}),
        ("/v1/chat/completions", {"tool_choice": "required"}),
        ("/v1/chat/completions", {"tool_choice": {"type": "function", "function": {"name": "look"}}}),
        ("/v1/messages", {"tool_choice": {"type": "any"}}),
        ("/v1/chat/completions", {"response_format": {"type": "json_object"}}),
    ],
)
def test_static__not_where_a_text_is_no_answer(path: str, fields: dict[str, Any]) -> None:
    """A made-up vector, a text instead of a tool call or of JSON: better an error than that."""
    assert static_answer(call_of({"model": "chat", **fields}, path), TEXT, 1.0) is None


def test_static__json_where_json_is_asked_for() -> None:
    call = call_of({"model": "chat", "response_format": {"type": "json_object"}})
    assert static_answer(call, '{"state": "down"}', 1.0)
