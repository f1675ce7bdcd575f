"""A streamed answer put together to the answer that the same request would have had without streaming."""

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from reanimate.gateway.llm.endpoints import Shape

__all__ = ["assemble"]


_SAID_ONCE = frozenset({"id", "type", "role", "name", "finish_reason"})


def assemble(shape: Shape, stream: bytes) -> dict[str, Any] | None:
    """Return the answer in the events of `stream`, or None if they are not a whole one."""
    build = _BUILDERS.get(shape)
    if build is None:
        return None
    try:
        return build(_events(stream))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):  # not the events that it should have
        return None


def _events(stream: bytes) -> Iterator[dict[str, Any]]:
    for event in stream.replace(b"\r\n", b"\n").split(b"\n\n"):
        data = b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
        if data and data != b"[DONE]":
            yield orjson.loads(data)


def _grow(whole: dict[str, Any], piece: dict[str, Any]) -> None:
    """Add a delta: texts grow, lists get longer, objects are grown into; of all else the first that was said stays."""
    for name, value in piece.items():
        known = whole.get(name)
        if known is None or known == "":
            whole[name] = dict(value) if isinstance(value, dict) else value
        elif isinstance(value, dict) and isinstance(known, dict):
            _grow(known, value)
        elif type(value) is type(known) and isinstance(value, str | list) and name not in _SAID_ONCE:
            whole[name] = known + value


def _chat(events: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
    answer: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    tools: dict[int, dict[int, dict[str, Any]]] = {}
    for event in events:
        if "error" in event:
            return None
        answer |= {name: value for name, value in event.items() if name != "choices" and value is not None}
        for piece in event["choices"]:
            index = piece["index"]
            choice = choices.setdefault(index, {"index": index, "message": {"role": "assistant", "content": None}})
            delta = piece.get("delta") or {}
            _grow(choice["message"], {name: value for name, value in delta.items() if name != "tool_calls"})
            for call in delta.get("tool_calls") or ():
                place = tools.setdefault(index, {}).setdefault(call["index"], {})
                _grow(place, {name: value for name, value in call.items() if name != "index"})
            _grow(choice, {name: value for name, value in piece.items() if name not in ("index", "delta")})
    for index, calls in tools.items():
        choices[index]["message"]["tool_calls"] = [calls[place] for place in sorted(calls)]
    answer.pop("obfuscation", None)  # noise against listeners, different in each chunk
    return {**answer, "object": "chat.completion", "choices": [choices[index] for index in sorted(choices)]}


def _messages(events: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
    answer: dict[str, Any] = {}
    inputs: dict[int, str] = {}
    ended = False
    for event in events:
        kind = event["type"]
        if kind == "error":
            return None
        if kind == "message_start":
            answer = event["message"]
        elif kind == "content_block_start":
            answer["content"].append(event["content_block"])
        elif kind == "content_block_delta":
            block, delta = answer["content"][event["index"]], event["delta"]
            if delta["type"] == "input_json_delta":
                inputs[event["index"]] = inputs.get(event["index"], "") + delta["partial_json"]
            elif delta["type"] == "citations_delta":
                block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
            else:
                _grow(block, {name: value for name, value in delta.items() if name != "type"})
        elif kind == "content_block_stop" and inputs.get(event["index"]):
            answer["content"][event["index"]]["input"] = orjson.loads(inputs[event["index"]])
        elif kind == "message_delta":
            answer |= event["delta"]
            answer["usage"] |= {name: value for name, value in event.get("usage", {}).items() if value is not None}
        elif kind == "message_stop":
            ended = True
    return answer if ended else None


def _responses(events: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
    whole: dict[str, Any] | None = None
    for event in events:
        if event["type"] == "response.completed":
            whole = event["response"]
        elif event["type"] in ("error", "response.failed", "response.incomplete"):
            return None
    return whole


_BUILDERS: dict[Shape, Callable[[Iterator[dict[str, Any]]], dict[str, Any] | None]] = {
    Shape.CHAT: _chat,
    Shape.MESSAGES: _messages,
    Shape.RESPONSES: _responses,
}
