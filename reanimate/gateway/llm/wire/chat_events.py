"""The chunks of OpenAI's chat completions."""

from typing import Any

from reanimate.gateway.llm.wire.events import EventKind, Facts, GrowingCall, error_text
from reanimate.gateway.llm.wire.usage import merge_usage, read_usage

__all__ = ["BROKE_OFF", "ChatEvents", "finish_of"]

_NO_DELTA: dict[str, Any] = {}
_LEGACY_CALL = -1
"""The index that the single call of the older `function_call` is kept under."""
_NOT_YET = ("", "null")
BROKE_OFF = ("error", "insufficient_system_resource")
"""With these words OpenRouter and DeepSeek say within an answer that they failed."""


def finish_of(choice: dict[str, Any]) -> str | None:
    """Return why a choice has ended; None while it has not, for which some servers write an empty word, or "null".

    Raises:
        TypeError: it says so in something that is no word.
    """
    reason = choice.get("finish_reason")
    if reason is None or reason in _NOT_YET:
        return None
    if type(reason) is not str:
        raise TypeError("finish_reason is no string")
    return reason


class ChatEvents:
    """`choices` is how many the caller asked for: the answer ends when all of them have.

    Some servers give one only, whatever is asked for: at the stream's own end mark those count that have begun.
    """

    __slots__ = ("_begun", "_choices", "_ended")

    def __init__(self, choices: int = 1) -> None:
        self._choices = choices
        self._begun: set[int] = set()
        self._ended: set[int] = set()

    def classify(self, facts: Facts, name: bytes, data: dict[str, Any]) -> tuple[EventKind, str]:
        """Say what a chunk is, and keep what it tells in `facts`.

        Raises:
            LookupError, TypeError, ValueError, AttributeError: it is not built as the wire says.
        """
        if name == b"error" or data.get("error") or data.get("object") == "error":
            return EventKind.ERROR, error_text(data.get("error") or data)
        if not facts.id:
            facts.id, facts.model = data.get("id") or "", data.get("model") or ""
            facts.created = data.get("created") or 0
        usage = read_usage(data["usage"]) if "usage" in data else None
        if usage is not None:
            facts.usage = merge_usage(facts.usage, usage)
        choices = data.get("choices")
        if not choices:
            if usage is not None:
                return EventKind.USAGE, ""
            if choices is None:
                raise ValueError("no choices")
            return EventKind.START, ""
        kind, text = EventKind.START, ""
        for choice in choices:
            its_kind, its_text = self._choice(facts, choice)
            kind = _weightier(kind, its_kind)
            text += its_text
        return kind, text

    def _choice(self, facts: Facts, choice: dict[str, Any]) -> tuple[EventKind, str]:
        index = choice.get("index", 0)
        if index or self._choices > 1:
            facts.several = True
            facts.finish_if_done = None
            self._begun.add(index)
        reason = finish_of(choice)
        if reason in BROKE_OFF:
            return EventKind.ERROR, f"the answer ended with the finish reason {reason!r}"
        delta = choice.get("delta") or _NO_DELTA
        kind = EventKind.START
        text = delta.get("content") or ""
        if text:
            kind = EventKind.TOKEN
            if type(text) is str:
                if not index:
                    facts.text_parts.append(text)
            else:
                text = _text_of_parts(facts, text)
        if len(delta) > 1 or not text:
            kind = _weightier(kind, self._rest_of(facts, delta))
        if choice.get("logprobs"):
            facts.welded = "log probabilities"
        if facts.finish is not None and kind is not EventKind.START:
            facts.went_on = True
        if reason is not None:
            self._ended.add(index)
            if len(self._ended) >= self._choices:
                facts.finish = reason
                facts.may_go_on = kind is not EventKind.START
                for call in facts.tools:
                    call.is_whole = True
            elif self._ended >= self._begun:
                facts.finish_if_done = reason
            return EventKind.FINISH, text
        return kind, text

    def _rest_of(self, facts: Facts, delta: dict[str, Any]) -> EventKind:
        """Look at what a delta has besides text."""
        kind = EventKind.START
        if delta.get("reasoning_content") or delta.get("reasoning"):
            facts.thinking = True
            kind = EventKind.TOKEN
        if delta.get("refusal"):
            facts.welded = "a refusal"
            facts.refused = True
            kind = EventKind.TOKEN
        if delta.get("audio"):
            facts.welded = "audio"
            kind = EventKind.TOKEN
        if (older := delta.get("function_call")) is not None:
            _tool_piece(facts, _LEGACY_CALL, "", older)
            kind = EventKind.TOOL
        for item in delta.get("tool_calls") or ():
            _tool_piece(facts, item.get("index", 0), item.get("id") or "", item.get("function") or _NO_DELTA)
            kind = EventKind.TOOL
        return kind


_WEIGHT = {kind: weight for weight, kind in enumerate(EventKind)}


def _weightier(one: EventKind, other: EventKind) -> EventKind:
    return one if _WEIGHT[one] >= _WEIGHT[other] else other


def _tool_piece(facts: Facts, index: int, call_id: str, function: dict[str, Any]) -> None:
    tools = facts.tools
    call = next((call for call in reversed(tools) if call.index == index), None)
    if call is None or (call_id and call.id and call_id != call.id):
        # Servers that send whole calls give several of them the same index.
        for earlier in tools:
            earlier.is_whole = True
        call = GrowingCall(index, call_id, function.get("name") or "")
        tools.append(call)
    if (piece := function.get("arguments")) is not None:
        call.parts.append(piece if type(piece) is str else _refuse_arguments())


def _refuse_arguments() -> str:
    raise TypeError("the arguments of a tool call are no string")


def _text_of_parts(facts: Facts, parts: Any) -> str:
    """Some servers send a list of typed parts instead of text."""
    if type(parts) is not list:
        raise TypeError("content is neither text nor a list")
    facts.welded = "content in parts"
    text = "".join(part["text"] for part in parts if part.get("type") == "text")
    facts.text_parts.append(text)
    return text
