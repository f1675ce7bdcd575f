"""A provider's stream, said on the other wire, event by event."""

import time
from typing import Any, Protocol

import orjson

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.failures import Rejected
from reanimate.gateway.llm.wire.blocks import Blocks, event_of
from reanimate.gateway.llm.wire.carrying import CannotCarry
from reanimate.gateway.llm.wire.chat_events import finish_of
from reanimate.gateway.llm.wire.errors import error_event
from reanimate.gateway.llm.wire.events import Event, EventKind
from reanimate.gateway.llm.wire.outgoing import asks_for_usage
from reanimate.gateway.llm.wire.translated import chat_usage, finish_from_stop, messages_usage, stop_from_finish

__all__ = ["ChatFromMessages", "MessagesFromChat", "StreamTranslator"]

_DONE = b"data: [DONE]\n\n"
_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_SIGN_OF_LIFE = b": ping\n\n"
_NO_DELTA: dict[str, Any] = {}


class StreamTranslator(Protocol):
    """Made for one stream. It never says an end that the provider has not said."""

    def translate(self, event: Event) -> bytes:
        """Return what the caller is to get for an event of the provider's; nothing, for some.

        Raises:
            CannotCarry: it has no words on the caller's wire.
        """

    def end(self) -> bytes:
        """Return what the caller's wire still lacks once the provider's stream has ended properly.

        Raises:
            CannotCarry: as `translate`.
        """


def _failure(call: Call, event: Event) -> bytes:
    return error_event(call.prompt.endpoint, Rejected(502, "broken_off", event.text), call)


class ChatFromMessages:
    """Anthropic's events in, chunks of a chat completion out."""

    __slots__ = ("_call", "_created", "_finish", "_head", "_said_end", "_tools", "_usage", "_wants_usage")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._wants_usage = asks_for_usage(call.prompt)
        self._created = int(time.time())
        self._head: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._tools: dict[int, tuple[int, bool]] = {}
        """By the block's index: which call it is, and whether its arguments have begun."""
        self._finish: str | None = None
        self._said_end = False

    def translate(self, event: Event) -> bytes:
        data = event.data
        if event.kind is EventKind.ERROR:
            return _failure(self._call, event)
        if data is None:
            return event.raw if event.raw.startswith(b":") else b""
        kind = data.get("type")
        if kind == "content_block_delta":
            return self._delta(data["index"], data["delta"])
        if kind == "content_block_start":
            return self._block_start(data["index"], data["content_block"])
        if kind == "content_block_stop":
            return self._block_stop(data["index"])
        if kind == "message_start":
            return self._start(data["message"])
        if kind == "message_delta":
            return self._message_delta(data)
        if kind == "message_stop":
            return self.end()
        return _SIGN_OF_LIFE if kind == "ping" else b""

    def end(self) -> bytes:
        if self._said_end or self._finish is None:
            return b""
        self._said_end = True
        if not self._wants_usage:
            return _DONE
        told = {**self._head, "choices": [], "usage": chat_usage(self._usage)}
        return b"data: " + orjson.dumps(told) + b"\n\n" + _DONE

    def _start(self, message: dict[str, Any]) -> bytes:
        self._usage = dict(message.get("usage") or {})
        self._head = {
            "id": message.get("id") or f"chatcmpl-{self._call.id}", "object": "chat.completion.chunk",
            "created": self._created, "model": message.get("model"),
        }  # fmt: skip
        return self._chunk({"role": "assistant", "content": ""})

    def _block_start(self, index: int, block: dict[str, Any]) -> bytes:
        kind = block["type"]
        if kind == "tool_use":
            number = len(self._tools)
            self._tools[index] = (number, False)
            function = {"name": block["name"], "arguments": ""}
            return self._chunk(
                {"tool_calls": [{"index": number, "id": block["id"], "type": "function", "function": function}]}
            )
        if kind == "text" and block.get("text"):
            return self._chunk({"content": block["text"]})
        if kind not in ("text", "thinking", "redacted_thinking"):
            raise CannotCarry(f"content of type {kind!r}")
        return b""

    def _delta(self, index: int, delta: dict[str, Any]) -> bytes:
        kind = delta["type"]
        if kind == "text_delta":
            return self._chunk({"content": delta["text"]})
        if kind == "input_json_delta" and delta["partial_json"] and index in self._tools:
            return self._arguments(index, delta["partial_json"])
        return b""

    def _arguments(self, index: int, piece: str) -> bytes:
        number = self._tools[index][0]
        self._tools[index] = (number, True)
        return self._chunk({"tool_calls": [{"index": number, "function": {"arguments": piece}}]})

    def _block_stop(self, index: int) -> bytes:
        # No arguments at all is an object without fields; on the other wire that is written.
        return self._arguments(index, "{}") if index in self._tools and not self._tools[index][1] else b""

    def _message_delta(self, data: dict[str, Any]) -> bytes:
        self._usage |= {name: value for name, value in (data.get("usage") or {}).items() if value is not None}
        reason = data["delta"].get("stop_reason")
        if reason is None:
            return b""
        self._finish = finish_from_stop(reason)
        refusal = (data["delta"].get("stop_details") or {}).get("explanation")
        return self._chunk({"refusal": refusal} if refusal else {}, self._finish)

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        told = {**self._head, "choices": [choice]}
        if self._wants_usage:
            told["usage"] = None
        return b"data: " + orjson.dumps(told) + b"\n\n"


