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
        text = self._state.fresh(event)
        return self._event(_DELTA, delta=text, logprobs=[], **self._place()) if text else b""

    def _end(self, event: Event, data: dict[str, Any]) -> bytes:
        state, told = self._state, self._state.told
        rest = state.fresh(Event(event.raw, event.kind, "", data), last=True)
        out = self._event(_DELTA, delta=rest, logprobs=[], **self._place()) if rest else b""
        said: dict[str, Any] = data["response"]
        state.check_whole(said.get("status") or "completed")
        part, item = self._part(), self._item(said.get("status") or "completed")
        total = told.usage = state.total(said.get("usage"))
        kept: dict[str, Any] = {
            name: told.response[name] for name in ("id", "created_at", "model") if name in told.response
        }
        response = {**told.response, **said, **kept, "output": [*told.items, item], "usage": _usage(total)}
        out += self._event("response.output_text.done", text=part["text"], logprobs=[], **self._place())
        out += self._event("response.content_part.done", part=part, **self._place())
        out += self._event("response.output_item.done", output_index=self._place()["output_index"], item=item)
        told.finish, told.complete = state.said.finish, True
        return out + self._event(data["type"], response=response)

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
