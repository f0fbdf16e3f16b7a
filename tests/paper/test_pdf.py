"""The paper as PDF, with its supplement: all of the book, with its numbers and its links."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
import typst
from bs4 import BeautifulSoup

from chameleon_usage.errors import UsageError
from chameleon_usage.viz.render import chart_html
from paper import pdf
from support import PROJECT
from support.command import called

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bs4 import Tag

BOOK = PROJECT / "book"

PAGES = {
    "index.md": (
        "# A small paper\n\n**Of small things**\n\n*Its authors*\n\n"
        "## Abstract\n\nSee [this](index.md), [how](#how), {numref}`fig-a`.\n"
    ),
    "method.md": (
        "(how)=\n# Method\n\nAs {cite}`knuth` says, [by day](#daily), $a \\;\\ge\\; b$.\n\n"
        "| kind | `nova.hosts` |\n|---|---:|\n| real | 1 |\n\n"
        "## In detail\n\n```{figure} assets/line.svg\n:alt: A line that falls.\nA line.\n```\n"
    ),
    "assets/line.svg": '<svg xmlns="http://www.w3.org/2000/svg" width="9"><path d="M0 0h9"/></svg>',
    "running.md": (
        "# Running it\n\nAs {cite}`liskov` says of {numref}`fig-a`.\n\n"
        "(daily)=\n## Daily\n\nAfter [the paper](index.md).\n\n```bash\nrun --all\n```\n"
    ),
    "references.md": "# References\n\n```{bibliography}\n```\n",
    "references.bib": (
        "@misc{knuth, author={Donald Knuth}, title={Literate}, year={1984}}\n"
        "@misc{liskov, author={Barbara Liskov}, title={Abstract}, year={1974}}\n"
    ),
    "_toc.yml": (
        "format: jb-book\nroot: index\nparts:\n"
        "- {caption: Results, chapters: [{file: notebooks/site}, {file: method}]}\n"
        "- {caption: Manual, chapters: [{file: running}]}\n"
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


# What Typst knows about a document once it is set, in pages and in millimetres from a page's top.
PROBE = """
#context [#metadata((
  pages: counter(page).final().first(),
  headings: query(heading).map(it => (
    level: it.level, page: it.location().page(), top: it.location().position().y / 1mm,
  )),
  figures: query(figure.where(kind: image)).map(it => (
    label: repr(it.at("label", default: none)), page: it.location().page(),
  )),
  captions: query(figure.caption).filter(it => it.kind == image).map(it => it.location().page()),
  mentions: query(link).filter(it => type(it.dest) == label).map(it => (
    label: repr(it.dest), page: it.location().page(),
  )),
)) <layout>]
"""


def layout(source: Path) -> dict[str, Any]:
    """Set a source; tell where its parts came to lie."""
    probe = source.with_stem(f"{source.stem}-probe")
    probe.write_text(source.read_text() + PROBE)
    found = typst.query(str(probe), "<layout>", field="value", one=True, ignore_system_fonts=True)
    return json.loads(found)


@pytest.fixture(scope="module")
def sources(small, tmp_path_factory) -> tuple[Path, str, str]:
    """The folder of the small paper's sources, the paper, and the supplement."""
    folder = tmp_path_factory.mktemp("set")
    paper, supplement = pdf.sources(small, folder)
    return folder, paper.read_text(), supplement.read_text()


def headings(text: str) -> list[str]:
    return re.findall(r"^=+ (.*)$", text, re.MULTILINE)


MARGIN, A4_WIDTH = 70.9, 595.3  # points
Word = tuple[float, float, float, float, str]


def words(reader: str, file: Path) -> list[list[Word]]:
    """The words of each page, with left, top, right and bottom."""
    text = called(reader, "-bbox", file, "-")
    box = " ".join(rf'{side}="([\d.-]+)"' for side in ("xMin", "yMin", "xMax", "yMax"))
    return [
        [
            (float(left), float(top), float(right), float(bottom), word)
            for left, top, right, bottom, word in re.findall(rf"<word {box}>(.*?)</word>", page)
        ]
        for page in text.split("<page ")[1:]
    ]


def overlapping(page: list[Word]) -> Iterator[tuple[str, str]]:
    """Words of one line that lie over each other."""
    page = sorted(page, key=lambda word: word[1])
    for place, one in enumerate(page):
        same = itertools.takewhile(lambda word, end=one[3]: word[1] < end, page[place + 1 :])
        for other in same:
            across = min(one[2], other[2]) - max(one[0], other[0])
            along = (min(one[3], other[3]) - other[1]) / (one[3] - one[1])
            if across > 1 and along > 0.6:
                yield one[4], other[4]


def fitted(rows: list[list[str]]) -> Tag:
    body = "".join(f"<tr>{''.join(f'<td>{c}</td>' for c in row)}</tr>" for row in rows)
    page = BeautifulSoup(f"<table><tbody>{body}</tbody></table>", "html.parser")
    pdf.fit_tables(page)
    return page.table