class MessagesFromChat:
    """Chunks of a chat completion in, Anthropic's events out."""

    __slots__ = (
        "_blocks", "_call", "_finish", "_refused", "_said_end", "_started", "_usage"
    )  # fmt: skip

    def __init__(self, call: Call) -> None:
        self._call = call
        self._started = False
        self._blocks = Blocks()
        self._refused = False
        self._finish: tuple[str, str | None] | None = None
        """Why it ended, and the stop sequence; told once the tokens are known."""
        self._usage: dict[str, Any] | None = None
        self._said_end = False

    def translate(self, event: Event) -> bytes:
        data = event.data
        if event.kind is EventKind.ERROR:
            return _failure(self._call, event)
        if event.kind is EventKind.DONE:
            return self.end()
        if data is None:
            return _PING if event.kind is EventKind.PING else b""
        parts: list[bytes] = []
        if not self._started:
            self._started = True
            parts.append(self._start(data))
        if usage := data.get("usage"):
            self._usage = usage
        for choice in data.get("choices") or ():
            self._delta(choice.get("delta") or _NO_DELTA, parts)
            if (reason := finish_of(choice)) is not None:
                self._note_finish(reason, choice.get("stop_reason"))
        if self._finish is not None and usage and not data.get("choices"):
            parts.append(self.end())
        return b"".join(parts)

    def end(self) -> bytes:
        if self._said_end or self._finish is None:
            return b""
        self._said_end = True
        reason, sequence = self._finish
        if reason == "tool_use" and not self._blocks.are_whole:
            raise CannotCarry("arguments of a tool call that are no JSON object")
        parts: list[bytes] = []
        self._blocks.end(parts)
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        parts.append(event_of("message_delta", delta=delta, usage=messages_usage(self._usage or {})))
        parts.append(event_of("message_stop"))
        return b"".join(parts)

    def _start(self, chunk: dict[str, Any]) -> bytes:
        message: dict[str, Any] = {
            "id": chunk.get("id") or f"msg_{self._call.id}", "type": "message", "role": "assistant",
            "model": chunk.get("model"), "content": [], "stop_reason": None, "stop_sequence": None,
            # How many they were is only known in the end: message_delta says it.
            "usage": messages_usage({}),
        }  # fmt: skip
        return event_of("message_start", message=message)

    def _delta(self, delta: dict[str, Any], parts: list[bytes]) -> None:
        text = delta.get("content")
        if isinstance(text, list):
            text = "".join(part["text"] for part in text if part.get("type") == "text")
        if refusal := delta.get("refusal"):
            self._refused = True
            text = (text or "") + refusal
        for name in ("audio", "function_call"):
            if delta.get(name):
                raise CannotCarry(name)
        if text:
            self._blocks.text(text, parts)
        for call in delta.get("tool_calls") or ():
            self._blocks.call(call.get("index", 0), call.get("id") or "", call.get("function") or _NO_DELTA, parts)

    def _note_finish(self, reason: str, matched: Any) -> None:
        if self._refused:
            self._finish = ("refusal", None)
        elif reason == "stop" and self._blocks.has_calls:
            self._finish = ("tool_use", None)  # a call that was demanded by name ends so there
        elif reason == "stop" and isinstance(matched, str):
            self._finish = ("stop_sequence", matched)
        else:
            self._finish = (stop_from_finish(reason), None)
