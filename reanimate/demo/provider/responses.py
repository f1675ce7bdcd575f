"""OpenAI's `/v1/responses`."""

import time
from typing import Any

import orjson

from reanimate.demo.provider.answers import Answer
from reanimate.demo.provider.asking import Ask
from reanimate.demo.provider.script import ID, Script

__all__ = ["stream", "whole"]

_CUT_SHORT = {"length": "max_output_tokens", "content_filter": "content_filter"}


def _response(ask: Ask, status: str, output: list[dict[str, Any]], answer: Answer | None = None) -> dict[str, Any]:
    usage = None
    if answer is not None:
        usage = {
            "input_tokens": answer.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": answer.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        }
    reason = _CUT_SHORT.get(answer.finish) if answer is not None else None
    return {
        "id": f"resp_{ID}", "object": "response", "created_at": int(time.time()), "status": status, "error": None,
        "incomplete_details": {"reason": reason} if reason else None, "instructions": None,
        "max_output_tokens": ask.limit, "model": ask.model, "output": output,
        "parallel_tool_calls": not ask.one_call, "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None}, "store": True, "temperature": 1.0,
        "text": {"format": {"type": "text"}}, "tool_choice": "auto",
        "tools": [
            {"type": "function", "name": tool.name, "parameters": tool.schema, "strict": False} for tool in ask.tools
        ],
        "top_p": 1.0, "truncation": "disabled", "usage": usage, "user": None, "metadata": {},
    }  # fmt: skip


def _part(answer: Answer, text: str) -> dict[str, Any]:
    if answer.finish == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(status: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": f"msg_{ID}", "type": "message", "status": status, "role": "assistant", "content": parts}


def _call(answer: Answer, number: int, arguments: str, status: str) -> dict[str, Any]:
    return {
        "id": f"fc_{ID}{number}", "type": "function_call", "status": status, "call_id": f"call_{ID}{number}",
        "name": answer.calls[number].name, "arguments": arguments,
    }  # fmt: skip


def _status(answer: Answer) -> str:
    return "incomplete" if answer.finish in _CUT_SHORT else "completed"


def _output(answer: Answer) -> list[dict[str, Any]]:
    if answer.calls:
        return [_call(answer, number, "".join(call.arguments), "completed") for number, call in enumerate(answer.calls)]
    return [_message(_status(answer), [_part(answer, answer.text)])]


def whole(ask: Ask, answer: Answer) -> bytes:
    """Return the body of an answer in one piece."""
    return orjson.dumps(_response(ask, _status(answer), _output(answer), answer))


class _Events:
    """Makes events, each with the next number."""

    def __init__(self) -> None:
        self._number = 0

    def __call__(self, kind: str, **fields: Any) -> bytes:
        body = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(body) + b"\n\n"


def stream(ask: Ask, answer: Answer) -> Script:
    """Return the events of a streamed answer."""
    event = _Events()
    begun = _response(ask, "in_progress", [])
    opening = [event("response.created", response=begun), event("response.in_progress", response=begun)]
    tokens: list[bytes] = []
    finish = _stream_calls(answer, event, tokens) if answer.calls else _stream_text(answer, event, opening, tokens)
    last = _response(ask, _status(answer), _output(answer), answer)
    finish.append(event(f"response.{_status(answer)}", response=last))
    return Script(tuple(opening), tuple(tokens), tuple(finish), (), ())


def _stream_text(answer: Answer, event: _Events, opening: list[bytes], tokens: list[bytes]) -> list[bytes]:
    where = {"item_id": f"msg_{ID}", "output_index": 0, "content_index": 0}
    kind = "refusal" if answer.finish == "refusal" else "output_text"
    logprobs: dict[str, Any] = {} if kind == "refusal" else {"logprobs": []}
    begun = _message("in_progress", [])
    opening.append(event("response.output_item.added", output_index=0, item=begun))
    opening.append(event("response.content_part.added", **where, part=_part(answer, "")))
    tokens += [event(f"response.{kind}.delta", **where, delta=token, **logprobs) for token in answer.tokens]
    said = {"refusal": answer.text} if kind == "refusal" else {"text": answer.text}
    return [
        event(f"response.{kind}.done", **where, **said, **logprobs),
        event("response.content_part.done", **where, part=_part(answer, answer.text)),
        event("response.output_item.done", output_index=0, item=_output(answer)[0]),
    ]


def _stream_calls(answer: Answer, event: _Events, tokens: list[bytes]) -> list[bytes]:
    before = b""
    for number, call in enumerate(answer.calls):
        where = {"item_id": f"fc_{ID}{number}", "output_index": number}
        begun = _call(answer, number, "", "in_progress")
        before += event("response.output_item.added", output_index=number, item=begun)
        for piece in call.arguments:
            tokens.append(before + event("response.function_call_arguments.delta", **where, delta=piece))
            before = b""
        arguments = "".join(call.arguments)
        before = event("response.function_call_arguments.done", **where, name=call.name, arguments=arguments)
        item = _call(answer, number, arguments, "completed")
        before += event("response.output_item.done", output_index=number, item=item)
    return [before]
