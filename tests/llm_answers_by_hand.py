"""Whole answers of each shape, as providers give them, and calls that ask for them."""

from typing import Any

import orjson

from reanimate.gateway.llm.call import Attempt, Call, Ending
from reanimate.gateway.llm.catalogue import Catalogue
from reanimate.llm_settings import LlmSettings

__all__ = ["ANSWERS", "PATHS", "answered", "body_of", "chat_answer", "route_of"]

PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}


def chat_answer(text: str | None = "Hello", finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "large-0613",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None, **message},
                "logprobs": None,
                "finish_reason": finish,
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
    }


_CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"city":"Zürich"}'}},
    {"id": "call_2", "type": "function", "function": {"name": "find", "arguments": '{"n":2}'}},
]
_MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "opus-9",
    "content": [{"type": "text", "text": "Hello 🙂"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": 0},
}
_RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "large-0613",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12},
}
ANSWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat text": ("chat", chat_answer("Hello, wörld " * 60)),
    "chat tools": ("chat", chat_answer(None, "tool_calls", tool_calls=_CALLS)),
    "chat two choices": (
        "chat",
        chat_answer() | {"choices": [*chat_answer()["choices"], {**chat_answer("Second")["choices"][0], "index": 1}]},
    ),
    "chat reasoning": ("chat", chat_answer("42", reasoning_content="Think " * 100)),
    "messages text": ("messages", _MESSAGE),
    "messages tools": (
        "messages",
        _MESSAGE
        | {
            "content": [
                {"type": "thinking", "thinking": "Hm. " * 100, "signature": "c2ln"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"city": "Zürich", "n": [1, 2]}},
                {"type": "tool_use", "id": "toolu_2", "name": "rest", "input": {}},
            ],
            "stop_reason": "tool_use",
        },
    ),
    "responses text": ("responses", _RESPONSE),
    "responses tools": (
        "responses",
        _RESPONSE
        | {
            "output": [
                {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
                {
                    "id": "fc_1",
                    "type": "function_call",
                    "status": "completed",
                    "call_id": "call_1",
                    "name": "look",
                    "arguments": '{"city":"Zürich"}',
                },
            ]
        },
    ),
}
"""By what they are: shape and answer."""


def route_of(**fields: Any) -> Catalogue:
    """Return a catalogue whose route `chat` asks main/large and then spare/small."""
    providers = [
        {"name": name, "url": f"http://{name}", "models": [{"name": model}]}
        for name, model in (("main", "large"), ("spare", "small"))
    ]
    route = {"name": "chat", "also": ["*"], "targets": ["main/large", "spare/small"], **fields}
    return Catalogue(LlmSettings.model_validate({"providers": providers, "routes": [route]}))


def answered(call: Call, target: str = "main/large", **fields: Any) -> Call:
    """Return the call with an attempt whose answer its caller got."""
    call.attempts.append(
        Attempt(call.catalogue.targets[target], None, 0.0, ended=0.1, status=200, served=True, **fields)
    )
    call.ending = Ending.ANSWERED
    return call


def body_of(answer: dict[str, Any]) -> bytes:
    return orjson.dumps(answer)
