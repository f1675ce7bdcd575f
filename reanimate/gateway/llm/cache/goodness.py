"""Which answers are worth giving again: whole ones, that ended because the model had said all.

Not those that were cut at the caller's token limit (`length`): the limit is the caller's and part of the question, but
half a sentence is a poor thing to be given when nobody answers. Not refusals, which another model may not share.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from reanimate.gateway.llm.endpoints import Shape

__all__ = ["Verdict", "judge"]

_CHAT_ENDS = frozenset({"stop", "tool_calls", "function_call"})
_MESSAGE_ENDS = frozenset({"end_turn", "tool_use", "stop_sequence"})
_SERVER_TOOLS = frozenset(
    {"web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call"}
)
"""Run by the provider: their results are in the answer. All the other calls are for the caller to run."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer is good for."""

    good: bool
    tools: bool = False
    """It asks the caller to run tools."""


_BAD = Verdict(False)


def judge(shape: Shape, asked: dict[str, Any], answer: Any) -> Verdict:
    """Judge an answer (decoded) to a request (decoded)."""
    if not isinstance(answer, dict) or answer.get("error"):
        return _BAD
    try:
        return _JUDGES[shape](asked, answer)
    except (KeyError, TypeError, ValueError, AttributeError):  # not of the shape that it should be
        return _BAD


def _chat(_: dict[str, Any], answer: dict[str, Any]) -> Verdict:
    tools = False
    for choice in answer["choices"]:
        message = choice["message"]
        if choice["finish_reason"] not in _CHAT_ENDS or message.get("refusal"):
            return _BAD
        calls = message.get("tool_calls") or []
        for call in calls:
            if call.get("type", "function") == "function":
                orjson.loads(call["function"]["arguments"] or "{}")
        called = bool(calls or message.get("function_call"))
        if not (called or message.get("content") or message.get("audio")):
            return _BAD
        tools = tools or called
    return Verdict(bool(answer["choices"]), tools)


def _messages(_: dict[str, Any], answer: dict[str, Any]) -> Verdict:
    if answer["type"] != "message" or answer["stop_reason"] not in _MESSAGE_ENDS:
        return _BAD
    blocks = answer["content"]
    tools = any(block["type"] == "tool_use" for block in blocks)
    return Verdict(tools or any(block["type"] != "text" or block["text"] for block in blocks), tools)


def _responses(_: dict[str, Any], answer: dict[str, Any]) -> Verdict:
    if answer["status"] != "completed" or answer.get("incomplete_details"):
        return _BAD
    kinds = {item["type"] for item in answer["output"]}
    if any(
        part["type"] == "refusal" for item in answer["output"] if item["type"] == "message" for part in item["content"]
    ):
        return _BAD
    return Verdict(bool(kinds - {"reasoning"}), any(k.endswith("_call") and k not in _SERVER_TOOLS for k in kinds))


def _embeddings(asked: dict[str, Any], answer: dict[str, Any]) -> Verdict:
    given = asked["input"]
    wanted = len(given) if isinstance(given, list) and given and not isinstance(given[0], int) else 1
    vectors = answer["data"]
    return Verdict(len(vectors) == wanted and all(vector["embedding"] for vector in vectors))


def _count(_: dict[str, Any], answer: dict[str, Any]) -> Verdict:
    return Verdict(isinstance(answer["input_tokens"], int))


_JUDGES = {
    Shape.CHAT: _chat,
    Shape.MESSAGES: _messages,
    Shape.RESPONSES: _responses,
    Shape.EMBEDDINGS: _embeddings,
    Shape.COUNT_TOKENS: _count,
}
