"""Anthropic's answers and streams, made by hand."""

from typing import Any

import orjson

__all__ = ["USAGE", "message", "messages_stream", "sse"]

USAGE = {"input_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2, "output_tokens": 7}


def message(stop: str = "end_turn", *content: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": list(content),
        "stop_reason": stop, "stop_sequence": None, "usage": USAGE, **more,
    }  # fmt: skip


def sse(*events: Any) -> bytes:
    """Return events as the wire has them: with a name if they have a type."""
    told = b""
    for event in events:
        name = b"event: " + event["type"].encode() + b"\n" if isinstance(event, dict) and "type" in event else b""
        told += name + b"data: " + (event if isinstance(event, bytes) else orjson.dumps(event)) + b"\n\n"
    return told


def messages_stream(pieces: list[str], calls: list[tuple[str, list[str]]], stop: str) -> bytes:
    events: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": message(stop) | {"stop_reason": None, "usage": {**USAGE, "output_tokens": 1}},
        }
    ]
    index = 0
    if pieces:
        events.append({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
        events += [{"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": 0})
        index = 1
    events.append({"type": "ping"})
    for name, parts in calls:
        block = {"type": "tool_use", "id": f"t{index}", "name": name, "input": {}}
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        for part in parts:
            delta = {"type": "input_json_delta", "partial_json": part}
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
        index += 1
    ended = {"stop_reason": stop, "stop_sequence": None}
    events += [{"type": "message_delta", "delta": ended, "usage": {"output_tokens": 7}}, {"type": "message_stop"}]
    return sse(*events)
