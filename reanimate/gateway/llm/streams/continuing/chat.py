"""Going on with a chat completion."""

from typing import Any

import orjson

from reanimate.gateway.llm.call import Usage
from reanimate.gateway.llm.streams.continuing.seam import SeamState, is_comment
from reanimate.gateway.llm.wire.chat_events import finish_of
from reanimate.gateway.llm.wire.events import Event, EventKind

__all__ = ["ChatSeam"]

_NO_DELTA: dict[str, Any] = {}


class ChatSeam:
    """The chunks keep the id, the time and the model of the answer that was begun."""

    __slots__ = ("_shows_usage", "_state")

    def __init__(self, state: SeamState, *, shows_usage: bool) -> None:
        self._state = state
        self._shows_usage = shows_usage

    def pass_on(self, event: Event) -> bytes:
        kind, data, told = event.kind, event.data, self._state.told
        if data is None:
            if kind is EventKind.DONE:
                told.complete = True
            return event.raw if kind is EventKind.DONE or is_comment(event) else b""
        if kind is EventKind.USAGE:
            return self._chunk(data, [], data["usage"]) if self._shows_usage else b""
        if kind not in (EventKind.TOKEN, EventKind.TOOL, EventKind.FINISH):
            return b""
        choice = data["choices"][0]
        tools = (choice.get("delta") or _NO_DELTA).get("tool_calls")
        reason = finish_of(choice)
        text = self._state.fresh(event, last=bool(tools) or kind is EventKind.FINISH)
        delta: dict[str, Any] = {"content": text} if text else {}
        if tools:
            told.tools = self._state.said.tools
            delta["tool_calls"] = tools
        if kind is EventKind.FINISH:
            self._state.check_whole(reason or "")
            told.finish = reason
        elif not delta:
            return b""
        return self._chunk(data, [{**choice, "delta": delta}], data.get("usage"))

    def _chunk(self, data: dict[str, Any], choices: list[dict[str, Any]], usage: Any) -> bytes:
        told = self._state.told
        chunk = {**data, "id": told.id, "created": told.created, "model": told.model, "choices": choices}
        if usage is not None:
            total = told.usage = self._state.total(usage)
            chunk["usage"] = _usage(total)
        return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _usage(total: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": total.input_tokens,
        "completion_tokens": total.output_tokens,
        "total_tokens": total.input_tokens + total.output_tokens,
        "prompt_tokens_details": {"cached_tokens": total.cached_tokens},
    }
