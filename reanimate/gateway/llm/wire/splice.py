"""Changing a few top-level fields of a JSON body, and no other byte of it."""

import re
from collections.abc import Iterator, Mapping

import orjson

__all__ = ["splice", "splice_model"]

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]', re.DOTALL)
_MODEL = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)
_SPACE = b" \t\r\n"


def splice_model(raw: bytes, new: str) -> bytes:
    """Return `raw`, a JSON object that has a model, with the model `new`."""
    # A quote within a string is escaped, so where "model" stands but once it is the key, if that is not escaped itself.
    if raw.count(b'"model"') == 1 and b"\\u006" not in raw:
        found = _MODEL.search(raw, raw.index(b'"model"'))
        if found is not None:
            start, end = found.span(1)
            return b"".join((raw[:start], orjson.dumps(new), raw[end:]))
    return splice(raw, {"model": orjson.dumps(new)})


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
