"""Going on with one of OpenAI's responses."""

from typing import Any

import orjson

from reanimate.gateway.llm.call import Usage
from reanimate.gateway.llm.streams.continuing.seam import SeamState, is_comment
from reanimate.gateway.llm.streams.continuing.stitch import Unstitchable
from reanimate.gateway.llm.wire.events import Event, EventKind

__all__ = ["ResponsesSeam"]

_DELTA = "response.output_text.delta"


class ResponsesSeam:
    """The text goes on in the message that was open; in the end the whole is said once more, as this wire does.

    Reasoning of the continuing provider is left out, tool calls are refused: they would belong to no message before.
    An answer that broke off when its text had been said to be whole lacks nothing but why it ended, and whether more
    was to follow: that is known once a model that is asked to go on repeats the last words and ends by itself.
    """

    __slots__ = ("_state",)

    def __init__(self, state: SeamState) -> None:
        self._state = state

    def pass_on(self, event: Event) -> bytes:
        data = event.data
        if data is None:
            return event.raw if is_comment(event) else b""
        if event.kind is EventKind.TOOL:
            raise Unstitchable("the continuation calls a tool")
        if event.kind is EventKind.FINISH:
            return self._end(event, data)
        if data["type"] != _DELTA:
            return b""
        text = self._fresh(event)
        return self._event(_DELTA, delta=text, logprobs=[], **self._place()) if text else b""

    def _end(self, event: Event, data: dict[str, Any]) -> bytes:
        state, told = self._state, self._state.told
        rest = self._fresh(Event(event.raw, event.kind, "", data), last=True)
        out = self._event(_DELTA, delta=rest, logprobs=[], **self._place()) if rest else b""
        said: dict[str, Any] = data["response"]
        status = said.get("status") or "completed"
        if told.closing and status != "completed":
            raise Unstitchable(f"the text had been said to be whole, and the continuation ends as {status}")
        state.check_whole(status)
        part, item = self._part(), self._item(status)
        total = told.usage = state.total(said.get("usage"))
        kept: dict[str, Any] = {
            name: told.response[name] for name in ("id", "created_at", "model") if name in told.response
        }
        place = self._place()
        closings: list[tuple[str, dict[str, Any]]] = [
            ("response.output_text.done", {"text": part["text"], "logprobs": [], **place}),
            ("response.content_part.done", {"part": part, **place}),
            ("response.output_item.done", {"output_index": place["output_index"], "item": item}),
        ]
        output = told.items if told.closing == len(closings) else [*told.items, item]
        response = {**told.response, **said, **kept, "output": output, "usage": _usage(total)}
        out += b"".join([self._event(kind, **fields) for kind, fields in closings[told.closing :]])
        told.finish, told.complete = state.said.finish, True
        return out + self._event(data["type"], response=response)

    def _fresh(self, event: Event, *, last: bool = False) -> str:
        """Return the new text of an event. Raises: Unstitchable: there is some, behind a text that was whole."""
        text, told = self._state.fresh(event, last=last), self._state.told
        if not text or not told.closing:
            return text
        del told.text_parts[-1]
        if text.strip():
            raise Unstitchable("the text had been said to be whole, and the continuation has more")
        return ""

    def _place(self) -> dict[str, Any]:
        assert self._state.told.item is not None
        item_id, index, _ = self._state.told.item
        return {"item_id": item_id, "output_index": index, "content_index": 0}

    def _part(self) -> dict[str, Any]:
        told = self._state.told
        assert told.item is not None
        return {
            "type": "output_text",
            "text": "".join(told.text_parts[told.item[2] :]),
            "annotations": [],
            "logprobs": [],
        }

    def _item(self, status: str) -> dict[str, Any]:
        part, place = self._part(), self._place()
        return {"id": place["item_id"], "type": "message", "status": status, "role": "assistant", "content": [part]}

    def _event(self, kind: str, **fields: Any) -> bytes:
        told = self._state.told
        told.sequence += 1
        data = {"type": kind, **fields, "sequence_number": told.sequence}
        return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


def _usage(total: Usage) -> dict[str, Any]:
    return {
        "input_tokens": total.input_tokens,
        "input_tokens_details": {"cached_tokens": total.cached_tokens},
        "output_tokens": total.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": total.input_tokens + total.output_tokens,
    }
