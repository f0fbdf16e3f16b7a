"""Figures and tables of the paper part: few of them, the rest in appendices, and events dated."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import jupytext
import pytest
import yaml
from bs4 import BeautifulSoup
from pybtex.database import parse_file  # type: ignore[import-untyped]

from paper.project import events
from support import PROJECT

BOOK = PROJECT / "book"
TOC = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))
PAPER = ["index", *(chapter["file"] for chapter in TOC["parts"][0]["chapters"])]
MOST = 12
EVENTS: list[dict[str, Any]] = yaml.safe_load((PROJECT / "data/events.yaml").read_text("utf-8"))
SITES = yaml.safe_load((PROJECT / "data/sites.yaml").read_text("utf-8"))


def declared(page: str) -> list[str]:
    """Give the names of the figures that a page declares, drawings included."""
    if page.startswith("notebooks/"):
        cells = jupytext.read(PROJECT / f"{page}.py", fmt="py:percent").cells
        return [c.metadata["mystnb"]["figure"]["name"] for c in cells if "mystnb" in c.metadata]
    text = (BOOK / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"(?ms)^```\{(?:figure|graphviz|image)\}.*?^:name: (\S+)$.*?^```$", text)


def test_the_paper_has_few_figures():
    figures = [name for page in PAPER for name in declared(page)]
    assert len(set(figures)) == len(figures) <= MOST, figures


def test_the_chapter_on_validation_leaves_its_tables_to_the_appendix():
    chapter, appendix = (
        (PROJECT / f"notebooks/{name}.py").read_text(encoding="utf-8")
        for name in ("validation", "validation_appendix")
    )
    assert chapter.count("GT(") == 0
    assert appendix.count("GT(") > 5


@pytest.mark.slow
class TestBuilt:
    def test_the_paper_has_few_figures(self, built):
        numbers = [
            number.get_text(strip=True)
            for page in PAPER
            if (built / f"{page}.html").exists()
            for number in BeautifulSoup(
                (built / f"{page}.html").read_text(encoding="utf-8"), "html.parser"
            ).select("figcaption .caption-number")
        ]
        assert 3 < len(numbers) <= MOST, numbers

    def test_most_of_what_two_sites_say_is_their_own(self, built):
        """What holds for every site stands once, on a page of its own."""
        told = []
        for site in ("chi_tacc", "chi_uc"):
            path = built / "notebooks" / f"{site}.html"
            if not path.exists():
                pytest.skip(f"this book has no page of {site}")
            page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
            article = page.select_one("article")
            assert article
            for other in article.select("script, style, .chart, table, .cell, figcaption"):
                other.decompose()
            paragraphs = [" ".join(p.get_text().split()) for p in article.select("p, li")]
            told.append([p for p in paragraphs if p])
        one, other = told
        same = sum(len(p.split()) for p in one if p in other)
        assert same < 0.2 * sum(len(p.split()) for p in one), [p for p in one if p in other]


class TestEvents:
    @pytest.mark.parametrize("event", EVENTS, ids=lambda e: f"{e['site']}-{e['date']}")
    def test_each_says_what_happened_and_where_it_stands(self, event):
        needed = {"site", "date", "label", "text", "source", "where"}
        assert needed <= set(event) <= needed | {"all_sites"}
        assert event["site"] in SITES
        assert isinstance(event["date"], date)
        assert len(event["label"]) <= 16, "a label stands beside others"
        assert event["source"] in parse_file(str(BOOK / "references.bib")).entries
        assert event["text"].strip()
        assert event["where"].strip()

    def test_no_event_is_told_twice(self):
        keys = [(event["site"], event["date"]) for event in EVENTS]
        assert sorted(keys) == sorted(set(keys))

    def test_a_figure_of_all_sites_marks_the_largest_only(self):
        own, of_all = events(list(SITES)), events(list(SITES), of_all=True)
        assert 0 < of_all.height < 0.5 * own.height
        assert of_all.join(own, on=own.columns, how="anti").is_empty()
        assert events(["somewhere"]).is_empty()
