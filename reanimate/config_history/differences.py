"""What is different between two contents: line by line for text, value by value for settings, sizes for the rest.

Secrets are hidden here, after comparing: that one was changed shows, what it was does not.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from reanimate.config_history.masking import MASK, masked_json, masked_text

__all__ = ["Line", "compare", "compare_json"]

_CONTEXT = 3
_MISSING = object()


@dataclass(frozen=True)
class Line:
    """One line to print."""

    kind: Literal["head", "same", "less", "more", "note"]
    text: str


def compare(before: bytes | None, after: bytes | None, *, names: tuple[str, str], settings: bool) -> list[Line]:
    """Compare two contents; None is one that is not there. Nothing comes back when they are the same."""
    if before == after:
        return []
    head = [Line("head", f"--- {names[0]}"), Line("head", f"+++ {names[1]}")]
    if settings and before is not None and after is not None:
        return [*head, *compare_json(json.loads(before), json.loads(after))]
    texts = [_text(before), _text(after)]
    if texts[0] is None or texts[1] is None:
        return [*head, Line("note", f"binary: {_size(before)} before, {_size(after)} after")]
    return [*head, *_lines(texts[0], texts[1])]


def compare_json(before: Any, after: Any) -> list[Line]:
    """Compare two JSON values, a line for each value that differs, named by its path."""
    return [*_walk("", before, after, hidden=False)]


def _walk(path: str, before: Any, after: Any, *, hidden: bool) -> Iterator[Line]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted(before.keys() | after.keys()):
            old, new = before.get(key, _MISSING), after.get(key, _MISSING)
            secret = hidden or masked_json({key: "x"}) == {key: MASK}
            yield from _walk(f"{path}.{key}" if path else str(key), old, new, hidden=secret)
    elif before != after:
        if before is not _MISSING:
            yield Line("less", f"{path}: {_shown(before, hidden=hidden)}")
        if after is not _MISSING:
            yield Line("more", f"{path}: {_shown(after, hidden=hidden)}")


def _shown(value: Any, *, hidden: bool) -> str:
    if hidden and isinstance(value, str):
        return MASK
    return json.dumps(masked_json(value), ensure_ascii=False, sort_keys=True)


def _lines(before: str, after: str) -> Iterator[Line]:
    """Compare as they are, show as they may be seen: masking keeps the lines."""
    old, new = before.splitlines(), after.splitlines()
    shown_old, shown_new = masked_text(before).splitlines(), masked_text(after).splitlines()
    ends = [text.endswith("\n") or not text for text in (before, after)]
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for group in matcher.get_grouped_opcodes(_CONTEXT):
        yield Line("head", f"@@ -{_span(group[0][1], group[-1][2])} +{_span(group[0][3], group[-1][4])} @@")
        for tag, a1, a2, b1, b2 in group:
            if tag == "equal":
                yield from (Line("same", f" {line}") for line in shown_old[a1:a2])
                continue
            yield from (Line("less", f"-{line}") for line in shown_old[a1:a2])
            yield from (Line("more", f"+{line}") for line in shown_new[b1:b2])
    if ends[0] != ends[1]:
        yield Line("note", "the last line ends without a line break " + ("before" if not ends[0] else "after"))
    elif old == new:
        yield Line("note", "only the line ends differ")


def _span(begin: int, end: int) -> str:
    return f"{begin + 1 if end > begin else begin},{end - begin}"


def _text(content: bytes | None) -> str | None:
    """Return a content as text; None when it is none. What is not there is empty."""
    if content is None:
        return ""
    if b"\0" in content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _size(content: bytes | None) -> str:
    return "nothing" if content is None else f"{len(content)} bytes"
