"""Markdown as HTML for pages: no raw HTML, no links or images but the pointers to timeline entries that we make."""

import re
from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup, escape

__all__ = ["render_document"]

_POINTER = re.compile(r"\[#(\d+)\]")


def render_document(text: str, entries_page: str) -> Markup:
    """Return `text` as safe HTML; `[#12]` becomes a link to entry 12 on `entries_page`."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    reader.disable(["link", "image", "autolink", "reference", "html_inline", "html_block"])

    def pointed(tokens: Sequence[Token], index: int, options: OptionsDict, env: Any) -> str:
        safe = str(escape(tokens[index].content))
        return _POINTER.sub(rf'<a class="ref" href="{escape(entries_page)}#entry-\1">#\1</a>', safe)

    reader.renderer.rules["text"] = pointed  # type: ignore[attr-defined]
    parsed = reader.parse(text)
    for token in parsed:
        # The pages' content policy allows no inline styles, and tables align by one.
        if "style" in token.attrs:
            del token.attrs["style"]
            token.attrSet("class", "number")
    html = reader.renderer.render(parsed, reader.options, {})
    html = html.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
    return Markup(html.replace("<li>[ ] ", '<li class="todo">'))
