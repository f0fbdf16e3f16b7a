"""Let every reader reach what a page holds, and no page load a script that it does not use."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

DIAGRAM = re.compile(r'<object (?P<what>[^>]*)>\s*<p class="warning">(?P<told>.*?)</p>', re.DOTALL)

# Sphinx fetches each page that it found, to quote it; a browser that reads files may not.
FOUND_IN_FILES = 'DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = window.location.protocol !== "file:";'


def reachable(body: str) -> str:
    """Give the HTML of a page with what its authors cannot write.

    A diagram is a picture with words for it, and no list promises items that it does not have.
    """

    def picture(diagram: re.Match[str]) -> str:
        words = " ".join(diagram["told"].replace('"', "&quot;").split())
        return diagram[0].replace("<object ", f'<object role="img" aria-label="{words}" ', 1)

    return DIAGRAM.sub(picture, body).replace(' role="list" class="citation-list"', "")


def card(url: str, page: str, title: str, book: str, picture: str) -> str:
    """Give the Open Graph tags by which other sites show a link to a page of a published book."""
    address = url.rstrip("/")
    said = {
        "og:type": "article",
        "og:site_name": book,
        "og:title": html.unescape(re.sub(r"<[^>]*>", "", title)),
        "og:url": f"{address}/{page}.html",
        "og:image": f"{address}/_static/{picture}" if picture else "",
    }
    return "".join(
        f'<meta property="{name}" content="{html.escape(text)}" />\n'
        for name, text in said.items()
        if text
    )


def mend(app: Sphinx, page: str, _: str, context: dict[str, Any], __: nodes.document) -> None:
    """Change a page before it is written."""
    body = context.get("body", "")
    context["body"] = reachable(body)
    if app.config.html_baseurl:
        picture = "card.png" if (Path(app.srcdir) / "static" / "card.png").exists() else ""
        named = (context.get("title", ""), app.config.html_title, picture)
        tags = card(app.config.html_baseurl, page, *named)
        context["metatags"] = context.get("metatags", "") + tags
    if 'class="chart"' in body:
        app.add_js_file("charts.js", loading_method="defer")
    if page == "search":
        app.add_js_file(None, body=FOUND_IN_FILES)


def setup(app: Sphinx) -> dict[str, bool]:
    """Hook into Sphinx's writing of pages."""
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
