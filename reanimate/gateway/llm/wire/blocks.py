"""The content blocks of one of Anthropic's messages, one behind the other, out of pieces that may come mixed."""

from typing import Any

import orjson

from reanimate.gateway.llm.wire.carrying import call_id_of

__all__ = ["Blocks", "event_of"]


class _Block:
    __slots__ = ("call_id", "head", "pieces")

    def __init__(self, head: dict[str, Any], call_id: str = "") -> None:
        self.head = head
        self.call_id = call_id
        self.pieces: list[str] = []

    @property
    def is_text(self) -> bool:
        return bool(self.head["type"] == "text")

    @property
    def may_end(self) -> bool:
        """Whether nothing of it can still come: text goes on in another block, arguments are one whole object."""
        return self.is_text or _is_object("".join(self.pieces))


class Blocks:
    """What is said in turn there is said in turn here. Calls whose pieces come mixed wait for each other."""

    __slots__ = ("_calls", "_count", "_open", "_waiting")

    def __init__(self) -> None:
        self._count = 0
        self._open: _Block | None = None
        self._waiting: list[_Block] = []
        """Begun by the provider while the arguments of the open one were not whole."""
        self._calls: dict[int, _Block] = {}
        """The last call of each number."""

    @property
    def has_calls(self) -> bool:
        """Whether tools were called."""
        return bool(self._calls)

    @property
    def are_whole(self) -> bool:
        """Whether the arguments of all calls are objects; none at all is one without fields."""
        return all(block.may_end or not block.pieces for block in self._calls.values())

    def text(self, text: str, parts: list[bytes]) -> None:
        """Say a piece of text."""
        last = self._waiting[-1] if self._waiting else self._open
        if last is None or not last.is_text:
            last = self._begin(_Block({"type": "text", "text": ""}), parts)
        self._say(last, text, parts)

    def call(self, number: int, call_id: str, function: dict[str, Any], parts: list[bytes]) -> None:
        """Say a piece of a tool call.

        Raises:
            ValueError: it belongs to a call whose arguments were whole.
        """
        block = self._calls.get(number)
        # Servers that send whole calls give several of them the same number.
        if block is None or (call_id and block.call_id and call_id != block.call_id):
            head: dict[str, Any] = {
                "type": "tool_use", "id": call_id_of({"id": call_id}), "name": function.get("name") or "", "input": {}
            }  # fmt: skip
            block = self._calls[number] = self._begin(_Block(head, call_id), parts)
        if piece := function.get("arguments"):
            self._say(block, piece, parts)

    def end(self, parts: list[bytes]) -> None:
        """Say what waited, and end the last block."""
        while self._open is not None:
            self._next(parts)

    def _begin(self, block: _Block, parts: list[bytes]) -> _Block:
        if self._waiting or (self._open is not None and not self._open.may_end):
            self._waiting.append(block)
        else:
            self._show(block, parts)
        return block

    def _say(self, block: _Block, piece: str, parts: list[bytes]) -> None:
        if block is not self._open and block not in self._waiting:
            if piece.isspace():
                return
            raise ValueError("a tool call goes on whose arguments were whole")
        if block is not self._open or not block.is_text:
            block.pieces.append(piece)
        if block is self._open:
            parts.append(self._delta(piece))
            while self._waiting and self._open.may_end:
                self._next(parts)

    def _next(self, parts: list[bytes]) -> None:
        self._show(self._waiting.pop(0) if self._waiting else None, parts)

    def _show(self, block: _Block | None, parts: list[bytes]) -> None:
        """End the open block, and begin this one with what is there of it."""
        if self._open is not None:
            parts.append(event_of("content_block_stop", index=self._count - 1))
        self._open = block
        if block is not None:
            self._count += 1
            parts.append(event_of("content_block_start", index=self._count - 1, content_block=block.head))
            if block.pieces:
                parts.append(self._delta("".join(block.pieces)))

    def _delta(self, piece: str) -> bytes:
        assert self._open is not None
        delta = (
            {"type": "text_delta", "text": piece}
            if self._open.is_text
            else {"type": "input_json_delta", "partial_json": piece}
        )
        return event_of("content_block_delta", index=self._count - 1, delta=delta)


def event_of(kind: str, **fields: Any) -> bytes:
    """Return one of Anthropic's events."""
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({"type": kind, **fields}) + b"\n\n"


def _is_object(text: str) -> bool:
    if not text.rstrip().endswith("}"):
        return False
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False
