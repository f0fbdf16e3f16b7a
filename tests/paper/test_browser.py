"""The built pages in a real browser: they live, ask nobody, and every reader can reach them."""

from __future__ import annotations

import shutil
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing of what was asked."""


@pytest.fixture(scope="module")
def origins(built):
    """Where the book is read from: its files, and a server on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=built))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield {"file": built.as_uri(), "server": f"http://127.0.0.1:{server.server_port}"}
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def opened(browser, origin: str, **look: Any):
    """Open a tab, with what goes wrong in it: errors, warnings, and requests to elsewhere."""
    problems: list[str] = []
    context = browser.new_context(**look)
    tab = context.new_page()
    ours = (origin, "data:", "blob:")

    def told(message: Any) -> None:
        if message.type in ("error", "warning"):
            problems.append(f"{tab.url}: {message.text}")

    def asked(request: Any) -> None:
        if not request.url.startswith(ours):
            problems.append(f"{tab.url}: asks {request.url}")

    tab.on("console", told)
    tab.on("request", asked)
    tab.on("pageerror", lambda error: problems.append(f"{tab.url}: {error}"))
    tab.on("requestfailed", lambda request: problems.append(f"{tab.url}: failed {request.url}"))
    yield tab, problems
    context.close()


# The words of cells that lie on more than one line; a line may end after what joins two words.
BROKEN_WORDS = """() => [...document.querySelectorAll("article :is(td, th)")].flatMap(cell => {
  const broken = [], texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    for (const word of text.data.matchAll(/[^\\s\\-\\u2013\\u2014\\/]+/g)) {
      const range = document.createRange();
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      const boxes = [...range.getClientRects()].filter(box => box.width);
      if (new Set(boxes.map(box => Math.round(box.top))).size > 1) broken.push(word[0]);
    }
  }
  return broken;
})"""
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
LOOKS = [("file", "light", 1300), ("server", "dark", 800), ("file", "dark", 400)]


@dataclass(frozen=True)
class Visit:
    """What a reader meets who scrolls through all pages of the book."""

    problems: list[str]
    charts: dict[str, list[int]]
    findings: list[str]
    too_wide: dict[str, int]
    broken: dict[str, list[str]]


@pytest.fixture(scope="module", params=LOOKS, ids=lambda look: "-".join(map(str, look)))
def visit(request, built, pages, browser, origins) -> Visit:
    from axe_playwright_python.sync_playwright import Axe

    origin, theme, width = request.param
    window = {"width": width, "height": 900}
    with opened(browser, origins[origin], color_scheme=theme, viewport=window) as (tab, problems):
        seen = Visit(problems, {}, [], {}, {})
        for page in pages:
            tab.goto(f"{origins[origin]}/{page.relative_to(built)}")
            for chart in tab.locator(".chart").all():
                chart.scroll_into_view_if_needed()
                tab.wait_for_function(
                    "chart => chart.dataset.live === 'true'", arg=chart.element_handle()
                )
                seen.charts.setdefault(page.stem, []).append(chart.locator("svg").count())
            tab.wait_for_load_state("load")
            seen.too_wide[page.stem] = tab.evaluate(TOO_WIDE)
            seen.broken[page.stem] = tab.evaluate(BROKEN_WORDS)
            judged = Axe().run(tab, options={"preload": False, "resultTypes": ["violations"]})
            seen.findings.extend(
                f"{page.stem}: {found['id']}: {node['html'][:200]}"
                for found in judged.response["violations"]
                if found["impact"] in ("serious", "critical")
                for node in found["nodes"]
            )
    return seen


class TestVisit:
    def test_no_page_asks_anyone_or_fails(self, visit):
        assert visit.problems == []

    def test_every_chart_comes_to_life_and_is_drawn_once(self, visit):
        drawn = [count for page in visit.charts.values() for count in page]
        assert len(drawn) >= 10
        assert set(drawn) == {1}

    def test_nothing_serious_hinders_a_reader(self, visit):
        assert visit.findings == []

    def test_no_page_scrolls_sideways(self, visit):
        assert {page: by for page, by in visit.too_wide.items() if by > 0} == {}

    def test_no_word_of_a_table_is_broken(self, visit):
        assert {page: words for page, words in visit.broken.items() if words} == {}


def test_pages_are_whole_without_scripts(pages, browser, origins):
    charts = formulas = 0
    with opened(browser, origins["file"], java_script_enabled=False) as (tab, problems):
        for page in pages:
            tab.goto(page.as_uri())
            for chart in tab.locator(".chart").all():
                box = chart.locator(".chart-static svg").bounding_box()
                assert box is not None, page.name
                assert box["height"] > 100, page.name
                charts += 1
            for formula in tab.locator("math").all():
                box = formula.bounding_box()
                assert box is not None, page.name
                assert min(box["width"], box["height"]) > 4, page.name
                formulas += 1
    assert [problem for problem in problems if " asks " in problem] == []
    assert min(charts, formulas) >= 10


@pytest.mark.parametrize("origin", ["file", "server"])
def test_search_finds_the_chapter_on_leases(browser, origins, origin):
    with opened(browser, origins[origin]) as (tab, problems):
        tab.goto(f"{origins[origin]}/search.html?q=lease")
        tab.wait_for_selector("ul.search li a")
        tab.wait_for_load_state("networkidle")
        found = tab.locator("ul.search li a").evaluate_all("links => links.map(a => a.href)")
        tab.goto(found[0])
        assert "lease" in tab.locator("article").inner_text()
    assert len(found) > 3
    assert any("/reserving.html" in link for link in found)
    assert problems == []


FOCUSED = """() => {
  const element = document.activeElement, box = element.getBoundingClientRect();
  const style = getComputedStyle(element);
  return {
    name: element.outerHTML.slice(0, 150),
    link: element.getAttribute("href"),
    seen: box.width > 0 && box.right > 0 && box.bottom > 0,
    marked: style.outlineStyle !== "none" || style.boxShadow !== "none",
  };
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_can_be_read_from_the_keyboard(browser, origins, theme):
    with opened(browser, origins["file"], color_scheme=theme) as (tab, _):
        tab.goto(f"{origins['file']}/method.html")
        tab.keyboard.press("Tab")
        tab.wait_for_function("document.activeElement.getBoundingClientRect().top >= 0")
        first = tab.evaluate(FOCUSED)
        assert first["link"] == "#main-content"
        stops = [first]
        while len(stops) < 40:
            tab.keyboard.press("Tab")
            stops.append(tab.evaluate(FOCUSED))
        assert [stop["name"] for stop in stops if not (stop["seen"] and stop["marked"])] == []
        assert len({stop["name"] for stop in stops}) > 30
        tab.goto(f"{origins['file']}/method.html")
        tab.keyboard.press("Tab")
        tab.keyboard.press("Enter")
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.querySelector('main').contains(document.activeElement)")
