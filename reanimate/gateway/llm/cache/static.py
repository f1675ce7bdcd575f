"""The answer that is configured for when there is no other, in each shape."""

from typing import Any

import orjson

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.endpoints import Shape

__all__ = ["static_answer"]


def static_answer(call: Call, text: str, now: float) -> dict[str, Any] | None:
    """Return `text` as an answer to `call`, or None where a text is none.

    There is no standard vector and no standard count; who must have a tool called cannot use a text; and who asked
    for JSON gets the text only if it is JSON.
    """
    shape, fields = call.prompt.endpoint.shape, call.prompt.fields
    build = _BUILDERS.get(shape)
    if build is None or _must_call(fields.get("tool_choice")):
        return None
    if call.prompt.needs.structured_output and not _is_json(text):
        return None
    return build(call, text, int(now))


def _must_call(choice: Any) -> bool:
    if isinstance(choice, dict):
        return choice.get("type") not in ("auto", "none", None)
    return choice in ("required", "any")


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _chat(call: Call, text: str, now: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": f"chatcmpl-{call.id}",
        "object": "chat.completion",
        "created": now,
        "model": "reanimate/static",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }


def _messages(call: Call, text: str, _: int) -> dict[str, Any]:
    return {
        "id": f"msg_{call.id}",
        "type": "message",
        "role": "assistant",
        "model": "reanimate/static",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def _responses(call: Call, text: str, now: int) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    item = {"id": f"msg_{call.id}", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    return {
        "id": f"resp_{call.id}",
        "object": "response",
        "created_at": now,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": call.prompt.fields.get("instructions"),
        "metadata": {},
        "model": "reanimate/static",
        "output": [item],
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": {
            "input_tokens": 0,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 0,
        },
    }


_BUILDERS = {Shape.CHAT: _chat, Shape.MESSAGES: _messages, Shape.RESPONSES: _responses}
