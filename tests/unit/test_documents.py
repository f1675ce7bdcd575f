"""Markdown as HTML for pages."""

from reanimate.web.documents import render_document


def test_render_document__pointers_become_links() -> None:
    """A pointer to an entry is the one link that a document has."""
    html = render_document("Seen [#12], [elsewhere](http://x.example) <http://y.example>.", "/incidents/inc-1")
    assert '<a class="ref" href="/incidents/inc-1#entry-12">#12</a>' in html
    assert html.count("<a ") == 1


def test_render_document__no_html_no_styles() -> None:
    """HTML in a document is text, and tables carry classes instead of inline styles."""
    html = render_document("<img src=x onerror=alert(1)>\n\n| a | b |\n| --- | --: |\n| `<b>` | 2 |\n", "/incidents/x")
    assert "<img" not in html
    assert "style=" not in html
    assert '<td class="number">2</td>' in html
    assert "<code>&lt;b&gt;</code>" in html