class TestTables:
    def test_one_that_is_narrow_keeps_its_width(self):
        assert fitted([["year", "nodes"], ["2016", "300"]]).select("col") == []

    def test_a_wide_one_fills_the_text_and_keeps_words_whole(self):
        table = fitted([["occupied_reservation", "a sentence of some words " * 9, "1,000"]])
        widths = [float(re.findall(r"[\d.]+", col["style"])[0]) for col in table.select("col")]
        assert sum(widths) == pytest.approx(100, abs=0.1)
        points = [pdf.TEXT_WIDTH * width / 100 - pdf.CELL_MARGINS for width in widths]
        assert points[0] >= pdf.ems("reservation") * 8.5
        assert points[2] == pytest.approx(pdf.ems("1,000") * 8.5, abs=0.2)
        assert points[1] > points[0]
        assert table["typst:text:size"] == "8.5pt"

    def test_one_with_many_words_side_by_side_is_set_smaller(self):
        table = fitted([["reconstruction"] * 8])
        assert table["typst:text:size"] == "7.5pt"

    def test_the_title_stays_first(self):
        text = f"<table><caption>T</caption><tr><td>{'word ' * 40}</td></tr></table>"
        page = BeautifulSoup(text, "html.parser")
        pdf.fit_tables(page)
        assert [child.name for child in page.table.children][:2] == ["caption", "colgroup"]


@pytest.mark.parametrize(("place", "name"), [(1, "A"), (26, "Z"), (27, "AA"), (53, "BA")])
def test_sections_of_the_supplement_have_letters(place, name):
    assert pdf.letter(place) == name


