"""What both directions of the translation share: refusing by name, and reading what is given."""

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = [
    "CannotCarry", "blocks_of", "call_id_of", "check_numbers", "data_url", "is_closed", "is_strict", "no_others",
    "parse_data_url", "unset",
]  # fmt: skip

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,", re.ASCII)


_MANY_DIGITS = re.compile(r"\d{20}", re.ASCII)
_MANY_DIGITS_IN_BYTES = re.compile(rb"\d{20}")


class CannotCarry(Exception):
    """Something of the request or the answer has no place on the other wire. `what` names it."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def unset(fields: Mapping[str, Any], name: str, *values: Any, called: str = "") -> None:
    """Let a field pass by that is absent, null, or at one of these values, at which it says nothing.

    Raises:
        CannotCarry: it says something.
    """
    value = fields.get(name)
    if value is not None and not any(value == harmless and type(value) is type(harmless) for harmless in values):
        raise CannotCarry(called or name)


def no_others(fields: Mapping[str, Any], known: frozenset[str], where: str = "") -> None:
    """Refuse what is not known: nobody can say what it means.

    Raises:
        CannotCarry: there is an unknown field with a value.
    """
    if fields.keys() <= known:
        return
    for name in fields.keys() - known:
        if fields[name] is not None:
            raise CannotCarry(f"{where}{name}")


def check_numbers(raw: str | bytes, read: Any) -> None:
    """Refuse JSON whose numbers were not `read` to the last digit: those of more than 64 bits become others.

    Raises:
        CannotCarry: there is one.
    """
    many = _MANY_DIGITS.search(raw) if isinstance(raw, str) else _MANY_DIGITS_IN_BYTES.search(raw)
    if many is not None and json.loads(raw) != read:
        raise CannotCarry("a number of more than 64 bits")


def blocks_of(content: Any) -> Iterator[dict[str, Any]]:
    """Yield the parts of a content; text alone is one part.

    Raises:
        CannotCarry: it is no content.
    """
    if isinstance(content, str):
        yield {"type": "text", "text": content}
        return
    if not isinstance(content, list):
        raise CannotCarry(f"content that is {type(content).__name__}")
    for block in content:
        if not isinstance(block, dict):
            raise CannotCarry(f"content that holds {type(block).__name__}")
        yield block


def call_id_of(call: dict[str, Any]) -> str:
    """Return the id of a tool call; a new one where the server gave none, as some do: its result is known by it."""
    return call.get("id") or f"call_{secrets.token_hex(12)}"


def data_url(media_type: str, data: str) -> str:
    return f"data:{media_type};base64,{data}"


def parse_data_url(url: str) -> tuple[str, str] | None:
    """Return media type and base64 text of a data URL; None if it is another kind of URL.

    Raises:
        CannotCarry: it is a data URL of another encoding.
    """
    if not url.startswith("data:"):
        return None
    found = _DATA_URL.match(url)
    if found is None:
        raise CannotCarry("images as data URLs that are not base64")
    return found.group(1), url[found.end() :]


def is_closed(schema: Any) -> bool:
    """Say whether a JSON schema allows no property that it does not name: Anthropic takes no other."""
    return all(part.get("additionalProperties") is False for part in _objects(schema))


def is_strict(schema: Any) -> bool:
    """Say whether it demands each property that it names, too: OpenAI takes no other as strict."""
    return is_closed(schema) and all(
        set(part.get("required") or ()) == set(part.get("properties") or ()) for part in _objects(schema)
    )


def _objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield the schemas of objects within a schema."""
    stack = [schema]
    while stack:
        part = stack.pop()
        if not isinstance(part, dict):
            continue
        kind = part.get("type")
        if kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in part:
            yield part
        for name in ("properties", "$defs", "definitions", "patternProperties"):
            if isinstance(inner := part.get(name), dict):
                stack += inner.values()
        for name in ("anyOf", "oneOf", "allOf", "prefixItems"):
            if isinstance(inner := part.get(name), list):
                stack += inner
        stack += [part.get("items"), part.get("not")]
