"""Reading an answer that came whole: is it one, how did it end, what did it cost?"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from reanimate.gateway.llm.call import Usage
from reanimate.gateway.llm.endpoints import Endpoint, Shape
from reanimate.gateway.llm.wire.chat_events import BROKE_OFF
from reanimate.gateway.llm.wire.usage import read_usage

__all__ = ["Answer", "Garbage", "ToolCall", "is_compressed", "read_answer"]

_SHOWN = 80

_ENDED_BY_ITSELF = frozenset(
    ("stop", "tool_calls", "function_call", "end_turn", "stop_sequence", "tool_use", "completed")
)


class Garbage(Exception):
    """An answer with a good status that is none: HTML, nothing, half a JSON document, an error in disguise."""

    def __init__(self, detail: str, error: dict[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.error = error
        """The provider's own error, when it gave one with a good status."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of one of the caller's tools; `arguments` is JSON as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(slots=True)  # not frozen: that would cost a microsecond for each call
class Answer:
    """An answer as far as policies must know it. `usage` is None as long as nobody has said or estimated it."""

    usage: Usage | None
    finish: str
    """In the provider's own word; of an embedding or a token count: completed."""
    text: str = field(repr=False)
    tool_calls: tuple[ToolCall, ...]
    complete: bool
    """Whether the model ended by itself, and not by a limit or a filter."""
    model: str
    """The one that answered, as the provider calls it."""
    fields: dict[str, Any] = field(repr=False)
    refused: bool = False
    """Whether the model refuses, where its wire has a place of its own for that; `finish` says nothing of it."""


def read_answer(endpoint: Endpoint, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> Answer:
    """Read the answer to a request at `endpoint` of the provider's wire, with a status below 300.

    Raises:
        Garbage: it is no answer.
    """
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Garbage(_describe(headers, body, error)) from None
    if not isinstance(fields, dict):
        raise Garbage(f"an answer that is no JSON object: {_start(body)}")
    wrong = fields.get("error")
    if wrong or fields.get("type") == "error":
        told = (
            wrong if isinstance(wrong, dict) else {"message": str(wrong or fields.get("message") or "no reason given")}
        )
        raise Garbage(f"status {status} with an error in it: {_said(told)}", told)
    try:
        return _READERS[endpoint.shape](fields)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise Garbage(f"an answer of another shape ({type(error).__name__}: {error}): {_start(body)}") from None


def is_compressed(headers: list[tuple[bytes, bytes]]) -> bool:
    """Say whether a body with these headers (names in lower case) is not what it looks like."""
    return any(name == b"content-encoding" and value.lower() not in (b"", b"identity") for name, value in headers)


def _chat(fields: dict[str, Any]) -> Answer:
    choices = fields["choices"]
    first = choices[0]
    texts = []
    calls: list[ToolCall] = []
    refused = False
    for choice in choices:
        message = choice["message"]
        refused = refused or bool(message.get("refusal"))
        if not _text(choice["finish_reason"]):
            raise TypeError("no finish_reason")
        if choice["finish_reason"] in BROKE_OFF:
            told = f"the answer ended with the finish reason {choice['finish_reason']!r}"
            raise Garbage(told, {"message": told})
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            texts += [part["text"] for part in content if part.get("type") == "text"]
        elif content is not None:
            raise TypeError("content is neither text nor a list")
        elif not message.keys() & _INSTEAD_OF_CONTENT and choice["finish_reason"] == "stop":
            raise TypeError("a message without content")
        for call in message.get("tool_calls") or ():
            if call.get("type") == "custom":
                calls.append(ToolCall(_text(call["id"]), _text(call["custom"]["name"]), _text(call["custom"]["input"])))
            else:
                function = call["function"]
                calls.append(ToolCall(call.get("id") or "", _text(function["name"]), _text(function["arguments"])))
    finish = first["finish_reason"]
    return _answer(fields, finish, "".join(texts), calls, refused)


_INSTEAD_OF_CONTENT = {
    "tool_calls", "function_call", "refusal", "audio", "reasoning", "reasoning_content", "images"
}  # fmt: skip


def _messages(fields: dict[str, Any]) -> Answer:
    if fields["type"] != "message":
        raise TypeError(f"type {fields['type']!r}")
    texts = []
    calls = []
    for block in fields["content"]:
        kind = block["type"]
        if kind == "text":
            texts.append(_text(block["text"]))
        elif kind == "tool_use":
            if not isinstance(block["input"], dict):
                raise TypeError("the input of a tool is no object")
            calls.append(ToolCall(_text(block["id"]), _text(block["name"]), orjson.dumps(block["input"]).decode()))
    return _answer(fields, _text(fields["stop_reason"]), "".join(texts), calls)


def _responses(fields: dict[str, Any]) -> Answer:
    status = _text(fields["status"])
    if status == "failed":
        raise Garbage("a response that failed without a reason")
    texts = []
    calls = []
    refused = False
    for item in fields["output"]:
        if item["type"] == "message":
            texts += [part["text"] for part in item["content"] if part["type"] == "output_text"]
            refused = refused or any(part["type"] == "refusal" for part in item["content"])
        elif item["type"] == "function_call":
            calls.append(ToolCall(_text(item["call_id"]), _text(item["name"]), _text(item["arguments"])))
    details = fields.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    return _answer(fields, reason or status, "".join(texts), calls, refused)


def _embeddings(fields: dict[str, Any]) -> Answer:
    data = fields["data"]
    if not data or not all(isinstance(item["embedding"], list | str) and item["embedding"] for item in data):
        raise TypeError("no embeddings")
    return _answer(fields, "completed", "", ())


def _token_count(fields: dict[str, Any]) -> Answer:
    if not isinstance(fields["input_tokens"], int):
        raise TypeError("input_tokens is no number")
    # Counting is not billed: what it counted is no usage.
    return Answer(Usage(), "completed", "", (), True, "", fields)


def _answer(
    fields: dict[str, Any], finish: str, text: str, calls: list[ToolCall] | tuple[()], refused: bool = False
) -> Answer:
    model = fields.get("model")
    return Answer(
        read_usage(fields.get("usage")), finish, text, tuple(calls), finish in _ENDED_BY_ITSELF,
        model if isinstance(model, str) else "", fields, refused,
    )  # fmt: skip


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} where text belongs")
    return value


def _describe(headers: list[tuple[bytes, bytes]], body: bytes, error: Exception) -> str:
    if not body.strip():
        return "an empty answer"
    if body[:2] == b"\x1f\x8b" or is_compressed(headers):
        return "a compressed answer, which was not asked for"
    if body.lstrip()[:1] == b"<":
        return f"HTML or XML instead of an answer: {_start(body)}"
    if body.lstrip()[:1] in (b"{", b"["):
        return f"JSON that breaks off or is broken ({error}): {_start(body)}"
    return f"no JSON: {_start(body)}"


def _start(body: bytes) -> str:
    text = " ".join(body[: _SHOWN * 2].decode("utf-8", "replace").split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _said(error: dict[str, Any]) -> str:
    named = error.get("code") or error.get("type")
    return f"{named}: {error.get('message')}" if named else str(error.get("message"))


_READERS: dict[Shape, Callable[[dict[str, Any]], Answer]] = {
    Shape.CHAT: _chat,
    Shape.RESPONSES: _responses,
    Shape.EMBEDDINGS: _embeddings,
    Shape.MESSAGES: _messages,
    Shape.COUNT_TOKENS: _token_count,
}
