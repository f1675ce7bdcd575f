"""A request for a message, said as a chat completion's. What cannot be said there is refused by name."""

from typing import Any
from urllib.parse import urlsplit

import orjson

from reanimate.gateway.llm.catalogue import Target
from reanimate.gateway.llm.wire.carrying import CannotCarry, blocks_of, data_url, is_strict, no_others, unset

__all__ = ["limit_name", "to_openai"]

_SAYS_NOTHING_OF_THE_ANSWER = ("cache_control", "diagnostics")
_KNOWN = frozenset(
    ("model", "max_tokens", "messages", "system", "temperature", "top_p", "top_k", "stop_sequences", "stream", "tools",
     "tool_choice", "metadata", "thinking", "output_config", "service_tier", "speed", *_SAYS_NOTHING_OF_THE_ANSWER)
)  # fmt: skip
_STOPS = 4
_NAME_LIMIT = 64
_EFFORTS = ("low", "medium", "high", "xhigh")
_TOOL = frozenset(
    ("type", "name", "description", "input_schema", "strict", "cache_control", "eager_input_streaming",
     "allowed_callers", "defer_loading")
)  # fmt: skip
_VENDORS = (".openai.com", ".openai.azure.com", ".azure.com")


def to_openai(fields: dict[str, Any], target: Target, usage_in_stream: bool, left_out: list[str]) -> dict[str, Any]:
    """Return the body for `/chat/completions` that asks what a message's `fields` ask.

    `left_out` gets the names of what has no place there, and what the answer can do without.

    Raises:
        CannotCarry: they ask for something that the other wire has no words for.
    """
    _refuse_what_has_no_place(fields)
    body: dict[str, Any] = {"model": target.model, "messages": _messages(fields, left_out)}
    if (limit := fields.get("max_tokens")) is not None:
        body[limit_name(target)] = limit
    for name in ("temperature", "top_p"):
        if (value := fields.get(name)) is not None:
            body[name] = value
    if stop := fields.get("stop_sequences"):
        if len(stop) > _STOPS:
            raise CannotCarry(f"more than {_STOPS} stop sequences")
        body["stop"] = stop
    if fields.get("stream"):
        body["stream"] = True
        if usage_in_stream:
            body["stream_options"] = {"include_usage": True}
    if tools := [_tool(item) for item in fields.get("tools") or ()]:
        body["tools"] = tools
    _choose_tools(fields.get("tool_choice"), body)
    _shape_output(fields.get("output_config") or {}, body)
    metadata = fields.get("metadata") or {}
    no_others(metadata, frozenset(("user_id",)), "metadata's ")
    if user := metadata.get("user_id"):
        body["user"] = user
    return body


def _refuse_what_has_no_place(fields: dict[str, Any]) -> None:
    thinking = fields.get("thinking")
    if thinking is not None and thinking.get("type") != "disabled":
        raise CannotCarry("thinking")
    unset(fields, "top_k")
    unset(fields, "service_tier", "auto")
    unset(fields, "speed", "standard")
    no_others(fields, _KNOWN)


def limit_name(target: Target) -> str:
    """Return what a limit is called: the vendor's own newer models refuse `max_tokens`, others know nothing else."""
    host = f".{urlsplit(target.provider.url).hostname}"
    return "max_completion_tokens" if host.endswith(_VENDORS) else "max_tokens"


def _tool(item: dict[str, Any]) -> dict[str, Any]:
    if (kind := item.get("type") or "custom") != "custom":
        raise CannotCarry(f"the tool {kind}, which Anthropic's servers or models bring along")
    no_others(item, _TOOL, "a tool's ")
    unset(item, "allowed_callers", ["direct"], called="a tool's allowed_callers")
    unset(item, "defer_loading", False, called="a tool's defer_loading")
    if len(item["name"]) > _NAME_LIMIT:
        raise CannotCarry(f"a tool's name of more than {_NAME_LIMIT} characters")
    function: dict[str, Any] = {"name": item["name"]}
    if (told := item.get("description")) is not None:
        function["description"] = told
    function["parameters"] = item["input_schema"]
    if item.get("strict"):
        if not is_strict(item["input_schema"]):
            raise CannotCarry("a strict tool with properties that are not required")
        function["strict"] = True
    return {"type": "function", "function": function}


