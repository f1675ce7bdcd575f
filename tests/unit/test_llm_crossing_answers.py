"""Answers and streams carried to the other wire: the same text, calls, reasons and tokens, to the vendors' clients."""

import itertools
import re
from typing import Any

import anthropic
import httpx2
import openai
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_calls import call_of, catalogue_of, target_of
from llm_messages import USAGE, message, messages_stream, sse

from reanimate.gateway.llm.call import Usage
from reanimate.gateway.llm.endpoints import ENDPOINTS
from reanimate.gateway.llm.wire.answers import Answer, Garbage, read_answer
from reanimate.gateway.llm.wire.carrying import CannotCarry
from reanimate.gateway.llm.wire.crossing import translate_answer, translator_for
from reanimate.gateway.llm.wire.events import EventKind, Scanner
from reanimate.gateway.llm.wire.scanners import scanner_for

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
OTHER = {CHAT: MESSAGES, MESSAGES: CHAT}
WIRE = {CHAT: "openai", MESSAGES: "anthropic"}
HELLO: Any = [{"role": "user", "content": "Hello"}]


def translated(path: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return what a caller at `path` gets for an answer of the other wire."""
    answer = read_answer(ENDPOINTS[OTHER[path]], 200, [], orjson.dumps(fields))
    catalogue = catalogue_of(WIRE[OTHER[path]])
    body: dict[str, Any] = orjson.loads(
        translate_answer(call_of({"model": "m"}, path, catalogue), target_of(catalogue), answer)
    )
    return body


def completion(finish: str = "stop", choice: Any = (), **said: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-x",
        "choices": [{"index": 0, "message": {"role": "assistant", **said}, "finish_reason": finish, **dict(choice)}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17,
                  "prompt_tokens_details": {"cached_tokens": 3}},
    }  # fmt: skip


def call(name: str, arguments: str, call_id: str = "c1") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


TEXT = {"type": "text", "text": "Hi"}
USE = {"type": "tool_use", "id": "t1", "name": "look", "input": {"a": 1}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}


def test_to_a_completion__text_calls_and_tokens() -> None:
    """Thinking is no part of an answer there, but its tokens are counted."""
    usage = {**USAGE, "output_tokens_details": {"thinking_tokens": 4}}
    got = translated(CHAT, message("tool_use", THOUGHT, TEXT, USE, usage=usage))
    assert got["choices"] == [
        {
            "index": 0, "logprobs": None, "finish_reason": "tool_calls",
            "message": {
                "role": "assistant", "content": "Hi", "refusal": None, "tool_calls": [call("look", '{"a":1}', "t1")]
            },
        }
    ]  # fmt: skip
    assert got["usage"] == {
        "prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17,
        "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }  # fmt: skip
    assert (got["id"], got["object"], got["model"]) == ("msg_1", "chat.completion", "claude-x")


def test_to_a_message__text_calls_and_tokens() -> None:
    calls = [call("look", '{"a":1}'), call("run", "", "c2")]
    got = translated(MESSAGES, completion("tool_calls", content="Hi", tool_calls=calls))
    assert got == {
        "id": "chatcmpl-1", "type": "message", "role": "assistant", "model": "gpt-x",
        "content": [
            TEXT, {**USE, "id": "c1"}, {"type": "tool_use", "id": "c2", "name": "run", "input": {}},
        ],
        "stop_reason": "tool_use", "stop_sequence": None,
        "usage": {
            "input_tokens": 7, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 3, "output_tokens": 7
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"), ("refusal", "content_filter"),
        ("model_context_window_exceeded", "length"),
    ],
)  # fmt: skip
def test_to_a_completion__reasons(stop: str, finish: str) -> None:
    assert translated(CHAT, message(stop, TEXT))["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize(
    ("answer", "stop"),
    [
        (completion("stop", content="Hi"), "end_turn"),
        (completion("length", content="Hi"), "max_tokens"),
        (completion("content_filter", content=""), "refusal"),
        (completion("stop", content=None, refusal="I will not."), "refusal"),
        (completion("stop", content=None, tool_calls=[call("look", "{}")]), "tool_use"),
        (completion("stop", [("stop_reason", "END")], content="Hi"), "stop_sequence"),
    ],
)
def test_to_a_message__reasons(answer: dict[str, Any], stop: str) -> None:
    """A call that was demanded by name ends with `stop`; vLLM says which sequence it was."""
    got = translated(MESSAGES, answer)
    assert got["stop_reason"] == stop
    assert got["stop_sequence"] == ("END" if stop == "stop_sequence" else None)


def test_to_a_completion__why_it_was_refused() -> None:
    told = {"type": "refusal", "explanation": "I will not."}
    got = translated(CHAT, message("refusal", stop_details=told))["choices"][0]
    assert (got["finish_reason"], got["message"]["refusal"]) == ("content_filter", "I will not.")


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (CHAT, message("pause_turn", TEXT)),
        (CHAT, message("end_turn", {"type": "server_tool_use", "id": "s", "name": "n", "input": {}})),
        (MESSAGES, completion("tool_calls", content=None, tool_calls=[call("look", '{"a":')])),
        (MESSAGES, completion("tool_calls", content=None, tool_calls=[call("look", "[1]")])),
        (MESSAGES, completion("tool_calls", content=None, tool_calls=[call("look", '{"a":123456789012345678901}')])),
        (MESSAGES, completion("eos", content="Hi")),
        (MESSAGES, completion("stop", content=None, audio={"id": "a"})),
    ],
)
def test_what_cannot_be_said__is_no_answer(path: str, answer: dict[str, Any]) -> None:
    """Another provider is asked then."""
    with pytest.raises(Garbage):
        translated(path, answer)


# Streams


def chat_stream(pieces: list[str], calls: list[tuple[str, list[str]]], finish: str, *, usage: bool = True) -> bytes:
    def chunk(delta: dict[str, Any], ended: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": ended}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "gpt-x",
            "choices": [choice],
        }

    events: list[Any] = [chunk({"role": "assistant", "content": ""})]
    events += [chunk({"content": piece}) for piece in pieces]
    for number, (name, parts) in enumerate(calls):
        begun = {"index": number, "id": f"c{number}", "type": "function", "function": {"name": name, "arguments": ""}}
        events.append(chunk({"tool_calls": [begun]}))
        events += [chunk({"tool_calls": [{"index": number, "function": {"arguments": part}}]}) for part in parts]
    events.append(chunk({}, finish))
    if usage:
        events.append({**chunk({}), "choices": [], "usage": completion()["usage"]})
    return sse(*events, b"[DONE]")


def through(path: str, stream: bytes, *, wants_usage: bool = True, size: int = 0) -> bytes:
    """Return what a caller at `path` gets of a stream of the other wire that comes in pieces of `size`."""
    catalogue = catalogue_of(WIRE[OTHER[path]])
    fields: dict[str, Any] = {"model": "m", "stream": True}
    if wants_usage and path == CHAT:
        fields["stream_options"] = {"include_usage": True}
    translator = translator_for(call_of(fields, path, catalogue), target_of(catalogue))
    assert translator is not None
    scanner = scanner_for(ENDPOINTS[OTHER[path]].shape)
    size = size or len(stream)
    told = b""
    for at in range(0, len(stream), size):
        told += b"".join(translator.translate(event) for event in scanner.feed(stream[at : at + size]))
    return told + translator.end() + translator.end()


def read(path: str, stream: bytes) -> Scanner:
    scanner = scanner_for(ENDPOINTS[path].shape)
    kinds = [event.kind for event in scanner.feed(stream) + scanner.close()]
    assert EventKind.MALFORMED not in kinds
    return scanner


def openai_reads(stream: bytes) -> Any:
    """Return the completion that OpenAI's own helper makes of a stream."""
    http = httpx2.Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(200, content=stream)))
    client = openai.OpenAI(api_key="k", base_url="http://g/v1", http_client=http)
    options: Any = {"include_usage": True}
    with client.chat.completions.stream(model="m", messages=HELLO, stream_options=options) as events:
        return events.get_final_completion()


