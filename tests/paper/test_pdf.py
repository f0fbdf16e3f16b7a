"""The paper as one PDF file: all of the book, in its order, with its numbers and its links."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import typst

from chameleon_usage.errors import UsageError
from chameleon_usage.viz.render import chart_html
from paper import pdf
from support import PROJECT

BOOK = PROJECT / "book"

PAGES = {
    "index.md": (
        "# A small paper\n\n*Its authors*\n\n## Abstract\n\nSee [how](#how), {numref}`fig-a`.\n"
    ),
    "method.md": (
        "(how)=\n# Method\n\nAs {cite}`knuth` says, $a \\;\\ge\\; b$.\n\n"
        "| kind | `nova.hosts` |\n|---|---:|\n| real | 1 |\n\n"
        "```{figure} assets/line.svg\n:alt: A line that falls.\nA line.\n```\n"
    ),
    "assets/line.svg": '<svg xmlns="http://www.w3.org/2000/svg" width="9"><path d="M0 0h9"/></svg>',
    "references.md": "# References\n\n```{bibliography}\n```\n",
    "references.bib": "@misc{knuth, author={Donald Knuth}, title={Literate}, year={1984}}\n",
    "_toc.yml": (
        "format: jb-book\nroot: index\nparts:\n"
        "- {caption: Results, chapters: [{file: notebooks/site}, {file: method}]}\n"
        "- {caption: Sources, chapters: [{file: references}]}\n"
    ),
}
SPEC = {
    "description": "Two bars of nodes & cores, the second one higher.",
    "data": {"values": [{"a": "x", "b": 1}, {"a": "y", "b": 2}]},
    "mark": "bar",
    "encoding": {"x": {"field": "a"}, "y": {"field": "b", "type": "quantitative"}},
}
TABLE = """<table class="gt_table"><thead>
<tr class="gt_heading"><td colspan="2" class="gt_heading gt_title">By year</td></tr>
<tr><th class="gt_right">year</th><th class="gt_left">nodes</th></tr></thead>
<tbody><tr><td class="gt_right">2016</td><td class="gt_left">unknown</td></tr></tbody></table>"""


def notebook() -> str:
    cell, output = nbformat.v4.new_code_cell, nbformat.v4.new_output
    figure = {
        "mystnb": {"figure": {"name": "fig-a", "caption": "Two bars."}},
        "tags": ["hide-input"],
    }
    shown = [
        output("execute_result", {"text/html": text}, execution_count=1)
        for text in (chart_html(SPEC), TABLE)
    ]
    cells = [
        nbformat.v4.new_markdown_cell("# A site"),
        cell("draw()", outputs=shown[:1], metadata=figure),
        cell("print()", outputs=shown[1:], metadata={"tags": ["hide-input"]}),
    ]
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells))


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A small book, built with the settings of the real one."""
    root = tmp_path_factory.mktemp("small")
    book = root / "book"
    for folder in ("book/notebooks", "book/assets", "book/static"):
        (root / folder).mkdir(parents=True)
    shutil.copytree(BOOK / "_ext", book / "_ext")
    shutil.copy(BOOK / "_config.yml", book)
    (book / "notebooks" / "site.ipynb").write_text(notebook())
    for name, text in PAGES.items():
        (book / name).write_text(text)
    command = [Path(sys.executable).with_name("jupyter-book"), "build", book, "--path-output", root]
    done = subprocess.run([*command, "-q"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return root / "_build" / "html"


@pytest.mark.slow
class TestSmallPaper:
    def test_all_of_the_book_is_there_in_its_order(self, small, tmp_path):
        text = pdf.paper(small, tmp_path).read_text()
        found = re.findall(r"^=+ (.*)$", text, re.MULTILINE)
        assert found == ["Abstract", "Results", "A site", "Method", "Sources", "References"]
        assert 'title: "A small paper", author: "Its authors"' in text
        assert "Fig. 1 Two bars." in text
        assert re.search(r"#link\(<[\w-]*fig-a>\)\[Fig. 1\]", text)
        assert "caption: [By year]" in text
        assert "table.cell(align: right)[2016]" in text
        assert "$a thick gt.eq thick b$" in text
        anchor = re.search(r"#link\(<([\w-]+)>\)\[Knuth, 1984\]", text)
        assert anchor
        assert re.search(rf"^Donald Knuth.*<{anchor[1]}>", text, re.MULTILINE)
        assert "??" not in text
        assert "draw()" not in text

    def test_drawings_stay_drawings_and_say_what_they_show(self, small, tmp_path):
        text = pdf.paper(small, tmp_path).read_text()
        assert f'image("0.svg", alt: {json.dumps(SPEC["description"])}' in text
        assert "viewBox" in (tmp_path / "0.svg").read_text()
        assert 'image("1.svg", alt: "A line that falls."' in text
        assert "M0 0h9" in (tmp_path / "1.svg").read_text()

    def test_the_same_pages_give_the_same_bytes(self, small, tmp_path, run_command):
        for name in ("one/a.pdf", "two/b.pdf"):
            done = run_command("-m", "paper", "pdf", small, tmp_path / name)
            assert (done.returncode, done.stderr) == (0, "")
        one, two = ((tmp_path / name).read_bytes() for name in ("one/a.pdf", "two/b.pdf"))
        assert one == two
        assert one.startswith(b"%PDF-")
        assert b"CreationDate" not in one
        assert list((tmp_path / "one").iterdir()) == [tmp_path / "one" / "a.pdf"]

    def test_a_link_to_nowhere_is_an_error(self, small, tmp_path):
        book = shutil.copytree(small, tmp_path / "book")
        page = book / "method.html"
        page.write_text(page.read_text().replace('href="references.html#', 'href="gone.html#'))
        (tmp_path / "set").mkdir()
        with pytest.raises(
            UsageError, match=r"method.html: the link to gone.html#\w+ leads nowhere"
        ):
            pdf.paper(book, tmp_path / "set")


@pytest.mark.slow
def test_the_built_book_is_all_in_the_paper(tmp_path):
    html = BOOK / "_build" / "html"
    if not (html / "index.html").exists():
        pytest.skip("no book has been built: run `make book`")
    source = pdf.paper(html, tmp_path)
    text = source.read_text()
    pages = [html / name for _, part in pdf.parts(html / "index.html") for name in part]
    shown = sum(page.read_text().count('class="caption-number"') for page in pages)
    numbers = [int(n) for n in re.findall(r"^ *Fig\. (\d+) ", text, re.MULTILINE)]
    assert numbers == list(range(1, shown + 1))
    assert len(re.findall(r"^== ", text, re.MULTILINE)) == len(pages)
    assert len(typst.compile(str(source), format="svg", ignore_system_fonts=True)) > 40
    assert pdf.pdf(source).startswith(b"%PDF-")