def _choose_tools(choice: dict[str, Any] | None, body: dict[str, Any]) -> None:
    if choice is None:
        return
    kind = choice.get("type")
    if kind == "tool":
        body["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    elif kind in ("auto", "any", "none"):
        body["tool_choice"] = "required" if kind == "any" else kind
    else:
        raise CannotCarry(f"tool_choice {kind!r}")
    if choice.get("disable_parallel_tool_use"):
        body["parallel_tool_calls"] = False


def _shape_output(output: dict[str, Any], body: dict[str, Any]) -> None:
    no_others(output, frozenset(("effort", "format")), "output_config's ")
    if (effort := output.get("effort")) is not None:
        if effort not in _EFFORTS:
            raise CannotCarry(f"effort {effort!r}")
        body["reasoning_effort"] = effort
    if (asked := output.get("format")) is not None:
        if asked.get("type") != "json_schema":
            raise CannotCarry(f"an output format of type {asked.get('type')!r}")
        if not is_strict(asked["schema"]):
            raise CannotCarry("an output format with properties that are not required")
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": asked["schema"], "strict": True},
        }


def _messages(fields: dict[str, Any], left_out: list[str]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if system := fields.get("system"):
        messages.append({"role": "system", "content": _spoken(system, "system")})
    for message in fields["messages"]:
        role, content = message.get("role"), message.get("content")
        no_others(message, frozenset(("role", "content")), "a message's ")
        if role == "system":
            messages.append({"role": "system", "content": _spoken(content, "system")})
        elif role == "assistant":
            messages.append(_assistant(content, left_out))
        elif role == "user":
            messages += _user(content)
        else:
            raise CannotCarry(f"a message of role {role!r}")
    return messages


def _user(content: Any) -> list[dict[str, Any]]:
    """Return what tools brought as messages of their own, and after them what the user says."""
    if isinstance(content, str):
        return [{"role": "user", "content": content}]
    messages = []
    parts: list[dict[str, Any]] = []
    for block in blocks_of(content):
        if block.get("type") == "tool_result":
            if parts:
                raise CannotCarry("what a tool brought after other content")
            messages.append(_tool_result(block))
        else:
            parts.append(_part(block))
    if parts or not messages:
        messages.append({"role": "user", "content": parts})
    return messages


def _tool_result(block: dict[str, Any]) -> dict[str, Any]:
    content = _spoken(block.get("content") or "", "a tool's result")
    if block.get("is_error"):
        # There is no field for it: it is said in words.
        content = f"Error: {content}" if isinstance(content, str) else [{"type": "text", "text": "Error:"}, *content]
    return {"role": "tool", "tool_call_id": block["tool_use_id"], "content": content}


def _assistant(content: Any, left_out: list[str]) -> dict[str, Any]:
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    texts = []
    calls = []
    for block in blocks_of(content):
        kind = block.get("type")
        if kind == "text":
            texts.append(_text(block)["text"])
        elif kind == "tool_use":
            arguments = orjson.dumps(block["input"]).decode()
            function = {"name": block["name"], "arguments": arguments}
            calls.append({"id": block["id"], "type": "function", "function": function})
        elif kind in ("thinking", "redacted_thinking"):
            # Of an earlier turn, and sealed for the model that thought it.
            if "thinking of earlier turns" not in left_out:
                left_out.append("thinking of earlier turns")
        else:
            raise CannotCarry(_called(kind))
    # The blocks of one answer are one text, which was only cut for what belongs to its parts.
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    if calls:
        message["tool_calls"] = calls
    return message


def _spoken(content: Any, where: str) -> str | list[dict[str, Any]]:
    """Return text as it is, or its parts."""
    if isinstance(content, str):
        return content
    parts = []
    for block in blocks_of(content):
        if block.get("type") != "text":
            raise CannotCarry(f"{_called(block.get('type'))} in {where}")
        parts.append(_text(block))
    return parts[0]["text"] if len(parts) == 1 else parts


def _part(block: dict[str, Any]) -> dict[str, Any]:
    kind = block.get("type")
    if kind == "text":
        return _text(block)
    if kind != "image":
        raise CannotCarry(_called(kind))
    source = block["source"]
    if source.get("type") == "base64":
        url = data_url(source["media_type"], source["data"])
    elif source.get("type") == "url":
        url = source["url"]
    else:
        raise CannotCarry(f"images from a {source.get('type')}")
    unset(block, "transformations", called="transformations of images")
    return {"type": "image_url", "image_url": {"url": url}}


def _text(block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "text", "text": block["text"]}


def _called(kind: Any) -> str:
    return {
        "thinking": "thinking blocks", "redacted_thinking": "thinking blocks", "document": "documents",
        "image": "images", "search_result": "search results",
    }.get(kind, f"content of type {kind!r}")  # fmt: skip
