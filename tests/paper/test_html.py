"""The book built again: only what changed is read, and the pages are those of a fresh build."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import nbformat
import pytest

from support import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

BUILD = """
import sys
from pathlib import Path
from paper.html import build
build(Path(sys.argv[1]), Path(sys.argv[1]) / "_toc.yml")
"""
FOUND = "{glue:text}`notebooks/results.ipynb::found:.1f`"
PAGES = {
    "_toc.yml": """
format: jb-book
root: index
parts:
  - caption: One
    numbered: true
    chapters: [{file: first}, {file: notebooks/results}]
  - caption: Two
    numbered: true
    chapters: [{file: second}]
""",
    "index.md": f"# A book\n\nIt found {FOUND}.\n",
    "first.md": "(first)=\n# First\n\nSee {ref}`second` and {numref}`fig-a`, {cite}`knuth84`.\n",
    "second.md": f"(second)=\n# Second\n\nBack to {{ref}}`first`, of {FOUND}.\n",
    "references.bib": '@book{knuth84, author="D. Knuth", title="T", publisher="P", year="1984"}',
}


def results(found: str, name: str = "found", heading: str = "Results") -> str:
    """A notebook that glues a number and shows a figure."""
    figure = {"figure": {"name": "fig-a", "caption": "What was found."}}
    cells = [
        nbformat.v4.new_markdown_cell(f"# {heading}\n\n```{{bibliography}}\n```"),
        nbformat.v4.new_code_cell(
            "glue()",
            outputs=[
                nbformat.v4.new_output(
                    "display_data",
                    {"text/plain": found},
                    metadata={"scrapbook": {"name": name, "mime_prefix": ""}},
                )
            ],
        ),
        nbformat.v4.new_code_cell(
            "draw()",
            outputs=[nbformat.v4.new_output("display_data", {"text/html": f"<b>{found}</b>"})],
            metadata={"mystnb": figure},
        ),
    ]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    python = {"language_info": {"name": "python"}}
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells, metadata=python))


def laid_out(source: Path) -> Path:
    book = PROJECT / "book"
    for folder in ("notebooks", "static"):
        (source / folder).mkdir(parents=True)
    for folder in ("_ext", "assets"):
        shutil.copytree(book / folder, source / folder)
    shutil.copy(book / "_config.yml", source)
    for name, text in PAGES.items():
        (source / name).write_text(text)
    (source / "notebooks" / "results.ipynb").write_text(results("17"))
    return source


def files(source: Path) -> dict[str, bytes]:
    html = source / "_build" / "html"
    return {str(p.relative_to(html)): p.read_bytes() for p in html.rglob("*") if p.is_file()}


@pytest.mark.slow
class TestBuiltAgain:
    @pytest.fixture
    def build(self, run_command):
        def built(source: Path, *, fails: bool = False) -> dict[str, bytes]:
            done = run_command("-c", BUILD, source)
            assert (done.returncode != 0) == fails, done.stderr
            return files(source)

        return built

    def test_after_a_change_it_is_what_a_fresh_build_gives(self, build, tmp_path):
        source = laid_out(tmp_path / "a")
        before = build(source)
        (source / "notebooks" / "results.ipynb").write_text(results("23"))
        (source / "first.md").write_text(PAGES["first.md"].replace("# First", "# Beginning"))
        again = build(source)
        shutil.rmtree(source / "_build")
        assert again == build(source)
        changed = {name for name in before if before[name] != again[name]}
        assert {"index.html", "second.html"} < changed, "they name what changed elsewhere"

    @pytest.mark.parametrize(
        ("changed", "kept"),
        [
            (results("23"), {"first.html"}),
            (results("17", heading="What was found"), set()),  # the other pages list it
        ],
    )
    def test_pages_that_tell_nothing_new_are_not_written(self, build, tmp_path, changed, kept):
        source = laid_out(tmp_path / "a")
        build(source)
        pages = [
            source / "_build" / "html" / f"{name}.html" for name in ("index", "first", "second")
        ]
        before = {page.name: page.stat().st_mtime_ns for page in pages}
        (source / "notebooks" / "results.ipynb").write_text(changed)
        again = build(source)
        assert {page.name for page in pages if page.stat().st_mtime_ns == before[page.name]} == kept
        shutil.rmtree(source / "_build")
        assert again == build(source)

    def test_a_number_that_is_there_no_more_is_not_available(self, build, tmp_path):
        source = laid_out(tmp_path / "a")
        assert b"n/a" not in build(source)["second.html"]
        (source / "notebooks" / "results.ipynb").write_text(results("17", "other"))
        assert b"n/a" in build(source)["second.html"]
        (source / "notebooks" / "results.ipynb").write_text(results("23"))
        assert b"23.0" in build(source)["second.html"]

    def test_what_was_not_done_well_is_done_anew(self, build, tmp_path):
        source = laid_out(tmp_path / "a")
        (source / "second.md").write_text("(second)=\n# Second\n\nTo {ref}`nowhere`.\n")
        for _ in range(2):
            build(source, fails=True)

    def test_an_extension_that_changed_reads_all_pages_anew(self, build, tmp_path):
        source = laid_out(tmp_path / "a")
        build(source)
        path = source / "_ext" / "reachable.py"
        more = """
def louder(_app, page, text):
    if not page.startswith("notebooks/"):
        text[0] += "Read anew!"


def setup(app):
    app.connect("source-read", louder)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
"""
        path.write_text(path.read_text() + more)
        again = build(source)
        pages = ("index", "first", "second")
        assert [page for page in pages if b"Read anew!" not in again[f"{page}.html"]] == []
