"""A chat completion's request, said as a request for a message. What cannot be said there is refused by name."""

import hashlib
import re
from typing import Any

import orjson

from reanimate.gateway.llm.catalogue import Target
from reanimate.gateway.llm.wire.carrying import (
    CannotCarry,
    blocks_of,
    check_numbers,
    is_closed,
    no_others,
    parse_data_url,
    unset,
)

__all__ = ["to_anthropic"]

_USUAL_LIMIT = 4096
"""For a caller who sets none: Anthropic wants one, and this is what the smallest of its models allows."""

_SAYS_NOTHING_OF_THE_ANSWER = (
    "metadata", "store", "prediction", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "stream_options",
)  # fmt: skip
_KNOWN = frozenset(
    ("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "stream", "tools",
     "tool_choice", "parallel_tool_calls", "response_format", "user", "safety_identifier", "reasoning_effort", "n",
     "logprobs", "top_logprobs", "frequency_penalty", "presence_penalty", "logit_bias", "seed", "audio", "modalities",
     "service_tier", "verbosity", "web_search_options", "functions", "function_call", "moderation",
     *_SAYS_NOTHING_OF_THE_ANSWER)
)  # fmt: skip
_MOVED = "the places of instructions within the conversation"
_EFFORTS = ("low", "medium", "high", "xhigh")
_MESSAGE = {
    "system": frozenset(("role", "content", "name")),
    "user": frozenset(("role", "content", "name")),
    "assistant": frozenset(
        ("role", "content", "name", "refusal", "tool_calls", "function_call", "audio", "annotations")
    ),
    "tool": frozenset(("role", "content", "name", "tool_call_id")),
}
_ID = re.compile(r"[a-zA-Z0-9_-]+", re.ASCII)


def to_anthropic(fields: dict[str, Any], target: Target, left_out: list[str]) -> dict[str, Any]:
    """Return the body for `/v1/messages` that asks what a chat completion's `fields` ask.

    `left_out` gets the names of what has no place there, and what the answer can do without.

    Raises:
        CannotCarry: they ask for something that the other wire has no words for.
    """
    _refuse_what_has_no_place(fields)
    system, messages = _messages(fields["messages"], left_out)
    body: dict[str, Any] = {"model": target.model, "max_tokens": _limit(fields, target), "messages": messages}
    if system:
        body["system"] = system[0]["text"] if len(system) == 1 and len(system[0]) == 2 else system
    for name in ("temperature", "top_p"):
        value = fields.get(name)
        # 1 is what both wires take where nothing is said; newer models take no other, or not both of them.
        if value is not None and value != 1:
            if value > 1:
                raise CannotCarry(f"a {name} above 1")
            body[name] = value
    if stop := _stop(fields.get("stop")):
        body["stop_sequences"] = stop
    if fields.get("stream"):
        body["stream"] = True
    if tools := [_tool(item) for item in fields.get("tools") or ()]:
        body["tools"] = tools
    if choice := _tool_choice(fields, bool(tools)):
        body["tool_choice"] = choice
    if output := _output(fields):
        body["output_config"] = output
    if user := fields.get("safety_identifier") or fields.get("user"):
        body["metadata"] = {"user_id": user}
    return body


def _refuse_what_has_no_place(fields: dict[str, Any]) -> None:
    unset(fields, "n", 1, called="n above 1")
    unset(fields, "logprobs", False)
    unset(fields, "top_logprobs", 0)
    for name in ("frequency_penalty", "presence_penalty"):
        unset(fields, name, 0, 0.0)
    unset(fields, "logit_bias", {})
    unset(fields, "modalities", ["text"])
    unset(fields, "service_tier", "auto", "default")
    unset(fields, "verbosity", "medium")
    for name in ("seed", "audio", "web_search_options", "functions", "function_call", "moderation"):
        unset(fields, name)
    no_others(fields, _KNOWN)


def _limit(fields: dict[str, Any], target: Target) -> int:
    asked = fields.get("max_completion_tokens") or fields.get("max_tokens")
    return int(asked or target.can.max_output_tokens or _USUAL_LIMIT)


def _stop(stop: Any) -> list[str]:
    sequences = [stop] if isinstance(stop, str) else list(stop or ())
    if any(not sequence.strip() for sequence in sequences):
        raise CannotCarry("a stop sequence of white space")
    return sequences


def _output(fields: dict[str, Any]) -> dict[str, Any]:
    output: dict[str, Any] = {}
    if (effort := fields.get("reasoning_effort")) is not None:
        if effort not in _EFFORTS:
            raise CannotCarry(f"reasoning_effort {effort!r}")
        output["effort"] = effort
    asked = fields.get("response_format") or {"type": "text"}
    if asked.get("type") == "json_schema":
        given = asked["json_schema"]
        no_others(given, frozenset(("name", "description", "schema", "strict")), "response_format's ")
        schema = given.get("schema")
        if not isinstance(schema, dict) or not is_closed(schema):
            raise CannotCarry("a response_format whose schema allows further properties")
        if (told := given.get("description")) and "description" not in schema:
            schema = {**schema, "description": told}
        output["format"] = {"type": "json_schema", "schema": schema}
    elif asked.get("type") != "text":
        raise CannotCarry(f"response_format {asked.get('type')!r}")
    return output


