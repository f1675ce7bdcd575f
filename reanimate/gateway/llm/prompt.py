"""What a caller asks, read as far as policies must know it; the bytes themselves stay as they came."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from reanimate.errors import InputInvalid
from reanimate.gateway.llm.endpoints import Endpoint, Shape

__all__ = ["BYTES_PER_TOKEN", "Needs", "Prompt", "read_prompt"]

BYTES_PER_TOKEN = 4
"""A usual ratio for English; other languages need more tokens. It is corrected by what was really used."""
_TOKENS_PER_IMAGE = 1_000
_USUAL_OUTPUT = 1_024
"""Reserved for an answer whose length the caller does not bound."""


@dataclass(slots=True)  # not frozen: that would cost a microsecond for each call
class Needs:
    """What a target must be able to do."""

    input_tokens: int
    """An estimate."""
    output_tokens: int
    """The caller's bound, else a usual length."""
    tools: bool
    vision: bool
    structured_output: bool
    prefill: bool
    """The conversation ends within an assistant's message."""


@dataclass(slots=True)  # not frozen, as above
class Prompt:
    """One request body. `fields` is it decoded; never changed in place."""

    endpoint: Endpoint
    model: str
    stream: bool
    raw: bytes = field(repr=False)
    fields: dict[str, Any] = field(repr=False)
    needs: Needs


def read_prompt(endpoint: Endpoint, raw: bytes) -> Prompt:
    """Read a request body.

    Raises:
        InputInvalid: it is not a JSON object, or names no model.
    """
    try:
        fields = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InputInvalid(f"the request body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InputInvalid("the request body is not a JSON object")
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise InputInvalid("the request names no model")
    stream = fields.get("stream", False)
    if not isinstance(stream, bool | None):
        raise InputInvalid("stream is neither true nor false")
    return Prompt(endpoint, model, bool(stream) and endpoint.streams, raw, fields, _needs(endpoint, raw, fields))


def _needs(endpoint: Endpoint, raw: bytes, fields: dict[str, Any]) -> Needs:
    vision, image_bytes, images = _images(raw, fields)
    bound = (
        fields.get("max_completion_tokens") or fields.get("max_output_tokens") or fields.get("max_tokens")
        if endpoint.streams
        else 0
    )
    return Needs(
        input_tokens=(len(raw) - image_bytes) // BYTES_PER_TOKEN + images * _TOKENS_PER_IMAGE,
        output_tokens=bound if isinstance(bound, int) and bound >= 0 else _USUAL_OUTPUT,
        tools=bool(fields.get("tools") or fields.get("functions")),
        vision=vision,
        structured_output=_is_structured(fields),
        prefill=_ends_with_assistant(endpoint, fields),
    )


def _is_structured(fields: dict[str, Any]) -> bool:
    asked = fields.get("response_format")
    if asked is None and isinstance(text := fields.get("text"), dict):
        asked = text.get("format")
    if asked is None and isinstance(output := fields.get("output_config"), dict):
        asked = output.get("format")
    return isinstance(asked, dict) and asked.get("type") in ("json_object", "json_schema")


def _ends_with_assistant(endpoint: Endpoint, fields: dict[str, Any]) -> bool:
    if endpoint.shape not in (Shape.CHAT, Shape.MESSAGES):
        return False
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        return False
    return messages[-1].get("role") == "assistant" and not messages[-1].get("tool_calls")


def _images(raw: bytes, fields: dict[str, Any]) -> tuple[bool, int, int]:
    """Return whether there are images, the bytes that they take in the body, and how many they are."""
    if (_is_text(fields.get("messages")) and _is_text(fields.get("input"))) or b"image" not in raw:
        return False, 0, 0
    count = size = 0
    stack: list[Any] = [fields.get("messages"), fields.get("input")]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            if item.get("type") in ("image_url", "image", "input_image"):
                count += 1
                size += _text_size(item)
            else:
                stack.extend(value for value in item.values() if isinstance(value, list | dict))
    return count > 0, size, count


def _is_text(items: Any) -> bool:
    """Say whether messages have nothing but text in them, if that is plain to see: a long body takes long to search."""
    if not isinstance(items, list):
        return items is None or isinstance(items, str)
    for item in items:
        if isinstance(item, dict):
            if "type" in item:
                return False
            for value in item.values():
                if type(value) is list or type(value) is dict:  # as orjson makes them; a third of isinstance's time
                    return False
        elif not isinstance(item, str):
            return False
    return True


def _text_size(item: Any) -> int:
    if isinstance(item, str):
        return len(item)
    if isinstance(item, dict):
        return sum(_text_size(value) for value in item.values())
    return 0
