"""Anthropic's events, or chunks of a chat completion, in; events of OpenAI's responses out."""

import time
from typing import Any

import orjson

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.failures import Rejected
from reanimate.gateway.llm.wire.as_response import call_item, message_item, response_of, text_part
from reanimate.gateway.llm.wire.carrying import CannotCarry
from reanimate.gateway.llm.wire.errors import error_event
from reanimate.gateway.llm.wire.events import Event, EventKind, Scanner
from reanimate.gateway.llm.wire.messages_events import MessagesEvents
from reanimate.gateway.llm.wire.streams import MessagesFromChat
from reanimate.gateway.llm.wire.translated import finish_from_stop

__all__ = ["ResponsesFromChat", "ResponsesFromMessages"]

_SIGN_OF_LIFE = b": ping\n\n"


class ResponsesFromMessages:
    """One content block there is one item of the output here; thinking is none."""

    __slots__ = (
        "_block", "_call", "_created", "_message", "_number", "_output", "_parts", "_said_end", "_stop", "_usage"
    )  # fmt: skip

    def __init__(self, call: Call) -> None:
        self._call = call
        self._created = int(time.time())
        self._number = 0
        """Of the next event."""
        self._message: dict[str, Any] = {}
        self._output: list[dict[str, Any]] = []
        self._block: dict[str, Any] | None = None
        """The block that is open; None between them, and while it thinks."""
        self._parts: list[str] = []
        """The pieces of its text, or of its arguments."""
        self._usage: dict[str, Any] = {}
        self._stop: str | None = None
        self._said_end = False

    def translate(self, event: Event) -> bytes:
        data = event.data
        if event.kind is EventKind.ERROR:
            return error_event(self._call.prompt.endpoint, Rejected(502, "broken_off", event.text), self._call)
        if data is None:
            return event.raw if event.raw.startswith(b":") else b""
        kind = data.get("type")
        if kind == "content_block_delta":
            return self._delta(data["delta"])
        if kind == "content_block_start":
            return self._begin(data["content_block"])
        if kind == "content_block_stop":
            return self._finish_block()
        if kind == "message_start":
            return self._start(data["message"])
        if kind == "message_delta":
            self._usage |= {name: value for name, value in (data.get("usage") or {}).items() if value is not None}
            if stop := data["delta"].get("stop_reason"):
                finish_from_stop(stop)  # one without a word here is refused before its end is said
                self._stop = stop
            return b""
        if kind == "message_stop":
            return self.end()
        return _SIGN_OF_LIFE if kind == "ping" else b""

    def end(self) -> bytes:
        if self._said_end or self._stop is None:
            return b""
        self._said_end = True
        told = self._finish_block()
        response = self._response(self._stop, self._usage)
        return told + self._event(f"response.{response['status']}", response=response)

    def _start(self, message: dict[str, Any]) -> bytes:
        self._message = message
        self._usage = dict(message.get("usage") or {})
        response = self._response(None, None)
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def _begin(self, block: dict[str, Any]) -> bytes:
        kind = block["type"]
        if kind in ("thinking", "redacted_thinking"):
            return b""
        if kind not in ("text", "tool_use"):
            raise CannotCarry(f"content of type {kind!r}")
        self._block = block
        self._parts = []
        told = self._event("response.output_item.added", output_index=len(self._output), item=self._item("in_progress"))
        if block["type"] == "text":
            told += self._event("response.content_part.added", **self._where(), part=text_part(""))
            if block.get("text"):
                told += self._text(block["text"])
        return told

    def _delta(self, delta: dict[str, Any]) -> bytes:
        if self._block is None:
            return b""
        if delta["type"] == "text_delta":
            return self._text(delta["text"])
        if delta["type"] == "input_json_delta" and delta["partial_json"]:
            return self._arguments(delta["partial_json"])
        return b""

    def _text(self, text: str) -> bytes:
        self._parts.append(text)
        return self._event("response.output_text.delta", **self._where(), delta=text, logprobs=[])

    def _arguments(self, piece: str) -> bytes:
        self._parts.append(piece)
        return self._event("response.function_call_arguments.delta", **self._where(), delta=piece)

    def _finish_block(self) -> bytes:
        block = self._block
        if block is None:
            return b""
        if block["type"] == "text":
            text = "".join(self._parts)
            told = self._event("response.output_text.done", **self._where(), text=text, logprobs=[])
            told += self._event("response.content_part.done", **self._where(), part=text_part(text))
        else:
            # No arguments at all is an object without fields; here that is written.
            told = b"" if self._parts else self._arguments("{}")
            arguments = "".join(self._parts)
            told += self._event(
                "response.function_call_arguments.done", **self._where(), name=block["name"], arguments=arguments
            )
        item = self._item("completed")
        told += self._event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        self._block = None
        return told

    def _item(self, status: str) -> dict[str, Any]:
        block, number, said = self._block or {}, len(self._output), "".join(self._parts)
        if block["type"] == "text":
            parts = [text_part(said)] if status == "completed" else []
            return message_item(self._message, number, status, parts)
        return call_item(self._message, number, block, said, status)

    def _where(self) -> dict[str, Any]:
        block, number = self._block or {}, len(self._output)
        if block["type"] == "text":
            item_id = message_item(self._message, number, "", [])["id"]
            return {"item_id": item_id, "output_index": number, "content_index": 0}
        return {"item_id": call_item(self._message, number, block, "", "")["id"], "output_index": number}

    def _response(self, stop: str | None, usage: dict[str, Any] | None) -> dict[str, Any]:
        return response_of(
            self._message, self._call.prompt.fields, self._created, output=list(self._output), stop=stop, usage=usage
        )

    def _event(self, kind: str, **fields: Any) -> bytes:
        told = orjson.dumps({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + told + b"\n\n"


class ResponsesFromChat:
    """Chunks become Anthropic's events, and those the events of a response."""

    __slots__ = ("_messages", "_responses", "_scanner")

    def __init__(self, call: Call) -> None:
        self._messages = MessagesFromChat(call)
        self._scanner = Scanner(MessagesEvents())
        self._responses = ResponsesFromMessages(call)

    def translate(self, event: Event) -> bytes:
        if event.kind is EventKind.ERROR:
            return self._responses.translate(event)
        return self._on(self._messages.translate(event))

    def end(self) -> bytes:
        return self._on(self._messages.end()) + self._responses.end()

    def _on(self, told: bytes) -> bytes:
        return b"".join([self._responses.translate(event) for event in self._scanner.feed(told)])
