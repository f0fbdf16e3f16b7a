"""The built pages as files: small, whole, and with links that lead somewhere."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

from support import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

BOOK = PROJECT / "book"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def parsed(pages) -> dict[Path, BeautifulSoup]:
    return {p: BeautifulSoup(p.read_text(encoding="utf-8"), "html.parser") for p in pages}


class TestFiles:
    def test_no_page_names_a_script_style_or_picture_elsewhere(self, pages):
        loads = re.compile(
            r"<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)=\"(?:https?:)?//"
        )
        assert [p.name for p in pages if loads.search(p.read_text(encoding="utf-8"))] == []

    def test_every_figure_has_a_number_a_caption_and_words(self, pages):
        figures = 0
        for page in pages:
            text = page.read_text(encoding="utf-8")
            for chart in re.findall(r'<svg role="img" aria-label="([^"]*)"', text):
                figures += 1
                assert len(chart) > 40, page.name
            numbered = text.count('class="caption-number"')
            assert numbered >= text.count('<div class="chart"'), page.name
        assert figures >= 10

    def test_no_page_is_larger_than_a_megabyte_and_a_half(self, pages):
        sizes = {p.name: p.stat().st_size for p in pages}
        assert {name: size for name, size in sizes.items() if size >= 1_500_000} == {}

    def test_pages_with_charts_load_their_script_once_and_no_other_page_does(self, parsed):
        for path, page in parsed.items():
            scripts = page.select('script[src*="charts.js"]')
            assert len(scripts) == bool(page.select(".chart")), path.name

    def test_every_link_within_the_book_leads_somewhere(self, parsed):
        ids = {p: {str(e["id"]) for e in page.select("[id]")} for p, page in parsed.items()}
        astray = []
        for path, page in parsed.items():
            for link in page.select("a[href]"):
                url = urlsplit(str(link["href"]))
                if url.scheme:
                    continue
                target = (path.parent / unquote(url.path)).resolve() if url.path else path
                there = url.fragment in {"", *ids.get(target, ())}
                if not (target.is_file() and there):
                    astray.append(f"{path.name}: {link['href']}")
        assert astray == []

    def test_no_id_stands_twice_on_a_page(self, parsed):
        for path, page in parsed.items():
            found = [e["id"] for e in page.select("[id]")]
            assert sorted(found) == sorted(set(found)), path.name


def formulas(text: str) -> list[str]:
    """Give the TeX of a page of Markdown."""
    text = re.sub(r"^(`{3,}).*?^\1|`[^`\n]+`", "", text, flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", text, re.DOTALL)
    return sorted((block or line).strip() for block, line in found)


def test_every_formula_is_an_element_with_its_tex(built, parsed):
    sources = {path.stem: path.read_text(encoding="utf-8") for path in BOOK.glob("*.md")}
    for path in (BOOK / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        told = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
        sources[path.stem] = "\n\n".join(told)
    shown = 0
    for path, page in parsed.items():
        found = sorted(str(e["alttext"]) for e in page.select("math"))
        assert found == formulas(sources.get(path.stem, "")), path.name
        assert all(e.find(True) for e in page.select("math")), path.name
        shown += len(found)
    assert shown > 10
    assert not list(built.rglob("tex-*.js"))
