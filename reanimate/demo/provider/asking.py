"""What a request asks for, whichever API it came by."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson

from reanimate.demo.provider.behaviour import Behaviour

__all__ = ["Ask", "Tool", "Wire", "read_ask"]

Wire = Literal["chat", "responses", "messages"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that may be called."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Said:
    """One message: who, what text, and what tools brought."""

    role: str
    text: str
    results: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question."""

    wire: Wire
    model: str
    stream: bool
    prompt: str
    """The last message of the user's, and what tools have brought since."""
    prefix: str = ""
    """The beginning of the answer that is to be gone on with."""
    prefilled: bool = False
    """The prefix is a prefill: the last message is the assistant's."""
    is_continuation: bool = False
    """The last message of the user's asks to go on with the prefix."""
    last_words: str = ""
    """What is to be repeated before."""
    after_tools: bool = False
    """Tools have brought something since the last message of the user's."""
    tools: tuple[Tool, ...] = ()
    must_call: str = ""
    """The name of the tool that must be called, or `*` for any."""
    one_call: bool = False
    schema: Mapping[str, Any] | None = None
    """The schema of a structured answer; `{}` for any JSON."""
    limit: int | None = None
    stops: tuple[str, ...] = ()
    choices: int = 1
    include_usage: bool = False
    prompt_tokens: int = 0


def read_ask(wire: Wire, body: Mapping[str, Any], behaviour: Behaviour) -> Ask:
    """Return what a request asks for.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the request is not what the API takes.
    """
    return {"chat": _chat, "responses": _responses, "messages": _messages}[wire](body, behaviour)


def _chat(body: Mapping[str, Any], behaviour: Behaviour) -> Ask:
    said = [
        _Said(item["role"], "" if item["role"] == "tool" else _text(item.get("content")),
              _text(item.get("content")) if item["role"] == "tool" else "")
        for item in body["messages"]
    ]  # fmt: skip
    tools = tuple(Tool(item["function"]["name"], item["function"].get("parameters") or {})
                  for item in body.get("tools") or () if item.get("type") == "function")  # fmt: skip
    choice = body.get("tool_choice")
    must = "*" if choice == "required" else choice["function"]["name"] if isinstance(choice, dict) else ""
    shape = body.get("response_format") or {}
    stops = body.get("stop") or ()
    ask = Ask(
        "chat", str(body["model"]), bool(body.get("stream")), "",
        tools=() if choice == "none" else tools, must_call=must,
        one_call=body.get("parallel_tool_calls") is False,
        schema=_schema(shape.get("type"), (shape.get("json_schema") or {}).get("schema")),
        limit=body.get("max_completion_tokens") or body.get("max_tokens"),
        stops=(stops,) if isinstance(stops, str) else tuple(stops),
        choices=int(body.get("n") or 1),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
    )  # fmt: skip
    return _with_talk(ask, said, behaviour)


def _responses(body: Mapping[str, Any], behaviour: Behaviour) -> Ask:
    given = body["input"]
    said = [_Said("system", _text(body["instructions"]))] if body.get("instructions") else []
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        if item.get("type") == "function_call_output":
            said.append(_Said("tool", "", _text(item.get("output"))))
        elif "role" in item:
            said.append(_Said(item["role"], _text(item.get("content"))))
    tools = tuple(Tool(item["name"], item.get("parameters") or {})
                  for item in body.get("tools") or () if item.get("type") == "function")  # fmt: skip
    choice = body.get("tool_choice")
    must = "*" if choice == "required" else choice.get("name", "") if isinstance(choice, dict) else ""
    shape = (body.get("text") or {}).get("format") or {}
    ask = Ask(
        "responses", str(body["model"]), bool(body.get("stream")), "",
        tools=() if choice == "none" else tools, must_call=must,
        one_call=body.get("parallel_tool_calls") is False,
        schema=_schema(shape.get("type"), shape.get("schema")),
        limit=body.get("max_output_tokens"), include_usage=True,
    )  # fmt: skip
    return _with_talk(ask, said, behaviour)


def _messages(body: Mapping[str, Any], behaviour: Behaviour) -> Ask:
    said = [_Said("system", _text(body["system"]))] if body.get("system") else []
    for item in body["messages"]:
        content = item["content"]
        results = ""
        if isinstance(content, list):
            results = "\n".join(_text(part.get("content")) for part in content if part["type"] == "tool_result")
        said.append(_Said(item["role"], _text(content), results))
    choice = body.get("tool_choice") or {}
    must = {"any": "*", "tool": choice.get("name", "")}.get(choice.get("type", ""), "")
    tools = tuple(Tool(item["name"], item.get("input_schema") or {}) for item in body.get("tools") or ())
    shape = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    ask = Ask(
        "messages", str(body["model"]), bool(body.get("stream")), "",
        tools=() if choice.get("type") == "none" else tools, must_call=must,
        one_call=bool(choice.get("disable_parallel_tool_use")),
        schema=_schema(shape.get("type"), shape.get("schema")),
        limit=body.get("max_tokens"), stops=tuple(body.get("stop_sequences") or ()), include_usage=True,
    )  # fmt: skip
    return _with_talk(ask, said, behaviour)


def _schema(kind: str | None, schema: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return None if kind in (None, "text") else schema or {}


def _text(content: Any) -> str:
    """Return the text of a message's content: a string, or parts of which some are text."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.get("text", "") for part in content if part.get("type") in _TEXTS)


_TEXTS = ("text", "input_text", "output_text")


def _with_talk(ask: Ask, said: list[_Said], behaviour: Behaviour) -> Ask:
    """Fill in what follows from the conversation."""
    words = sum(len(item.text) + len(item.results) for item in said)
    prefilled, prefix = bool(said) and said[-1].role == "assistant" and bool(said[-1].text), ""
    if prefilled:
        prefix = said.pop().text
    elif said and said[-1].role == "user" and (found := re.search(behaviour.continuation, said[-1].text)):
        before = [item for item in said[:-1] if item.role == "assistant" and item.text]
        group = found.groupdict().get("text")
        if group is not None or before:
            prefix = group if group is not None else before[-1].text
            ask = _as_continuation(ask, said[-1].text)
            said = _before(said, before[-1]) if before else said[:-1]
    last = next((at for at in range(len(said) - 1, -1, -1) if said[at].role == "user" and said[at].text), None)
    after = said[last + 1 :] if last is not None else said
    results = _joined(item.results for item in after)
    question = said[last].text if last is not None else ""
    return replace(
        ask,
        prompt=question + (f"\n{results}" if results else ""),
        prefix=prefix,
        prefilled=prefilled,
        after_tools=bool(results),
        prompt_tokens=max(1, words // 4),
    )


def _as_continuation(ask: Ask, wish: str) -> Ask:
    words = re.search(r"(?s)<last_words>(.*)</last_words>", wish)
    schema = re.search(r"(?s)<json_schema>(.*?)</json_schema>", wish)
    return replace(
        ask,
        is_continuation=True,
        last_words=words[1] if words else "",
        schema=orjson.loads(schema[1]) if schema else ask.schema,
    )


def _before(said: list[_Said], item: _Said) -> list[_Said]:
    return said[: next(at for at, other in enumerate(said) if other is item)]


def _joined(texts: Iterable[str]) -> str:
    return "\n".join(text for text in texts if text)
