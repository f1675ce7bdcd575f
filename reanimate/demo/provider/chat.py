"""OpenAI's `/v1/chat/completions`."""

import time
from typing import Any

import orjson

from reanimate.demo.provider.answers import Answer
from reanimate.demo.provider.asking import Ask
from reanimate.demo.provider.script import ID, Script

__all__ = ["stream", "whole"]

_FINISH = {"refusal": "stop", "stop_sequence": "stop"}
_FINGERPRINT = "fp_44709d6fcb"


def _usage(answer: Answer) -> dict[str, Any]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    }  # fmt: skip


def _head(kind: str, ask: Ask) -> dict[str, Any]:
    return {"id": f"chatcmpl-{ID}", "object": kind, "created": int(time.time()), "model": ask.model}


def whole(ask: Ask, answer: Answer) -> bytes:
    """Return the body of an answer in one piece."""
    refused = answer.finish == "refusal"
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if refused or answer.calls else answer.text,
        "refusal": answer.text if refused else None,
        "annotations": [],
    }
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": f"call_{ID}{number}",
                "type": "function",
                "function": {"name": call.name, "arguments": "".join(call.arguments)},
            }
            for number, call in enumerate(answer.calls)
        ]
    finish = _FINISH.get(answer.finish, answer.finish)
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": finish} for index in range(ask.choices)
    ]
    body = _head("chat.completion", ask) | {
        "choices": choices,
        "usage": _usage(answer),
        "service_tier": "default",
        "system_fingerprint": _FINGERPRINT,
    }
    return orjson.dumps(body)


def stream(ask: Ask, answer: Answer) -> Script:
    """Return the events of a streamed answer."""
    head = _head("chat.completion.chunk", ask) | {"service_tier": "default", "system_fingerprint": _FINGERPRINT}
    no_usage = {"usage": None} if ask.include_usage else {}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return b"".join(
            _event(
                head
                | {"choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}]}
                | no_usage
            )
            for index in range(ask.choices)
        )

    first: dict[str, Any] = {"role": "assistant", "content": None if answer.calls else "", "refusal": None}
    field = "refusal" if answer.finish == "refusal" else "content"
    tokens = [chunk({field: token}) for token in answer.tokens]
    for number, call in enumerate(answer.calls):
        began = {
            "index": number, "id": f"call_{ID}{number}", "type": "function",
            "function": {"name": call.name, "arguments": ""},
        }  # fmt: skip
        opened = chunk({"tool_calls": [began]})
        for piece in call.arguments:
            tokens.append(opened + chunk({"tool_calls": [{"index": number, "function": {"arguments": piece}}]}))
            opened = b""
    usage = (_event(head | {"choices": [], "usage": _usage(answer)}),) if ask.include_usage else ()
    return Script(
        opening=(chunk(first),),
        tokens=tuple(tokens),
        finish=(chunk({}, _FINISH.get(answer.finish, answer.finish)),),
        usage=usage,
        end=(b"data: [DONE]\n\n",),
    )


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"
