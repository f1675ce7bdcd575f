"""Anthropic's answers and streams, said as OpenAI's responses."""

from typing import Any

import orjson

from reanimate.gateway.llm.wire.carrying import CannotCarry
from reanimate.gateway.llm.wire.translated import finish_from_stop

__all__ = ["call_item", "message_item", "response_from_message", "response_of", "text_part"]

_CUT_SHORT = {"length": "max_output_tokens", "content_filter": "content_filter"}


def response_from_message(message: dict[str, Any], asked: dict[str, Any], created: int) -> dict[str, Any]:
    """Return Anthropic's message as the response to a request with the fields `asked`.

    Raises:
        CannotCarry: it holds something that a response cannot.
    """
    output = []
    for number, block in enumerate(message["content"]):
        kind = block["type"]
        if kind == "text":
            output.append(message_item(message, number, "completed", [text_part(block["text"])]))
        elif kind == "tool_use":
            output.append(call_item(message, number, block, orjson.dumps(block["input"]).decode(), "completed"))
        elif kind not in ("thinking", "redacted_thinking"):
            raise CannotCarry(f"content of type {kind!r}")
    stop = message["stop_reason"]
    return response_of(message, asked, created, output=output, stop=stop, usage=message.get("usage") or {})


def response_of(
    message: dict[str, Any],
    asked: dict[str, Any],
    created: int,
    *,
    output: list[dict[str, Any]],
    stop: str | None,
    usage: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a response; while it is underway, `stop` is None. It is kept nowhere: `store` is false.

    Raises:
        CannotCarry: what `stop` means is not known.
    """
    cut = _CUT_SHORT.get(finish_from_stop(stop)) if stop is not None else None
    status = "in_progress" if stop is None else "incomplete" if cut else "completed"
    reasoning = asked.get("reasoning") or {}
    return {
        "id": f"resp_{message.get('id') or ''}", "object": "response", "created_at": created, "status": status,
        "error": None, "incomplete_details": {"reason": cut} if cut else None,
        "instructions": asked.get("instructions"), "max_output_tokens": asked.get("max_output_tokens"),
        "model": message.get("model"), "output": output,
        "parallel_tool_calls": asked.get("parallel_tool_calls") is not False, "previous_response_id": None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": None}, "store": False,
        "temperature": asked.get("temperature"), "text": asked.get("text") or {"format": {"type": "text"}},
        "tool_choice": asked.get("tool_choice") or "auto", "tools": asked.get("tools") or [],
        "top_p": asked.get("top_p"), "truncation": "disabled",
        "usage": _usage(usage) if usage is not None else None, "user": asked.get("user"),
        "metadata": asked.get("metadata") or {},
    }  # fmt: skip


def message_item(message: dict[str, Any], number: int, status: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    item_id = f"msg_{message.get('id') or ''}_{number}"
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": parts}


def text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def call_item(
    message: dict[str, Any], number: int, block: dict[str, Any], arguments: str, status: str
) -> dict[str, Any]:
    return {
        "id": f"fc_{message.get('id') or ''}_{number}", "type": "function_call", "status": status,
        "call_id": block["id"], "name": block["name"], "arguments": arguments,
    }  # fmt: skip


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    read, written = usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0
    given, output = (usage.get("input_tokens") or 0) + read + written, usage.get("output_tokens") or 0
    thought = (usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0
    return {
        "input_tokens": given, "input_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "output_tokens": output, "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": given + output,
    }  # fmt: skip
