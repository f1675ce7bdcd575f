"""Changing a few top-level fields of a JSON body, and no other byte of it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

__all__ = ["model_span", "splice"]

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]', re.DOTALL)
_FIRST = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"model"[ \t\r\n]*:[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)
_VALUE = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)
_NAME = b'"model"'
_ESCAPED = b"\\u006"
"""With which the letters of "model" can be written, and never are."""
_SPACE = b" \t\r\n"
_BACKSLASH = ord("\\")


def model_span(raw: bytes, fields: dict[str, Any]) -> tuple[int, int] | None:
    """Return where the model's name stands in `raw`, of which `fields` are the top-level fields, if that is quick.

    Reading a long body once more costs more than everything else that is done with it: only its two ends are read,
    where the vendors' clients put the name. That it stands nowhere else must be known: of two names servers take the
    one or the other, and who asks could choose a model that the route does not have.
    """
    if _ESCAPED in raw:
        return None
    if next(iter(fields)) == "model":
        found = _FIRST.match(raw)
        if found is not None and raw.find(_NAME, found.end()) < 0 and orjson.loads(found.group(1)) == fields["model"]:
            return found.span(1)
        return None
    at = raw.rfind(_NAME)
    found = _VALUE.match(raw, at) if at > 0 and raw[at - 1] != _BACKSLASH and raw.find(_NAME, 0, at) < 0 else None
    if found is None:
        return None
    try:
        # Within another value, or a string, what follows would not be the rest of an object.
        rest = orjson.loads(b'{"model":' + raw[found.start(1) :])
    except orjson.JSONDecodeError:
        return None
    names = list(fields)
    return found.span(1) if list(rest) == names[names.index("model") :] else None


def splice(raw: bytes, values: Mapping[str, bytes]) -> bytes:
    """Return the JSON object `raw` with its top-level fields of these names set to these JSON values.

    A field that stands there twice is set twice: servers differ in which they take.
    """
    parts: list[bytes] = []
    at = 0
    missing = dict(values)
    for name, start, end in _fields(raw):
        if name in values:
            parts += (raw[at:start], values[name])
            at = end
            missing.pop(name, None)
    close = raw.rindex(b"}")
    parts.append(raw[at:close].rstrip(_SPACE) if missing else raw[at:close])
    is_empty = raw[:close].strip(_SPACE) == b"{"
    for name, value in missing.items():
        parts += (b"" if is_empty else b",", orjson.dumps(name), b":", value)
        is_empty = False
    parts.append(raw[close:])
    return b"".join(parts)


def _fields(raw: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield the name of each top-level field, and where its value starts and ends."""
    depth = 0
    name: str | None = None
    key = b""
    start = 0
    for token in _TOKEN.finditer(raw):
        what = token.group()
        if what in (b"{", b"["):
            depth += 1
        elif what in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                if name is not None:
                    yield name, start, _end(raw, start, token.start())
                return
        elif depth != 1:
            continue
        elif what == b",":
            if name is not None:
                yield name, start, _end(raw, start, token.start())
            name = None
        elif what == b":":
            name = orjson.loads(key)
            start = token.end()
            while raw[start] in _SPACE:
                start += 1
        elif name is None:
            key = what


def _end(raw: bytes, start: int, stop: int) -> int:
    return start + len(raw[start:stop].rstrip(_SPACE))
