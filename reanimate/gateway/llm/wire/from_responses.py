"""A request for a response, said as a chat completion's, from where it can go on. What cannot be said is refused."""

from typing import Any

from reanimate.gateway.llm.wire.carrying import CannotCarry, blocks_of, no_others, unset

__all__ = ["BOUND_BY", "chat_from_responses"]

BOUND_BY = ("previous_response_id", "conversation", "prompt")
"""What a provider keeps for its callers: no other one has it."""

_SAYS_NOTHING_OF_THE_ANSWER = (
    "metadata", "store", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "stream_options",
)  # fmt: skip
_SAME = (
    "temperature", "top_p", "parallel_tool_calls", "user", "safety_identifier", "service_tier", "top_logprobs",
    "stream", "moderation",
)  # fmt: skip
_KNOWN = frozenset(
    ("model", "input", "instructions", "max_output_tokens", "tools", "tool_choice", "text", "reasoning", "include",
     "truncation", "background", *BOUND_BY, *_SAME, *_SAYS_NOTHING_OF_THE_ANSWER)
)  # fmt: skip
_ITEM = {
    "message": frozenset(("type", "id", "status", "role", "content", "phase")),
    "function_call": frozenset(("type", "id", "status", "call_id", "name", "arguments")),
    "function_call_output": frozenset(("type", "id", "status", "call_id", "output")),
}


def chat_from_responses(fields: dict[str, Any], left_out: list[str]) -> dict[str, Any]:
    """Return the fields of a chat completion that asks the same; `left_out` gets what the answer can do without.

    Raises:
        CannotCarry: they ask for something that a chat completion cannot.
    """
    for name in BOUND_BY:
        unset(fields, name, called=f"{name}, which only its provider has,")
    unset(fields, "background", False)
    unset(fields, "truncation", "disabled")
    unset(fields, "include", [], ["reasoning.encrypted_content"])
    no_others(fields, _KNOWN)
    chat: dict[str, Any] = {"model": fields["model"], "messages": _messages(fields, left_out)}
    chat |= {name: fields[name] for name in _SAME if fields.get(name) is not None}
    if (limit := fields.get("max_output_tokens")) is not None:
        chat["max_completion_tokens"] = limit
    if tools := fields.get("tools"):
        chat["tools"] = [_tool(item) for item in tools]
    if (choice := fields.get("tool_choice")) is not None:
        chat["tool_choice"] = _tool_choice(choice)
    text = fields.get("text") or {}
    no_others(text, frozenset(("format", "verbosity")), "text's ")
    if text.get("verbosity") is not None:
        chat["verbosity"] = text["verbosity"]
    if (asked := text.get("format")) is not None:
        kind = asked.get("type")
        schema = {name: value for name, value in asked.items() if name != "type"}
        chat["response_format"] = {"type": kind, "json_schema": schema} if kind == "json_schema" else {"type": kind}
    reasoning = fields.get("reasoning") or {}
    no_others(reasoning, frozenset(("effort",)), "reasoning's ")
    if reasoning.get("effort") is not None:
        chat["reasoning_effort"] = reasoning["effort"]
    return chat


def _tool(item: dict[str, Any]) -> dict[str, Any]:
    if item.get("type") != "function":
        raise CannotCarry(f"the tool {item.get('type')}, which OpenAI's servers or models bring along,")
    return {"type": "function", "function": {name: value for name, value in item.items() if name != "type"}}


def _tool_choice(choice: Any) -> Any:
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice["name"]}}
    return choice


def _messages(fields: dict[str, Any], left_out: list[str]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if told := fields.get("instructions"):
        messages.append({"role": "system", "content": told})
    given = fields["input"]
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given:
        kind = item.get("type") or "message"
        if kind == "reasoning":
            # Of an earlier turn, and readable for the model only that thought it.
            if "reasoning of earlier turns" not in left_out:
                left_out.append("reasoning of earlier turns")
            continue
        if kind not in _ITEM:
            raise CannotCarry(f"an item of type {kind!r}")
        no_others(item, _ITEM[kind], f"a {kind}'s ")
        if kind == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": _parts(item["output"])})
        elif kind == "function_call":
            _add_call(messages, item)
        else:
            messages.append({"role": item["role"], "content": _parts(item["content"])})
    return messages


def _add_call(messages: list[dict[str, Any]], item: dict[str, Any]) -> None:
    """Put a call where it belongs there: into the assistant's message before it."""
    call = {
        "id": item["call_id"],
        "type": "function",
        "function": {"name": item["name"], "arguments": item["arguments"]},
    }
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    messages[-1].setdefault("tool_calls", []).append(call)


def _parts(content: Any) -> Any:
    if isinstance(content, str):
        return content
    return [_part(part) for part in blocks_of(content)]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind in ("input_text", "output_text"):
        return {"type": "text", "text": part["text"]}
    if kind == "refusal":
        return {"type": "refusal", "refusal": part["refusal"]}
    if kind == "input_image":
        unset(part, "file_id", called="images from a file")
        detail = {"detail": part["detail"]} if part.get("detail") is not None else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    raise CannotCarry({"input_file": "files", "input_audio": "audio"}.get(kind or "", f"content of type {kind!r}"))