def anthropic_reads(stream: bytes) -> Any:
    http = httpx2.Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(200, content=stream)))
    client = anthropic.Anthropic(api_key="k", base_url="http://g", http_client=http)
    with client.messages.stream(model="m", max_tokens=9, messages=HELLO) as events:
        return events.get_final_message()


CALLS = [("look", ['{"a"', ":1}"]), ("run", ["{}"])]


def test_stream_to_a_completion__as_openais_client_reads_it() -> None:
    """Parallel calls, one of them without arguments; then the tokens."""
    stream = messages_stream(["Hi", " there"], [CALLS[0], ("run", [])], "tool_use")
    got = openai_reads(through(CHAT, stream))
    choice = got.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("Hi there", "tool_calls")
    assert [(c.id, c.function.name, c.function.arguments) for c in choice.message.tool_calls] == [
        ("t1", "look", '{"a":1}'), ("t2", "run", "{}"),
    ]  # fmt: skip
    assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (10, 7)
    assert got.usage.prompt_tokens_details.cached_tokens == 3
    assert got.model == "claude-x"


def test_stream_to_a_message__as_anthropics_client_reads_it() -> None:
    got = anthropic_reads(through(MESSAGES, chat_stream(["Hi", " there"], CALLS, "tool_calls")))
    assert [block.type for block in got.content] == ["text", "tool_use", "tool_use"]
    assert got.content[0].text == "Hi there"
    assert [(block.id, block.name, block.input) for block in got.content[1:]] == [
        ("c0", "look", {"a": 1}), ("c1", "run", {}),
    ]  # fmt: skip
    assert (got.stop_reason, got.model) == ("tool_use", "gpt-x")
    assert (got.usage.input_tokens, got.usage.cache_read_input_tokens, got.usage.output_tokens) == (7, 3, 7)


