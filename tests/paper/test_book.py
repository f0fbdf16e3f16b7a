"""The book: nothing from elsewhere, no dangling page, and a book of other data."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from sphinx.errors import ExtensionError

from paper.html import table_of_contents
from paper.project import site_entries
from support import PROJECT

BOOK = PROJECT / "book"
CONFIG = yaml.safe_load((BOOK / "_config.yml").read_text(encoding="utf-8"))
COMPLETE = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))
NOTEBOOKS = {path.stem for path in (PROJECT / "notebooks").iterdir() if path.is_file()} - {"site"}
TOC = table_of_contents(COMPLETE, [*site_entries("", "data/sites.yaml"), *NOTEBOOKS])
CHAPTERS = [TOC["root"], *(c["file"] for part in TOC["parts"] for c in part["chapters"])]


def extension(name: str):
    """Import an extension of Sphinx that is the book's own."""
    spec = importlib.util.spec_from_file_location(name, BOOK / "_ext" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


absent, formulas, reachable = map(extension, ("absent", "formulas", "reachable"))


class TestConfiguration:
    def test_notebooks_are_run_beforehand(self):
        assert CONFIG["execute"]["execute_notebooks"] == "off"

    def test_no_library_is_loaded_from_elsewhere(self):
        text = (BOOK / "_config.yml").read_text(encoding="utf-8")
        assert "://" not in text
        assert "sphinx_thebe" not in CONFIG["sphinx"]["config"]["extensions"]
        assert CONFIG["sphinx"]["config"]["html_math_renderer"] == "mathml"

    def test_every_prose_page_has_a_place(self):
        prose = {path.stem for path in BOOK.glob("*.md")} | {"metrics", "claims", "bench"}
        assert {c for c in CHAPTERS if not c.startswith("notebooks/")} == prose
        assert len(set(CHAPTERS)) == len(CHAPTERS)

    def test_every_notebook_page_has_a_notebook(self):
        pages = {c.removeprefix("notebooks/") for c in CHAPTERS if c.startswith("notebooks/")}
        sites = yaml.safe_load((PROJECT / "data" / "sites.yaml").read_text(encoding="utf-8"))
        assert NOTEBOOKS <= pages <= NOTEBOOKS | set(sites)
        assert not set(sites) & set(re.findall(r"\w+", (BOOK / "_toc.yml").read_text("utf-8")))

    def test_the_real_record_comes_before_the_twin_and_the_edge_site_first_of_the_sites(self):
        results = [c.removeprefix("notebooks/") for c in CHAPTERS if c.startswith("notebooks/")]
        first, *twin = [page for page in results if page != "facts"]
        sites = [page for page in twin if page not in NOTEBOOKS]
        assert first == "real_record"
        assert sites[0] == "chi_edge"
        assert len(sites) > 1

    def test_the_paper_comes_before_the_manual_and_what_is_looked_up(self):
        captions = [part["caption"] for part in TOC["parts"]]
        assert captions == ["The paper", "The manual", "Appendices"]
        paper = [chapter["file"] for chapter in TOC["parts"][0]["chapters"]]
        assert paper[0] == "introduction"
        assert paper[-2:] == ["discussion", "availability"]


class TestFormulas:
    def test_a_formula_is_an_element_that_keeps_its_tex(self):
        told = formulas.mathml(r"a < \text{b\_c}", block=True)
        assert told == (
            r'<math alttext="a &lt; \text{b\_c}" display="block">'
            "<mi>a</mi><mo>&lt;</mo><mtext>b_c</mtext></math>"
        )

    def test_what_is_no_formula_is_an_error_that_shows_it(self):
        with pytest.raises(ExtensionError, match=r"no MathML for the formula .*frac"):
            formulas.mathml(r"\frac{1}", block=False)


def test_a_diagram_is_a_picture_with_its_words():
    diagram = '<object data="a.svg">\n<p class="warning">Boxes: "a" to\nb.</p></object>'
    told = reachable.reachable(diagram)
    assert told.startswith(
        '<object role="img" aria-label="Boxes: &quot;a&quot; to b." data="a.svg">'
    )


class TestAbsentResults:
    """The book of other data: without the twin's truth, without some sites."""

    FOUND = {"facts": {"facts_users"}, "chi_uc": {"chi_uc_total_2024"}}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("role", "kept"),
        [
            ("{glue:text}`notebooks/chi_uc.ipynb::chi_uc_total_2024:.1f`", True),
            ("{glue:text}`notebooks/chi_uc.ipynb::chi_uc_total_2016:.1f`", False),
            ("{glue:text}`notebooks/chi_tacc.ipynb::chi_tacc_total_2024:.1f`", False),
            ("{glue:text}`notebooks/facts.ipynb::facts_misspelt:.0f`", True),
        ],
    )
    def test_a_number_that_does_not_exist_here_is_not_available(self, role, kept):
        assert absent.fit(f"It was {role}.", self.FOUND) == f"It was {role if kept else 'n/a'}."

    def test_text_on_the_truth_goes_where_there_is_none(self):
        text = "Before.\n<!-- truth -->\nThe error.\n<!-- /truth -->\nAfter.\n"
        assert absent.fit(text, self.FOUND) == "Before.\nAfter.\n"
        assert absent.fit(text, self.FOUND | {"validation": set()}) == text

    def test_text_on_other_data_goes_where_there_is_a_truth(self):
        text = "Before.\n<!-- no truth -->\nOurs.\n<!-- /no truth -->\nAfter.\n"
        assert absent.fit(text, self.FOUND) == text
        assert absent.fit(text, self.FOUND | {"validation": set()}) == "Before.\nAfter.\n"

    def test_names_are_found_in_built_notebooks(self, tmp_path):
        output = {
            "metadata": {"scrapbook": {"name": "x_total_2024"}},
            "output_type": "display_data",
        }
        cells = [{"outputs": [output, {"metadata": {}}]}, {"cell_type": "markdown"}]
        (tmp_path / "x.ipynb").write_text(json.dumps({"cells": cells}))
        assert absent.results(tmp_path) == {"x": {"x_total_2024"}}


