"""The events of Anthropic's messages."""

from typing import Any

from reanimate.gateway.llm.wire.events import EventKind, Facts, GrowingCall
from reanimate.gateway.llm.wire.usage import merge_usage, read_usage

__all__ = ["MessagesEvents"]

_TOOLS = ("tool_use", "server_tool_use", "mcp_tool_use")


class MessagesEvents:
    """Types that are not known pass as PING: the vendor says that there may be new ones."""

    __slots__ = ()

    def classify(self, facts: Facts, name: bytes, data: dict[str, Any]) -> tuple[EventKind, str]:
        """Say what an event is, and keep what it tells in `facts`.

        Raises:
            LookupError, TypeError, ValueError, AttributeError: it is not built as the wire says.
        """
        kind = data.get("type")
        if kind == "content_block_delta":
            return _delta(facts, data["delta"])
        if type(kind) is not str:
            if data.get("error"):
                return EventKind.ERROR, _error_text(data)
            raise ValueError("no type")
        if name == b"error":
            return EventKind.ERROR, _error_text(data)
        known = _KNOWN.get(kind)
        return known(facts, data) if known is not None else (EventKind.PING, "")


def _delta(facts: Facts, delta: dict[str, Any]) -> tuple[EventKind, str]:
    kind = delta["type"]
    if kind == "text_delta":
        text = delta["text"]
        if type(text) is not str:
            raise TypeError("the text is no string")
        facts.text_parts.append(text)
        return (EventKind.TOKEN if text else EventKind.START), text
    if kind == "input_json_delta":
        piece = delta["partial_json"]
        if type(piece) is not str:
            raise TypeError("partial_json is no string")
        facts.tools[-1].parts.append(piece)
        return EventKind.TOOL, ""
    if kind == "thinking_delta":
        facts.thinking = True
        return EventKind.TOKEN, ""
    if kind == "citations_delta":
        facts.welded = "citations"
    return EventKind.PING, ""


def _start(facts: Facts, data: dict[str, Any]) -> tuple[EventKind, str]:
    message = data["message"]
    facts.id, facts.model = message.get("id") or "", message.get("model") or ""
    _usage(facts, message)
    return EventKind.START, ""


def _block_start(facts: Facts, data: dict[str, Any]) -> tuple[EventKind, str]:
    block = data["content_block"]
    kind: str = block["type"]
    facts.blocks = data["index"] + 1
    facts.open_block = kind
    if kind == "text":
        text = block.get("text") or ""
        if text:
            facts.text_parts.append(text)
            return EventKind.TOKEN, text
        return EventKind.START, ""
    if kind in _TOOLS:
        facts.tools.append(GrowingCall(data["index"], block.get("id") or "", block.get("name") or ""))
        return EventKind.TOOL, ""
    if kind in ("thinking", "redacted_thinking"):
        facts.thinking = True
        return EventKind.START, ""
    facts.welded = f"a content block of type {kind}"
    return EventKind.TOOL, ""


def _block_stop(facts: Facts, data: dict[str, Any]) -> tuple[EventKind, str]:
    if facts.open_block in _TOOLS and facts.tools:
        facts.tools[-1].is_whole = True
    facts.open_block = None
    return EventKind.PING, ""


def _message_delta(facts: Facts, data: dict[str, Any]) -> tuple[EventKind, str]:
    _usage(facts, data)
    reason = data["delta"].get("stop_reason")
    if reason is None:
        return EventKind.USAGE, ""
    facts.finish = reason
    return EventKind.FINISH, ""


def _message_stop(facts: Facts, data: dict[str, Any]) -> tuple[EventKind, str]:
    facts.complete = True
    return EventKind.DONE, ""


def _error(facts: Facts, data: dict[str, Any]) -> tuple[EventKind, str]:
    return EventKind.ERROR, _error_text(data)


def _usage(facts: Facts, holder: dict[str, Any]) -> None:
    usage = read_usage(holder.get("usage"))
    if usage is not None:
        facts.usage = merge_usage(facts.usage, usage)


def _error_text(data: dict[str, Any]) -> str:
    error = data.get("error") or data
    if isinstance(error, dict):
        error = f"{error.get('type', 'error')}: {error.get('message', '')}"
    return str(error)[:500]


_KNOWN = {
    "message_start": _start,
    "content_block_start": _block_start,
    "content_block_stop": _block_stop,
    "message_delta": _message_delta,
    "message_stop": _message_stop,
    "error": _error,
}