def test_stream_to_a_completion__tokens_only_for_who_asked() -> None:
    told = through(CHAT, messages_stream(["Hi"], [], "end_turn"), wants_usage=False)
    assert b"usage" not in told
    assert told.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("usage", [True, False])
def test_stream_to_a_message__ends_once_whether_tokens_are_told_or_not(usage: bool) -> None:
    told = through(MESSAGES, chat_stream(["Hi"], [], "stop", usage=usage))
    assert told.count(b"event: message_delta") == told.count(b"event: message_stop") == 1
    assert anthropic_reads(told).usage.output_tokens == (7 if usage else 0)


def test_stream_to_a_message__a_reason_and_tokens_with_each_piece_end_nothing() -> None:
    """So do some servers: all of the text is one block, and the end comes with theirs."""
    stream = b"".join(
        sse(
            {
                "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x",
                "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": "stop"}],
                "usage": completion()["usage"],
            }
        )
        for piece in ("Hi", " there", "!")
    )  # fmt: skip
    told = through(MESSAGES, stream + sse(b"[DONE]"))
    got = anthropic_reads(told)
    assert [block.text for block in got.content] == ["Hi there!"]
    assert told.count(b"event: message_stop") == 1
    assert told.rindex(b"text_delta") < told.index(b"event: message_delta")


@pytest.mark.parametrize("word", ["", "null"])
def test_stream_to_a_message__an_empty_reason_is_none(word: str) -> None:
    stream = chat_stream(["Hi", " there"], [], "stop").replace(
        b'"finish_reason": null', b'"finish_reason": "%b"' % word.encode()
    )
    stream = stream.replace(b'"finish_reason":null', b'"finish_reason":"%b"' % word.encode())
    assert word.encode() + b'"}]' in stream
    got = anthropic_reads(through(MESSAGES, stream))
    assert (got.stop_reason, [block.text for block in got.content]) == ("end_turn", ["Hi there"])


@pytest.mark.parametrize(
    ("path", "stream", "what"),
    [
        (CHAT, messages_stream(["Hi"], [], "pause_turn"), "stop_reason 'pause_turn'"),
        (MESSAGES, chat_stream(["Hi"], [], "eos"), "finish_reason 'eos'"),
        (MESSAGES, chat_stream([], [("look", ['{"a', ": 1"])], "tool_calls"), "that are no JSON object"),
        (
            MESSAGES,
            chat_stream(["Hi"], [], "stop")
            .replace(b'"content":"Hi"', b'"function_call":{}')
            .replace(b"{}", b'{"name":"look"}'),
            "function_call",
        ),
        (
            CHAT,
            messages_stream(["Hi"], CALLS, "tool_use").replace(b'"type":"tool_use"', b'"type":"server_tool_use"'),
            "content of type 'server_tool_use'",
        ),
    ],
)
def test_stream__what_has_no_word_on_the_other_wire_is_refused_by_name(path: str, stream: bytes, what: str) -> None:
    """As it is in an answer that comes whole: a caller must not take for an end what is none."""
    with pytest.raises(CannotCarry, match=re.escape(what)):
        through(path, stream)