class Prose(HTMLParser):
    """What a reader sees of a page's article: no navigation, no script, no folded code."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.hidden = 0
        text = page.read_text(encoding="utf-8")
        self.feed(text[text.index("<article") : text.index("</article>")])
        self.text = " ".join(" ".join(self.parts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in ("script", "style", "pre")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("script", "style", "pre")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data)


@pytest.fixture(scope="module")
def own_book(tmp_path_factory, decayed_twin) -> Path:
    """A tree in which `make book` read somebody's dumps: two tiny sites, in truth the twin's.

    The tree is a copy, so that the book of this one stays as it is.
    """
    environment = Path(sys.prefix)
    if not (environment / "package.done").exists():
        pytest.skip("the environment is not that of `make`")
    folder = tmp_path_factory.mktemp("own")
    tree, dumps = folder / "tree", folder / "dumps"
    for name in ("src", "paper", "notebooks", "data", "book"):
        made = shutil.ignore_patterns("__pycache__", "twin", "_build", "*.ipynb", "metrics.md")
        shutil.copytree(PROJECT / name, tree / name, ignore=made)
    for name in ("Makefile", "pyproject.toml", "requirements.txt"):
        shutil.copy(PROJECT / name, tree)
        os.utime(tree / name, (0, 0))  # older than the environment, which stays as it is
    (tree / ".venv").symlink_to(environment)
    for site in OWN_SITES:
        without_truth = shutil.ignore_patterns("truth", "manifest.json")
        shutil.copytree(decayed_twin / site, dumps / site, ignore=without_truth)
        told = json.loads((decayed_twin / site / "manifest.json").read_text(encoding="utf-8"))
        (dumps / site / "manifest.json").write_text(json.dumps({"as_of": told["as_of"]}))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", "book", f"DATA={dumps}", f"SITES={' '.join(OWN_SITES)}"],
        cwd=tree,
        env=clean | {"PYTHONPATH": os.pathsep.join(map(str, (tree, tree / "src")))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return tree


OWN_SITES = ("chi_edge", "chi_tacc")


@pytest.mark.slow
class TestBookOfOwnData:
    def test_it_has_all_pages_but_those_of_other_sites_and_of_the_truth(self, own_book):
        html = own_book / "book" / "_build" / "html"
        found = {str(p.relative_to(html).with_suffix("")) for p in html.rglob("*.html")}
        absent_ = {"notebooks/chi_uc", "notebooks/kvm_tacc"}
        absent_ |= {"notebooks/validation", "notebooks/validation_appendix"}
        assert set(CHAPTERS) - absent_ <= found
        assert not absent_ & found

    @pytest.mark.parametrize("page", [*OWN_SITES, "cross_site", "real_record"])
    def test_no_page_of_results_calls_its_numbers_simulated(self, own_book, page):
        text = Prose(own_book / f"book/_build/html/notebooks/{page}.html").text
        assert len(text) > 1000
        told = re.findall(r"(?i).{0,60}(?:simulat|\btwin\b).{0,60}", text)
        assert told == []

    @pytest.mark.parametrize("site", OWN_SITES)
    def test_a_site_has_its_figures_and_says_where_they_are_from(self, own_book, site):
        page = own_book / f"book/_build/html/notebooks/{site}.html"
        assert "from the site's databases" in Prose(page).text.replace("\u2019", "'")
        assert page.read_text(encoding="utf-8").count('<svg role="img"') >= 2

    def test_the_first_page_says_that_it_was_built_from_databases(self, own_book):
        text = Prose(own_book / "book/_build/html/index.html").text
        assert "This book was built from the databases of the sites" in text

    def test_no_twin_was_made(self, own_book):
        assert not (own_book / "data" / "twin").exists()

    def test_no_page_tells_where_the_dumps_lie(self, own_book):
        pages = sorted((own_book / "book" / "_build" / "html").rglob("*.html"))
        assert [p.name for p in pages if str(own_book.parent) in p.read_text("utf-8")] == []
