"""An answer that came whole, said on the other wire."""

from typing import Any

import orjson

from reanimate.gateway.llm.wire.carrying import CannotCarry, call_id_of, check_numbers

__all__ = [
    "chat_usage", "completion_from_message", "finish_from_stop", "message_from_completion", "messages_usage",
    "stop_from_finish",
]  # fmt: skip

STOP_TO_FINISH = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "model_context_window_exceeded": "length",
    "tool_use": "tool_calls", "refusal": "content_filter",
}  # fmt: skip
FINISH_TO_STOP = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
"""OpenAI does not tell a stop sequence from an end; both are `stop`."""


def finish_from_stop(reason: str) -> str:
    """Return why an answer ended in OpenAI's word, given Anthropic's.

    Raises:
        CannotCarry: there is none; what it means for the answer is not known.
    """
    if reason not in STOP_TO_FINISH:
        raise CannotCarry(f"stop_reason {reason!r}")
    return STOP_TO_FINISH[reason]


def stop_from_finish(reason: str) -> str:
    """Return why an answer ended in Anthropic's word, given OpenAI's.

    Raises:
        CannotCarry: there is none; what it means for the answer is not known.
    """
    if reason not in FINISH_TO_STOP:
        raise CannotCarry(f"finish_reason {reason!r}")
    return FINISH_TO_STOP[reason]


def completion_from_message(message: dict[str, Any], created: int) -> dict[str, Any]:
    """Return Anthropic's message as a chat completion.

    Raises:
        CannotCarry: it holds something that a completion cannot.
    """
    texts = []
    calls = []
    for block in message["content"]:
        kind = block["type"]
        if kind == "text":
            texts.append(block["text"])
        elif kind == "tool_use":
            arguments = orjson.dumps(block["input"]).decode()
            calls.append(
                {"id": block["id"], "type": "function", "function": {"name": block["name"], "arguments": arguments}}
            )
        elif kind not in ("thinking", "redacted_thinking"):
            # Thinking is never part of an answer on OpenAI's wire.
            raise CannotCarry(f"content of type {kind!r}")
    finish = finish_from_stop(message["stop_reason"])
    said: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    said["refusal"] = (message.get("stop_details") or {}).get("explanation")
    if calls:
        said["tool_calls"] = calls
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": finish}
    return {
        "id": message.get("id") or "", "object": "chat.completion", "created": created, "model": message.get("model"),
        "choices": [choice], "usage": chat_usage(message.get("usage") or {}),
    }  # fmt: skip


def message_from_completion(completion: dict[str, Any]) -> dict[str, Any]:
    """Return a chat completion as Anthropic's message.

    Raises:
        CannotCarry: it holds something that a message cannot.
    """
    choice = completion["choices"][0]
    said, finish = choice["message"], choice["finish_reason"]
    content: list[dict[str, Any]] = []
    text = said.get("content")
    if isinstance(text, list):
        text = "".join(part["text"] for part in text if part.get("type") == "text")
    if text:
        content.append({"type": "text", "text": text})
    if said.get("refusal"):
        content.append({"type": "text", "text": said["refusal"]})
        finish = "content_filter"
    for call in said.get("tool_calls") or ():
        content.append(_tool_use(call))
        # A call that was demanded by name ends with `stop` there.
        finish = "tool_calls" if finish == "stop" else finish
    for name in ("audio", "function_call"):
        if said.get(name):
            raise CannotCarry(name)
    stop = stop_from_finish(finish)
    matched = choice.get("stop_reason")  # vLLM says which sequence it was
    is_sequence = finish == "stop" and isinstance(matched, str)
    return {
        "id": completion.get("id") or "", "type": "message", "role": "assistant", "model": completion.get("model"),
        "content": content, "stop_reason": "stop_sequence" if is_sequence else stop,
        "stop_sequence": matched if is_sequence else None, "usage": messages_usage(completion.get("usage") or {}),
    }  # fmt: skip


def _tool_use(call: dict[str, Any]) -> dict[str, Any]:
    if call.get("type", "function") != "function":
        raise CannotCarry(f"a call of a tool of type {call.get('type')!r}")
    function = call["function"]
    try:
        arguments = orjson.loads(function["arguments"] or "{}")
    except orjson.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise CannotCarry("arguments of a tool call that are no JSON object")
    check_numbers(function["arguments"] or "", arguments)
    return {"type": "tool_use", "id": call_id_of(call), "name": function["name"], "input": arguments}


def chat_usage(usage: dict[str, Any]) -> dict[str, Any]:
    """Return Anthropic's usage as OpenAI says it: what came from a cache, or went there, is input."""
    read, written = usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0
    given, output = (usage.get("input_tokens") or 0) + read + written, usage.get("output_tokens") or 0
    told: dict[str, Any] = {
        "prompt_tokens": given, "completion_tokens": output, "total_tokens": given + output,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
    }  # fmt: skip
    if thought := (usage.get("output_tokens_details") or {}).get("thinking_tokens"):
        told["completion_tokens_details"] = {"reasoning_tokens": thought}
    return told


def messages_usage(usage: dict[str, Any]) -> dict[str, Any]:
    """Return OpenAI's usage as Anthropic says it: beside the input stands what came from a cache, or went there."""
    details = usage.get("prompt_tokens_details") or {}
    read, written = details.get("cached_tokens") or 0, details.get("cache_write_tokens") or 0
    told: dict[str, Any] = {
        "input_tokens": max(0, (usage.get("prompt_tokens") or 0) - read - written),
        "cache_creation_input_tokens": written, "cache_read_input_tokens": read,
        "output_tokens": usage.get("completion_tokens") or 0,
    }  # fmt: skip
    if thought := (usage.get("completion_tokens_details") or {}).get("reasoning_tokens"):
        told["output_tokens_details"] = {"thinking_tokens": thought}
    return told
