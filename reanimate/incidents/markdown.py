"""Markdown in which no text of a sender can format, link or break anything, and pointers to timeline entries. Pure."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from reanimate.incidents.wording import readable

__all__ = ["escape", "refs", "table"]


def escape(value: Any, limit: int = 300) -> str:
    """Return `value` as one line of plain text in Markdown: whatever a sender wrote, it formats and links nothing."""
    text = " ".join(readable(value).split())
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~$])", r"\\\1", text)
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)
    return re.sub(r"^([#+-])|^(\d+)([.)])(?=\s|$)", _not_a_list, text)


def _not_a_list(found: re.Match[str]) -> str:
    """Keep the start of a line from reading as a heading or a list."""
    return f"\\{found[1]}" if found[1] else f"{found[2]}\\{found[3]}"


def refs(numbers: Iterable[int]) -> str:
    """Return pointers to timeline entries, each after a space: ` [#1] [#2]`."""
    found = sorted(set(numbers))
    return "".join(f" [#{number}]" for number in found[:6]) + (f" and {len(found) - 6} more" if len(found) > 6 else "")


def table(head: Sequence[str], align: str, rows: Iterable[Sequence[str]]) -> str:
    """Return a table; `align` has one letter (l or r) for each column."""
    lines = [head, [{"l": "---", "r": "--:"}[letter] for letter in align], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
