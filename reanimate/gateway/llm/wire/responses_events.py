"""The events of OpenAI's responses."""

from typing import Any

from reanimate.gateway.llm.wire.events import EventKind, Facts, GrowingCall, error_text
from reanimate.gateway.llm.wire.usage import read_usage

__all__ = ["ResponsesEvents"]

_WORDS = ("response.reasoning_text.delta", "response.reasoning_summary_text.delta", "response.refusal.delta")


class ResponsesEvents:
    """Types that are not known pass as PING."""

    __slots__ = ()

    def classify(self, facts: Facts, name: bytes, data: dict[str, Any]) -> tuple[EventKind, str]:
        """Say what an event is, and keep what it tells in `facts`.

        Raises:
            LookupError, TypeError, ValueError, AttributeError: it is not built as the wire says.
        """
        kind = data.get("type")
        facts.sequence = data.get("sequence_number") or facts.sequence + 1
        if kind == "response.output_text.delta":
            return _text(facts, data)
        if type(kind) is not str:
            if data.get("error"):
                return EventKind.ERROR, error_text(data["error"])
            raise ValueError("no type")
        if kind in ("error", "response.failed"):
            return EventKind.ERROR, error_text(data.get("error") or (data.get("response") or {}).get("error") or data)
        if kind in ("response.completed", "response.incomplete"):
            return _finish(facts, data["response"])
        if kind in ("response.created", "response.in_progress", "response.queued"):
            return _start(facts, data["response"])
        if kind == "response.output_item.added":
            return _item(facts, data)
        if kind.endswith("_call_arguments.delta") or kind == "response.custom_tool_call_input.delta":
            return _arguments(facts, data)
        if kind in ("response.output_item.done", "response.function_call_arguments.done"):
            return _whole(facts, data)
        if kind in _WORDS:
            if kind == "response.refusal.delta":
                facts.welded = "a refusal"
                facts.refused = True
            else:
                facts.thinking = True
            return EventKind.TOKEN, ""
        if kind == "response.output_text.done":
            facts.open_block = None
            facts.closing = 1
        elif kind == "response.content_part.done":
            facts.closing = 2
        elif kind == "response.output_text.annotation.added":
            facts.welded = "annotations"
        elif kind == "response.content_part.added" and data["content_index"] > 0:
            facts.welded = "several parts of content"
        return EventKind.PING, ""


def _text(facts: Facts, data: dict[str, Any]) -> tuple[EventKind, str]:
    text = data["delta"]
    if type(text) is not str:
        raise TypeError("the delta is no string")
    if data.get("logprobs"):
        facts.welded = "log probabilities"
    facts.text_parts.append(text)
    return (EventKind.TOKEN if text else EventKind.START), text


def _start(facts: Facts, response: dict[str, Any]) -> tuple[EventKind, str]:
    facts.response = response
    facts.id, facts.model = response.get("id") or "", response.get("model") or ""
    facts.created = response.get("created_at") or 0
    return EventKind.START, ""


def _item(facts: Facts, data: dict[str, Any]) -> tuple[EventKind, str]:
    item = data["item"]
    kind: str = item["type"]
    facts.blocks = data["output_index"] + 1
    facts.open_block = kind
    if kind == "message":
        facts.item = (item["id"], data["output_index"], len(facts.text_parts))
        facts.closing = 0
        return EventKind.START, ""
    if kind == "reasoning":
        facts.thinking = True
        return EventKind.START, ""
    facts.tools.append(
        GrowingCall(data["output_index"], item.get("call_id") or item.get("id") or "", item.get("name") or "")
    )
    return EventKind.TOOL, ""


def _arguments(facts: Facts, data: dict[str, Any]) -> tuple[EventKind, str]:
    index = data["output_index"]
    call = next((call for call in reversed(facts.tools) if call.index == index), None)
    if call is None or type(data["delta"]) is not str:
        raise ValueError("arguments of no call")
    call.parts.append(data["delta"])
    return EventKind.TOOL, ""


def _whole(facts: Facts, data: dict[str, Any]) -> tuple[EventKind, str]:
    for call in facts.tools:
        if call.index == data["output_index"]:
            call.is_whole = True
    if data["type"] == "response.output_item.done":
        facts.items.append(data["item"])
        if data["item"].get("type") == "message":
            facts.closing = 3
        facts.open_block = None
    return EventKind.PING, ""


def _finish(facts: Facts, response: dict[str, Any]) -> tuple[EventKind, str]:
    facts.usage = read_usage(response.get("usage")) or facts.usage
    cut_by = (response.get("incomplete_details") or {}).get("reason")
    facts.finish = cut_by or response.get("status") or "completed"
    facts.complete = True
    return EventKind.FINISH, ""
