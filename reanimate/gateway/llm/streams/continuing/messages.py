"""Going on with one of Anthropic's messages."""

from typing import Any

import orjson

from reanimate.gateway.llm.call import Usage
from reanimate.gateway.llm.streams.continuing.seam import SeamState, is_comment
from reanimate.gateway.llm.wire.events import Event, EventKind

__all__ = ["MessagesSeam"]

_THOUGHTS = ("thinking", "redacted_thinking")


class MessagesSeam:
    """The text goes on in the block that was open; further blocks are counted on from there.

    Thinking of the continuing provider is left out: the caller had an answer already.
    """

    __slots__ = ("_blocks", "_state")

    def __init__(self, state: SeamState) -> None:
        self._state = state
        self._blocks: dict[int, int | None] = {}
        """Where the provider's blocks are in the answer; None for what is left out."""

    def pass_on(self, event: Event) -> bytes:
        data, told = event.data, self._state.told
        if data is None:
            return event.raw if is_comment(event) else b""
        match data["type"]:
            case "content_block_start":
                return self._block_start(event, data)
            case "content_block_delta":
                return self._delta(event, data)
            case "content_block_stop":
                return self._block_stop(data)
            case "message_delta":
                return self._message_delta(event, data)
            case "message_stop":
                told.complete = True
                return event.raw
            case "ping":
                return event.raw
        return b""

    def _block_start(self, event: Event, data: dict[str, Any]) -> bytes:
        told, block = self._state.told, data["content_block"]
        kind = block["type"]
        if kind in _THOUGHTS:
            self._blocks[data["index"]] = None
            return b""
        if kind == "text":
            # It begins for the caller with its first new character: it may be nothing but a repetition.
            self._blocks[data["index"]] = -1
            return self._text(event, data["index"])
        out = self._rest(event) + self._close()
        told.tools = self._state.said.tools
        index = self._blocks[data["index"]] = told.blocks
        told.blocks += 1
        told.open_block = kind
        return out + _event({**data, "index": index})

    def _delta(self, event: Event, data: dict[str, Any]) -> bytes:
        index = self._blocks.get(data["index"])
        if index is None:
            return b""
        if data["delta"]["type"] == "text_delta":
            return self._text(event, data["index"])
        return _event({**data, "index": index})

    def _text(self, event: Event, index: int) -> bytes:
        text = self._state.fresh(event)
        if not text:
            return b""
        out = self._open_text()
        self._blocks[index] = self._state.told.blocks - 1
        return out + _text_delta(self._state.told.blocks - 1, text)

    def _rest(self, event: Event) -> bytes:
        """Return the text that was held back; no text follows."""
        blank = Event(event.raw, event.kind, "", event.data)
        text = self._state.fresh(blank, last=True)
        return self._open_text() + _text_delta(self._state.told.blocks - 1, text) if text else b""

    def _open_text(self) -> bytes:
        told = self._state.told
        if told.open_block == "text":
            return b""
        told.blocks += 1
        told.open_block = "text"
        block = {"type": "text", "text": ""}
        return _event({"type": "content_block_start", "index": told.blocks - 1, "content_block": block})

    def _block_stop(self, data: dict[str, Any]) -> bytes:
        index = self._blocks.get(data["index"])
        if index is None or index < 0 or not self._state.stitch.is_settled:
            return b""
        return self._close()

    def _close(self) -> bytes:
        told = self._state.told
        if told.open_block is None:
            return b""
        told.open_block = None
        return _event({"type": "content_block_stop", "index": told.blocks - 1})

    def _message_delta(self, event: Event, data: dict[str, Any]) -> bytes:
        told, said = self._state.told, self._state.said
        total = told.usage = self._state.before + (said.usage or Usage())
        data = {**data, "usage": {**(data.get("usage") or {}), **_usage(total)}}
        if event.kind is not EventKind.FINISH:
            return _event(data)
        out = self._rest(event) + self._close()
        self._state.check_whole(said.finish or "")
        told.finish = said.finish
        return out + _event(data)


def _event(data: dict[str, Any]) -> bytes:
    kind: str = data["type"]
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


def _text_delta(index: int, text: str) -> bytes:
    return _event({"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}})


def _usage(total: Usage) -> dict[str, int]:
    """Return the counts that replace those of the message's start, in which the kinds of input were told apart."""
    return {
        "input_tokens": total.input_tokens - total.cached_tokens,
        "cache_read_input_tokens": total.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": total.output_tokens,
    }
