"""A whole answer given as the stream of events that each SDK expects."""

from collections.abc import Iterator
from typing import Any

import orjson

from reanimate.gateway.llm.cache.replay_responses import replay_response
from reanimate.gateway.llm.endpoints import Shape

__all__ = ["replay"]

_PIECE = 256
"""Characters of text in one event."""


def replay(shape: Shape, answer: dict[str, Any], *, include_usage: bool) -> Iterator[bytes]:
    """Yield the events of `answer`. `include_usage` is about chat: the others always tell it."""
    if shape is Shape.CHAT:
        return _chat(answer, include_usage)
    if shape is Shape.MESSAGES:
        return _messages(answer)
    if shape is Shape.RESPONSES:
        return replay_response(answer, _PIECE)
    raise AssertionError(f"{shape} has no streams")


def _pieces(text: str) -> Iterator[str]:
    for at in range(0, len(text), _PIECE):
        yield text[at : at + _PIECE]


def _chat(answer: dict[str, Any], include_usage: bool) -> Iterator[bytes]:
    head = {name: value for name, value in answer.items() if name not in ("choices", "usage", "reanimate")}
    head["object"] = "chat.completion.chunk"
    mark = {"reanimate": answer["reanimate"]} if "reanimate" in answer else {}
    usage = {"usage": None} if include_usage else {}

    def chunk(index: int, delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": index, "delta": delta, "finish_reason": finish, **more}
        said = {**head, "choices": [choice], **usage}
        return b"data: " + orjson.dumps(said | mark if finish or "role" in delta else said) + b"\n\n"

    for choice in answer["choices"]:
        index, message = choice["index"], choice["message"]
        plain = {name: value for name, value in message.items() if name not in ("content", "tool_calls", "role")}
        yield chunk(index, {"role": message.get("role") or "assistant", "content": "", **plain})
        if (content := message.get("content")) and choice.get("logprobs"):
            # They belong to the tokens, whose bounds are not known here: all at once.
            yield chunk(index, {"content": content}, logprobs=choice["logprobs"])
        else:
            for piece in _pieces(content or ""):
                yield chunk(index, {"content": piece})
        for place, call in enumerate(message.get("tool_calls") or ()):
            yield chunk(index, {"tool_calls": [{"index": place, **call}]})
        yield chunk(index, {}, choice["finish_reason"])
    if include_usage and answer.get("usage"):
        yield b"data: " + orjson.dumps({**head, "choices": [], "usage": answer["usage"], **mark}) + b"\n\n"
    yield b"data: [DONE]\n\n"


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))


def _messages(answer: dict[str, Any]) -> Iterator[bytes]:
    usage = dict(answer.get("usage") or {})
    head = {**answer, "content": [], "stop_reason": None, "stop_sequence": None}
    yield _event("message_start", message={**head, "usage": {**usage, "output_tokens": 0}})
    for index, block in enumerate(answer["content"]):
        start, deltas = _block(block)
        yield _event("content_block_start", index=index, content_block=start)
        for delta in deltas:
            yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    end = {"stop_reason": answer["stop_reason"], "stop_sequence": answer.get("stop_sequence")}
    yield _event("message_delta", delta=end, usage={"output_tokens": usage.get("output_tokens", 0)})
    yield _event("message_stop")


def _block(block: dict[str, Any]) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """Return a content block as it begins, and how it goes on. What is not known here comes whole at once."""
    if block["type"] == "text":
        cited = ({"type": "citations_delta", "citation": item} for item in block.get("citations") or ())
        texts = ({"type": "text_delta", "text": piece} for piece in _pieces(block["text"]))
        begun = {**block, "text": ""} | ({"citations": []} if block.get("citations") else {})
        return begun, (delta for deltas in (texts, cited) for delta in deltas)
    if block["type"] in ("tool_use", "server_tool_use"):
        said = orjson.dumps(block["input"]).decode()
        return {**block, "input": {}}, iter([{"type": "input_json_delta", "partial_json": said}])
    if block["type"] == "thinking":
        thoughts = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(block["thinking"])]
        signed = [{"type": "signature_delta", "signature": block["signature"]}] if block.get("signature") else []
        return {**block, "thinking": "", "signature": ""}, iter([*thoughts, *signed])
    return block, iter(())