@pytest.mark.slow
class TestSmallPaper:
    def test_the_first_part_is_the_paper_in_its_order(self, sources):
        _, text, _ = sources
        found = ["Abstract", "1 A site", "2 Method", "2.1 In detail", "References"]
        assert [title.replace("\N{EM SPACE}", " ") for title in headings(text)] == found
        title = 'title: "A small paper", subtitle: "Of small things", author: "Its authors"'
        assert title in text
        assert "#strong[Fig. 1] Two bars." in text
        assert re.search(r"#link\(<[\w-]*fig-a>\)\[Fig. 1\]", text)
        assert "caption: [By year]" in text
        assert "table.cell(align: right)[2016]" in text
        assert "$a thick gt.eq thick b$" in text
        assert "`nova.hosts`" in text
        assert "??" not in text
        assert "draw()" not in text

    def test_the_other_parts_are_the_supplement_with_letters(self, sources):
        found = ["Manual", "A Running it", "A.1 Daily", "References"]
        titles = headings(sources[2])
        assert [title.replace("\N{EM SPACE}", " ") for title in titles] == found

    def test_each_file_lists_what_it_cites(self, sources):
        _, paper, supplement = sources
        for text, cited, other in ((paper, "Knuth", "Liskov"), (supplement, "Liskov", "Knuth")):
            anchor = re.search(rf"#link\(<([\w-]+)>\)\[{cited}, 19\d\d\]", text)
            assert anchor
            assert re.search(rf"^\w+ {cited}.*<{anchor[1]}>", text, re.MULTILINE)
            assert other not in text

    def test_a_link_names_the_section_it_leads_to(self, sources):
        _, paper, supplement = sources
        mark = r"#text\(size: 0\.85em\)\[(?:~|\N{NO-BREAK SPACE})§"
        assert re.search(rf"#link\(<method-html-how>\)\[how{mark}2\]\]", paper)
        other = r'#link\("chameleon-usage-supplement\.pdf\#(running-html-daily)"\)'
        found = re.search(rf"{other}\[by\s+day{mark}A\.1\]\]", paper)
        assert found
        assert re.search(rf"^=== .*Daily\n<{found[1]}>", supplement, re.MULTILINE)
        assert re.search(rf'"chameleon-usage\.pdf\#[\w-]+"\)\[Fig\. 1{mark}1\]\]', supplement)

    def test_links_between_the_files_lead_to_names_that_they_have(self, sources):
        folder = sources[0]
        held = {file.stem: pdf.pdf(file) for file in folder.glob("chameleon-usage*.typ")}
        found = {
            link
            for content in held.values()
            for link in re.findall(rb"/URI\(([\w-]+)\.pdf#([\w-]+)\)", content)
        }
        assert len(found) == 3
        for file, name in found:
            assert b"(" + name + b")" in held[file.decode()]

    def test_drawings_stay_drawings_and_say_what_they_show(self, sources):
        folder, text, _ = sources
        assert f'image("0.svg", alt: {json.dumps(SPEC["description"])}' in text
        assert "viewBox" in (folder / "0.svg").read_text()
        assert 'image("1.svg", alt: "A line that falls."' in text
        assert "M0 0h9" in (folder / "1.svg").read_text()

    def test_a_high_drawing_is_no_higher_than_a_page_with_some_text(self):
        pictures = pdf.Pictures()
        assert 'width="50%"' in pictures.keep('<svg height="1520" width="703">', "")
        assert 'width="100%"' in pictures.keep('<svg width="900" height="9">', "")
        assert 'width="10%"' in pictures.keep('<svg width="70.3" height="9">', "")

    def test_a_figure_is_not_all_that_its_heading_stands_with(self, sources):
        text = sources[1]
        assert text.index('image("1.svg"') < text.index("In detail")
        text = "<h2>Abstract</h2><p>A</p><h2>In short</h2><figure></figure><p>B</p>"
        page = pdf.BeautifulSoup(f"<div><h1>T</h1><p>P</p>{text}</div>", "html.parser")
        known, abstract, rest = pdf.front_matter(page.div)
        assert (known["author"], abstract) == ("P", "<h1>Abstract</h1><p>A</p>")
        assert rest == "<figure></figure><h1>In short</h1><p>B</p>"

    def test_the_same_pages_give_the_same_bytes(self, small, tmp_path, run_command):
        for name in ("one/a.pdf", "two/a.pdf"):
            done = run_command("-m", "paper", "pdf", small, tmp_path / name)
            assert (done.returncode, done.stderr) == (0, "")
        for name in ("a.pdf", "a-supplement.pdf"):
            one, two = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
            assert one == two
            assert one.startswith(b"%PDF-")
            assert b"CreationDate" not in one
        assert len(list((tmp_path / "one").iterdir())) == 2

    def test_a_link_to_nowhere_is_an_error(self, small, tmp_path):
        book = shutil.copytree(small, tmp_path / "book")
        page = book / "method.html"
        page.write_text(page.read_text().replace('href="references.html#', 'href="gone.html#'))
        (tmp_path / "set").mkdir()
        with pytest.raises(
            UsageError, match=r"method.html: the link to gone.html#\w+ leads nowhere"
        ):
            pdf.sources(book, tmp_path / "set")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> list[Path]:
    """The sources of the built book's paper and supplement."""
    html = BOOK / "_build" / "html"
    if not (html / "index.html").exists():
        pytest.skip("no book has been built: run `make book`")
    return pdf.sources(html, tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def laid(built) -> list[dict[str, Any]]:
    return [layout(source) for source in built]


@pytest.mark.slow
class TestBuiltBook:
    def test_all_of_it_is_there(self, built):
        html = BOOK / "_build" / "html"
        text = "".join(source.read_text() for source in built)
        names = [name for _, part in pdf.parts(html / "index.html") for name in part]
        pages = [html / name for name in ("index.html", *names)]
        shown = sum(page.read_text().count('class="caption-number">Fig.') for page in pages)
        numbers = [int(n) for n in re.findall(r"^ *#strong\[Fig. (\d+)\] ", text, re.MULTILINE)]
        assert numbers == list(range(1, shown + 1))
        numbered = re.findall(r"^=+ (\d+|[A-Z]+)\N{EM SPACE}", text, re.MULTILINE)
        assert len(numbered) == len(set(numbered)) == len(names) - 1  # but the references

    def test_it_has_two_levels_of_numbers(self, built):
        for source, top in zip(built, (1, 2), strict=True):
            found = re.findall(
                r"^(=+) [\dA-Z]+(\.\d+)*\N{EM SPACE}", source.read_text(), re.MULTILINE
            )
            assert {(len(level), bool(below)) for level, below in found} == {
                (top, False),
                (top + 1, True),
            }

    def test_the_paper_is_as_long_as_one_of_a_venue(self, laid):
        assert 25 <= laid[0]["pages"] <= 45

    def test_no_heading_stands_alone_at_the_end_of_a_page(self, laid):
        for found in laid:  # there are 272 mm above the lower margin
            assert max(heading["top"] for heading in found["headings"]) < 262

    def test_the_first_figure_is_on_the_first_page(self, laid):
        assert laid[0]["captions"][0] == 1

    def test_a_figure_is_near_its_text_and_its_first_mention(self, laid):
        found = laid[0]
        mentioned: dict[str, int] = {}
        for mention in found["mentions"]:
            mentioned.setdefault(mention["label"], mention["page"])
        # A figure is where the text has it; its caption floats away with the drawing, which may
        # stand at the foot of the page on which the text before it ends.
        for figure, page in zip(found["figures"], found["captions"], strict=True):
            assert -1 <= page - figure["page"] <= 2, figure
            assert abs(page - mentioned.get(figure["label"], page)) <= 2, figure

    def test_no_page_is_empty_and_no_word_runs_out_of_its_place(self, built, tmp_path):
        reader = shutil.which("pdftotext") or pytest.skip("pdftotext is not installed")
        for source in built:
            file = tmp_path / f"{source.stem}.pdf"
            file.write_bytes(pdf.pdf(source))
            for page in words(reader, file):
                assert len(page) > 25
                for left, _, right, _, word in page:  # punctuation hangs into the margins
                    assert MARGIN - 6 < left < right < A4_WIDTH - MARGIN + 6, word
                assert list(overlapping(page)) == []