def test_stream_to_a_message__arguments_that_the_limit_cut_stay_cut() -> None:
    """The reason says so, on both wires."""
    told = through(MESSAGES, chat_stream([], [("look", ['{"a', '": 1'])], "length"))
    assert b'"stop_reason":"max_tokens"' in told
    assert b"message_stop" in told


def test_calls_without_an_id_get_one() -> None:
    """Some servers give none; their results are known by it."""
    call = {"type": "function", "function": {"name": "look", "arguments": "{}"}}
    said = {"role": "assistant", "content": None, "tool_calls": [call, call]}
    whole = completion()
    whole["choices"] = [{"index": 0, "message": said, "finish_reason": "tool_calls"}]
    ids = [block["id"] for block in translated(MESSAGES, whole)["content"]]
    stream = chat_stream([], CALLS, "tool_calls").replace(b'"id":"c0"', b'"id":null').replace(b'"id":"c1"', b'"id":""')
    ids += [block.id for block in anthropic_reads(through(MESSAGES, stream)).content]
    assert len(set(ids)) == 4
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", one) for one in ids)


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize("calls", [[], CALLS])
def test_stream__a_cut_one_gets_no_end(path: str, calls: Any) -> None:
    """Wherever it is cut: only the provider says how an answer ends."""
    whole = messages_stream(["Hi"], calls, "end_turn") if path == CHAT else chat_stream(["Hi"], calls, "stop")
    events = whole.split(b"\n\n")[:-1]
    ending = next(n for n, event in enumerate(events) if b'"end_turn"' in event or b'"stop"' in event)
    for count in range(ending):
        scanner = read(path, through(path, b"\n\n".join(events[:count]) + b"\n\n"))
        assert scanner.facts.finish is None
        assert not scanner.facts.complete


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_stream__one_that_only_lacks_its_end_mark_gets_it(path: str) -> None:
    whole = messages_stream(["Hi"], [], "end_turn") if path == CHAT else chat_stream(["Hi"], [], "stop")
    told = through(path, whole[: whole.rindex(b"event:" if path == CHAT else b"data:")])
    assert read(path, told).facts.complete


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_stream__an_error_stays_one(path: str) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    told = through(path, sse(error if path == CHAT else {"error": {"message": "Overloaded"}}))
    with pytest.raises((openai.APIError, anthropic.APIStatusError), match="Overloaded"):
        (openai_reads if path == CHAT else anthropic_reads)(told)


def test_stream_to_a_message__whole_calls_under_one_number() -> None:
    """As some servers send them."""
    calls = [{"index": 0, **call("look", '{"a":1}', "x")}, {"index": 0, **call("run", "{}", "y")}]
    chunks = [{"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [item]}}]} for item in calls]
    end = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    got = anthropic_reads(through(MESSAGES, sse(*chunks, end, b"[DONE]")))
    assert [(block.id, block.name, block.input) for block in got.content] == [("x", "look", {"a": 1}), ("y", "run", {})]
    assert got.stop_reason == "tool_use"


def chunks_of_calls(*pieces: tuple[int, str, str]) -> bytes:
    """Return a completion's stream of calls: the number of each piece, the name at its beginning, and the arguments."""

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    events = []
    for number, name, part in pieces:
        begun = {"id": f"c{number}", "type": "function"} if name else {}
        function = {"name": name, "arguments": part} if name else {"arguments": part}
        events.append(chunk({"tool_calls": [{"index": number, **begun, "function": function}]}))
    return sse(*events, chunk({}, "tool_calls"), b"[DONE]")


MIXED = ((0, "look", ""), (1, "run", ""), (0, "", '{"a":'), (1, "", '{"b":'), (1, "", "2}"), (0, "", "1}"))


def test_stream_to_a_message__calls_whose_pieces_come_mixed() -> None:
    """Each is whole when its block ends: that is when callers run it."""
    told = through(MESSAGES, chunks_of_calls(*MIXED, (2, "see", "{}")))
    assert [block.input for block in anthropic_reads(told).content] == [{"a": 1}, {"b": 2}, {}]
    blocks = [orjson.loads(line[6:]) for line in told.splitlines() if line.startswith(b"data: ")]
    order = [(block["type"], block["index"]) for block in blocks if "index" in block]
    assert [at for at, _ in itertools.groupby(index for _, index in order)] == [0, 1, 2]
    assert [kind for kind, _ in order if kind != "content_block_delta"] == [
        "content_block_start", "content_block_stop",
    ] * 3  # fmt: skip


def test_stream_to_a_message__text_within_a_call_waits_for_its_end() -> None:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    def piece(part: str) -> dict[str, Any]:
        return chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})

    begun = chunk({"tool_calls": [{"index": 0, **call("look", '{"a"', "c0")}]})
    text = [chunk({"content": "so"}), chunk({"content": "on"})]
    got = anthropic_reads(through(MESSAGES, sse(begun, text[0], piece(":"), text[1], piece("1}"), chunk({}, "stop"))))
    assert [block.type for block in got.content] == ["tool_use", "text"]
    assert (got.content[0].input, got.content[1].text) == ({"a": 1}, "soon")


