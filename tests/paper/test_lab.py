"""The notebooks for JupyterLab: parameters on top, text that follows them, a script as the pair."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import jupytext
import myst_nb
import nbformat
import pytest
from click.testing import CliRunner
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from paper import lab
from paper import run as build
from support import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOTEBOOKS = sorted(path.stem for path in (PROJECT / "notebooks").glob("*.py"))

SMALL = """\
# %% tags=["parameters", "remove-cell"]
site = "chi_tacc"  # which one
days = 7
output_dir = "output"
config = "data/sites.yaml"

# %% [markdown]
# (small-{{ site }})=
# # {{ site_name }} over {{ days }} days

# %% [markdown]
# Twice that is {glue:text}`twice:.1f`.

# %% [markdown] when="devices"
# It leases devices.

# %% mystnb={"figure": {"name": "fig", "caption": "Days of {{ site_name }}."}} tags=["hide-input"]
from myst_nb import glue

glue("twice", 2 * days, display=False)

# %% tags=["hide-input"] when="devices"
devices = True
"""


@pytest.fixture
def small(tmp_path, monkeypatch) -> Path:
    """A folder of notebooks with one small one."""
    (folder := tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(build, "NOTEBOOKS", folder)
    monkeypatch.setattr(lab, "NOTEBOOKS", folder)
    (folder / "small.py").write_text(SMALL)
    return folder


def write(folder: Path, *given: str) -> None:
    done = CliRunner().invoke(lab.main, [str(folder), *given])
    assert done.exit_code == 0, done.output


def prose(notebook: nbformat.NotebookNode) -> list[str]:
    """What a reader sees of the cells of text."""
    return [
        output.data["text/markdown"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/markdown" in output.get("data", {})
    ]


class TestOpening:
    def test_parameters_are_on_top_and_as_asked_with_their_comments(self, small):
        page = lab.opened("small", (("site", "chi_uc"), ("days", "30")))
        assert page.cells[0].cell_type == "markdown"
        assert page.cells[1].source == (
            'site = "chi_uc"  # which one\ndays = 30\n'
            'output_dir = "output"\nconfig = "data/sites.yaml"'
        )
        assert "jupyter" not in page.cells[1].metadata

    def test_text_is_filled_and_free_of_what_only_the_book_understands(self, small):
        page = lab.opened("small", (("site", "chi_uc"),))
        assert prose(page) == [
            *("# CHI@UC over 7 days", f"Twice that is {lab.UNTOLD}.", "", "Days of CHI@UC."),
        ]

    @pytest.mark.parametrize("name", NOTEBOOKS)
    def test_each_notebook_of_the_paper_opens_with_parameters_and_text(self, name):
        page = lab.opened(name, ())
        nbformat.validate(page)
        assert page.cells[1].metadata["tags"] == ["parameters"]
        assert prose(page)[0].startswith("# ")
        assert not any("{{" in text or "{glue" in text or "](#" in text for text in prose(page))


class TestPair:
    def test_notebook_and_script_hold_the_same_cells_and_say_that_they_are_a_pair(
        self, small, tmp_path
    ):
        write(tmp_path / "lab", "small", "-p", "site", "chi_edge")
        one, two = (jupytext.read(tmp_path / "lab" / f"small.{end}") for end in ("ipynb", "py"))
        assert one.metadata["jupytext"]["formats"] == lab.PAIR == "ipynb,py:percent"
        assert two.metadata["jupytext"]["formats"] == lab.PAIR
        assert [cell.source for cell in one.cells] == [cell.source for cell in two.cells]
        script = (tmp_path / "lab" / "small.py").read_text()
        assert 'language="markdown"\n# (small-{{ site }})=\n# # {{ site_name }}' in script
        compile(script, "small.py", "exec")

    def test_what_was_changed_stays_until_the_notebook_of_the_paper_changes(self, small, tmp_path):
        folder = tmp_path / "lab"
        write(folder, "small")
        opened = (folder / "small.ipynb").read_text()
        (folder / "small.ipynb").write_text("mine")
        write(folder, "small")
        assert (folder / "small.ipynb").read_text() == "mine"
        later = (folder / "small.ipynb").stat().st_mtime + 1
        os.utime(small / "small.py", (later, later))
        write(folder, "small")
        assert (folder / "small.ipynb").read_text() == opened

    def test_a_notebook_takes_the_parameters_that_it_has(self, small, tmp_path):
        write(tmp_path / "lab", "small", "-p", "sites", "chi_uc", "-p", "days", "3")
        assert "days = 3" in (tmp_path / "lab" / "small.py").read_text()

    def test_figures_go_elsewhere_than_the_books(self, small, tmp_path):
        for name in ("chi_tacc", "combined", "plots", "periods"):
            (tmp_path / "output" / name).mkdir(parents=True)
        for _ in range(2):
            write(tmp_path / "lab", "small", "-p", "output_dir", str(tmp_path / "output"))
        linked = tmp_path / "lab" / "output"
        assert {path.name for path in linked.iterdir()} == {"chi_tacc", "combined"}
        assert (linked / "chi_tacc").resolve() == tmp_path / "output" / "chi_tacc"
        assert f'output_dir = "{linked}"' in (tmp_path / "lab" / "small.py").read_text()


@contextmanager
def shell(monkeypatch) -> Iterator[InteractiveShell]:
    """A shell that stands for the kernel, in which nothing has run yet."""
    InteractiveShell.clear_instance()
    monkeypatch.setattr(myst_nb, "glue", myst_nb.glue)  # put back afterwards
    one = InteractiveShell.instance()
    one.history_manager.enabled = False
    yield one
    one.restore_sys_module_state()
    InteractiveShell.clear_instance()


class TestKernel:
    """What the cells do when they run."""

    def run(self, monkeypatch, **changed: object) -> tuple[list[str], dict]:
        page = lab.opened("small", ())
        page.cells[1].source += "".join(f"\n{key} = {value!r}" for key, value in changed.items())
        with shell(monkeypatch) as kernel, capture_output(display=True) as said:
            for cell in page.cells[1:]:
                kernel.run_cell(cell.source).raise_error()
            return [o.data["text/markdown"] for o in said.outputs], dict(kernel.user_ns)

    def test_text_follows_the_parameters_and_catches_up_with_numbers_of_later_cells(
        self, small, monkeypatch
    ):
        texts, _ = self.run(monkeypatch, days=4, site="chi_uc")
        assert texts == [
            *("# CHI@UC over 4 days", f"Twice that is {lab.UNTOLD}.", ""),
            *("Twice that is 8.0.", "Days of CHI@UC."),
        ]

    @pytest.mark.parametrize(("site", "devices"), [("chi_uc", False), ("chi_edge", True)])
    def test_cells_of_another_case_do_nothing(self, small, monkeypatch, site, devices):
        texts, names = self.run(monkeypatch, site=site)
        assert ("It leases devices." in "".join(texts)) == devices
        assert ("devices" in names) == devices
