"""Anthropic's `/v1/messages`."""

from typing import Any

import orjson

from reanimate.demo.provider.answers import Answer
from reanimate.demo.provider.asking import Ask
from reanimate.demo.provider.script import ID, Script

__all__ = ["stream", "whole"]

_STOP = {
    "stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal",
    "refusal": "refusal", "stop_sequence": "stop_sequence",
}  # fmt: skip


def _usage(answer: Answer, output: int) -> dict[str, Any]:
    return {
        "input_tokens": answer.prompt_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output,
        "service_tier": "standard",
    }


def _message(ask: Ask, content: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"msg_{ID}", "type": "message", "role": "assistant", "model": ask.model, "content": content,
        "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip


def whole(ask: Ask, answer: Answer) -> bytes:
    """Return the body of an answer in one piece."""
    content: list[dict[str, Any]] = [{"type": "text", "text": answer.text}] if answer.tokens else []
    content += [
        {
            "type": "tool_use",
            "id": f"toolu_{ID}{number}",
            "name": call.name,
            "input": orjson.loads("".join(call.arguments)),
        }
        for number, call in enumerate(answer.calls)
    ]
    body = _message(ask, content, _usage(answer, answer.completion_tokens))
    return orjson.dumps(body | {"stop_reason": _STOP[answer.finish], "stop_sequence": answer.stop or None})


def stream(ask: Ask, answer: Answer) -> Script:
    """Return the events of a streamed answer."""
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if answer.tokens or not answer.calls:
        deltas = [{"type": "text_delta", "text": token} for token in answer.tokens]
        blocks.append(({"type": "text", "text": ""}, deltas))
    for number, call in enumerate(answer.calls):
        block = {"type": "tool_use", "id": f"toolu_{ID}{number}", "name": call.name, "input": {}}
        blocks.append((block, [{"type": "input_json_delta", "partial_json": piece} for piece in call.arguments]))
    opening = [_event("message_start", message=_message(ask, [], _usage(answer, 1)))]
    tokens: list[bytes] = []
    for index, (block, deltas) in enumerate(blocks):
        before = _event("content_block_start", index=index, content_block=block)
        if index == 0:
            opening += [before, _event("ping")]
            before = b""
        else:
            before = _event("content_block_stop", index=index - 1) + before
        for delta in deltas:
            tokens.append(before + _event("content_block_delta", index=index, delta=delta))
            before = b""
    ended = {"stop_reason": _STOP[answer.finish], "stop_sequence": answer.stop or None}
    usage = _usage(answer, answer.completion_tokens)
    del usage["service_tier"]
    return Script(
        opening=tuple(opening),
        tokens=tuple(tokens),
        finish=(
            _event("content_block_stop", index=len(blocks) - 1),
            _event("message_delta", delta=ended, usage=usage),
        ),
        usage=(),
        end=(_event("message_stop"),),
    )


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({"type": kind, **fields}) + b"\n\n"