def test_stream_to_a_message__a_call_that_goes_on_when_it_was_whole_is_refused() -> None:
    with pytest.raises(ValueError, match="were whole"):
        through(MESSAGES, chunks_of_calls((0, "look", "{}"), (1, "run", "{}"), (0, "", '{"a":1}')))


def test_stream_to_a_message__a_refusal() -> None:
    def chunk(delta: Any, finish: str | None = None) -> Any:
        return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    refusing = sse(chunk({"refusal": "I will"}), chunk({"refusal": " not."}))
    assert read(MESSAGES, through(MESSAGES, refusing)).facts.finish is None
    got = anthropic_reads(through(MESSAGES, refusing + sse(chunk({}, "stop"), b"[DONE]")))
    assert (got.content[0].text, got.stop_reason) == ("I will not.", "refusal")


pieces = st.lists(st.text(min_size=1, max_size=6), max_size=6)
arguments = st.dictionaries(st.text(max_size=3), st.integers(-(2**53), 2**53) | st.text(max_size=3), max_size=2).map(
    lambda given: orjson.dumps(given).decode()
)


@given(
    pieces,
    st.lists(st.tuples(st.sampled_from(["look", "run"]), arguments, st.integers(1, 5)), max_size=3),
    st.booleans(),
    st.sampled_from([0, 1, 7, 50]),
)
def test_stream__says_the_same_however_it_comes(
    text: list[str], calls: list[tuple[str, str, int]], cut: bool, size: int
) -> None:
    """To the other wire and back: text, calls, reason and tokens, each exactly."""
    cut_calls = [(name, [given[:at], given[at:]]) for name, given, at in calls]
    stop = "max_tokens" if cut else "tool_use" if calls else "end_turn"
    there = through(CHAT, messages_stream(text, cut_calls, stop), size=size)
    for path, stream in ((CHAT, there), (MESSAGES, through(MESSAGES, there, size=size))):
        facts = read(path, stream).facts
        assert facts.text == "".join(text)
        assert [(item.name, orjson.loads(item.arguments or "{}")) for item in facts.tools] == [
            (name, orjson.loads(given)) for name, given, _ in calls
        ]
        assert facts.complete
        assert facts.finish == (
            stop if path == MESSAGES else {"max_tokens": "length", "tool_use": "tool_calls", "end_turn": "stop"}[stop]
        )
        assert facts.usage == Usage(10, 7, 3)


@given(pieces, st.lists(st.tuples(st.sampled_from(["look", "run"]), arguments), max_size=3), st.booleans())
def test_answer__there_and_back_is_the_same(text: list[str], calls: list[tuple[str, str]], cut: bool) -> None:
    content: list[Any] = [{"type": "text", "text": "".join(text)}] if text else []
    content += [
        {"type": "tool_use", "id": f"t{n}", "name": name, "input": orjson.loads(given)}
        for n, (name, given) in enumerate(calls)
    ]
    given = message("max_tokens" if cut else "tool_use" if calls else "end_turn", *content)
    answer: Answer = read_answer(ENDPOINTS[MESSAGES], 200, [], orjson.dumps(given))
    assert translated(MESSAGES, translated(CHAT, answer.fields)) == given