def _tool(item: dict[str, Any]) -> dict[str, Any]:
    if item.get("type") != "function":
        raise CannotCarry(f"a tool of type {item.get('type')!r}")
    no_others(item, frozenset(("type", "function", "cache_control")), "a tool's ")
    function = item["function"]
    no_others(function, frozenset(("name", "description", "parameters", "strict")), "a tool's ")
    tool: dict[str, Any] = {"name": function["name"]}
    if (told := function.get("description")) is not None:
        tool["description"] = told
    # Arguments are an object on both wires; one of them wants it said.
    schema = function.get("parameters") or {"properties": {}}
    tool["input_schema"] = schema if "type" in schema else {"type": "object", **schema}
    if function.get("strict"):
        tool["strict"] = True
    return tool


def _tool_choice(fields: dict[str, Any], has_tools: bool) -> dict[str, Any] | None:
    asked = fields.get("tool_choice")
    one_at_a_time = fields.get("parallel_tool_calls") is False
    choice: dict[str, Any]
    if asked is None or asked == "auto":
        if not has_tools or (asked is None and not one_at_a_time):
            return None
        choice = {"type": "auto"}
    elif asked == "required":
        choice = {"type": "any"}
    elif asked == "none":
        return {"type": "none"} if has_tools else None
    elif isinstance(asked, dict) and asked.get("type") == "function":
        choice = {"type": "tool", "name": asked["function"]["name"]}
    else:
        raise CannotCarry(f"tool_choice {asked.get('type') if isinstance(asked, dict) else asked!r}")
    if one_at_a_time:
        choice["disable_parallel_tool_use"] = True
    return choice


def _messages(given: list[dict[str, Any]], left_out: list[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the system prompt's blocks and the messages. Instructions on the way move to the front, in their order:
    so does the vendor's own translation."""
    system: list[dict[str, Any]] = []
    messages: list[dict[str, Any]] = []
    after_tools = False
    for message in given:
        role = "system" if message.get("role") == "developer" else message.get("role")
        if role not in _MESSAGE:
            raise CannotCarry(f"a message of role {role!r}")
        no_others(message, _MESSAGE[role], f"a message of role {role} with ")
        if role != "tool" and message.get("name"):
            raise CannotCarry("the name of a message's author")
        if role == "system":
            if messages and _MOVED not in left_out:
                left_out.append(_MOVED)
            system += [_text(part) for part in blocks_of(message["content"])]
            continue
        if role == "tool":
            block = _tool_result(message)
            if after_tools:
                messages[-1]["content"].append(block)
            else:
                messages.append({"role": "user", "content": [block]})
        elif role == "assistant":
            messages.append({"role": "assistant", "content": _assistant(message)})
        else:
            content = message["content"]
            spoken = content if isinstance(content, str) else [_part(part) for part in blocks_of(content)]
            if after_tools:
                # What tools brought and what the user says after it is one turn there.
                messages[-1]["content"] += [_text({"text": spoken})] if isinstance(spoken, str) else spoken
            else:
                messages.append({"role": "user", "content": spoken})
        after_tools = role == "tool"
    return system, messages


def _assistant(message: dict[str, Any]) -> str | list[dict[str, Any]]:
    unset(message, "audio")
    unset(message, "function_call")
    calls = message.get("tool_calls") or ()
    content = message.get("content")
    if isinstance(content, str) and not calls and not message.get("refusal"):
        return content
    blocks = []
    for part in blocks_of(content or []):
        if part.get("type") == "refusal":
            part = {"text": part["refusal"]}
        elif part.get("type") != "text":
            raise CannotCarry(f"an assistant's content of type {part.get('type')!r}")
        if part["text"]:
            blocks.append(_text(part))
    if message.get("refusal"):
        blocks.append(_text({"text": message["refusal"]}))
    for call in calls:
        if call.get("type", "function") != "function":
            raise CannotCarry(f"a call of a tool of type {call.get('type')!r}")
        function = call["function"]
        blocks.append(
            {
                "type": "tool_use",
                "id": _id(call["id"]),
                "name": function["name"],
                "input": _input(function.get("arguments")),
            }
        )
    return blocks


def _input(arguments: Any) -> dict[str, Any]:
    try:
        given = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        raise CannotCarry("arguments of a tool call that are no JSON object")
    check_numbers(arguments or "", given)
    return given


def _tool_result(message: dict[str, Any]) -> dict[str, Any]:
    content = message["content"]
    return {
        "type": "tool_result",
        "tool_use_id": _id(message["tool_call_id"]),
        "content": content if isinstance(content, str) else [_text(part) for part in blocks_of(content)],
    }


def _part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind == "text":
        return _text(part)
    if kind != "image_url":
        raise CannotCarry({"input_audio": "audio", "file": "files"}.get(kind or "", f"content of type {kind!r}"))
    image = part["image_url"]
    url = image if isinstance(image, str) else image["url"]
    data = parse_data_url(url)
    source = {"type": "url", "url": url} if data is None else {"type": "base64", "media_type": data[0], "data": data[1]}
    return {"type": "image", "source": source, **_cache_control(part)}


def _text(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type", "text") != "text":
        raise CannotCarry(f"content of type {part.get('type')!r} here")
    return {"type": "text", "text": part["text"], **_cache_control(part)}


def _cache_control(part: dict[str, Any]) -> dict[str, Any]:
    """Many clients put Anthropic's mark for its cache into OpenAI's parts."""
    return {"cache_control": part["cache_control"]} if part.get("cache_control") else {}


def _id(call_id: str) -> str:
    """Return an id that Anthropic takes; the same for the call and its result."""
    if _ID.fullmatch(call_id):
        return call_id
    return f"call_{hashlib.blake2b(call_id.encode(), digest_size=12).hexdigest()}"
