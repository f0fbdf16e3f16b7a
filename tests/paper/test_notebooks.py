"""The runner of notebooks: typed parameters, filled templates, the same bytes on every run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

from chameleon_usage.errors import UsageError
from paper import run as build
from paper.context import context
from paper.html import table_of_contents
from support import PROJECT

NOTEBOOKS = sorted(path.stem for path in (PROJECT / "notebooks").iterdir() if path.is_file())

SMALL = """\
# %% tags=["parameters", "remove-cell"]
site = "chi_tacc"
days = 7
output_dir = "output"
config = "data/sites.yaml"

# %% [markdown]
# # {{ site_name }} over {{ days }} days

# %% [markdown] when="has_legacy"
# Only where there is a legacy collector.

# %% mystnb={"figure": {"name": "fig-{{ site }}", "caption": "Days of {{ site_name }}."}}
import time
from myst_nb import glue

glue("days_twice", 2 * days, display=False)
object()
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder of notebooks with one small one."""
    monkeypatch.setattr(build, "NOTEBOOKS", tmp_path)
    (tmp_path / "small.py").write_text(SMALL)
    return tmp_path


class TestParameters:
    def test_are_typed_like_their_defaults(self, small):
        given = (("days", "30"), ("site", "5"))
        notebook = build.read_notebook("small")
        assert build.parameters(notebook, "small", given) == {
            "site": "5",
            "days": 30,
            "output_dir": "output",
            "config": "data/sites.yaml",
        }

    def test_an_unknown_one_is_an_error(self, small):
        with pytest.raises(UsageError, match=r"no parameter 'sites': it has site, days"):
            build.run_notebook("small", small / "out.ipynb", (("sites", "x"),))
        assert not (small / "out.ipynb").exists()

    @pytest.mark.parametrize("value", ["seven", "7.5", "[7]", ""])
    def test_one_of_another_type_is_an_error(self, small, value):
        with pytest.raises(UsageError, match=r"'days': .* is not a int"):
            build.run_notebook("small", small / "out.ipynb", (("days", value),))

    def test_an_unknown_notebook_is_an_error(self, small):
        with pytest.raises(UsageError, match="no notebook called 'smal': choose one of small"):
            build.read_notebook("smal")

    def test_the_parameters_cell_holds_plain_values_only(self, small):
        (small / "small.py").write_text(SMALL.replace("days = 7", "days = 7 * 2"))
        with pytest.raises(ValueError, match="malformed"):
            build.defaults(build.read_notebook("small"), "small")
        (small / "small.py").write_text(SMALL.replace("days = 7", "import os"))
        with pytest.raises(UsageError, match="parameters cell, line 2"):
            build.defaults(build.read_notebook("small"), "small")

    def test_the_command_says_so_and_fails(self, run_command, tmp_path):
        out = tmp_path / "site.ipynb"
        done = run_command("-m", "paper", "run", "site", out, "-p", "sight", "chi_tacc")
        assert done.returncode == 1
        assert done.stderr.startswith("error: notebooks/site.py has no parameter 'sight'")
        assert list(tmp_path.iterdir()) == []


class TestTemplates:
    def test_fill_text_and_metadata(self, small):
        notebook = build.read_notebook("small")
        values = build.parameters(notebook, "small", (("site", "kvm_tacc"),))
        build.fill(notebook, "small", context(values))
        assert notebook.cells[1].source == "# KVM@TACC over 7 days"
        figure = notebook.cells[-1].metadata["mystnb"]["figure"]
        assert figure == {"name": "fig-kvm_tacc", "caption": "Days of KVM@TACC."}

    def test_a_site_of_another_configuration_has_the_name_given_there(self, small):
        entry = "my_cloud: {name: My Edge, adapters: [edge_devices]}"
        (small / "mine.yaml").write_text(entry)
        notebook = build.read_notebook("small")
        given = (("site", "my_cloud"), ("config", str(small / "mine.yaml")))
        words = context(build.parameters(notebook, "small", given))
        assert (words["site_name"], words["devices"]) == ("My Edge", True)

    @pytest.mark.parametrize("sites", ["my_cloud", "my_cloud chi_uc", "chi_tacc"])
    def test_published_curves_stand_beside_sites_that_have_them(self, sites):
        notebook = build.read_notebook("real_appendix")
        words = context(build.parameters(notebook, "real_appendix", (("sites", sites),)))
        assert words["has_curves"] == (sites != "my_cloud")
        assert words["has_published"] == (sites != "my_cloud")
        assert not words["both_published"]
        build.fill(notebook, "real_appendix", words)
        code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
        assert ("real_record.records" in code) == words["has_curves"]
        compile(code, "real_appendix", "exec")

    def test_cells_of_another_case_are_left_out(self, small):
        notebook = build.read_notebook("small")
        words = context(build.defaults(notebook, "small"))
        with_legacy, without = (build.read_notebook("small") for _ in range(2))
        build.fill(with_legacy, "small", words | {"has_legacy": True})
        build.fill(without, "small", words | {"has_legacy": False})
        assert len(with_legacy.cells) == len(without.cells) + 1 == 4

    def test_an_unknown_word_is_an_error(self, small):
        (small / "small.py").write_text(SMALL.replace("over {{ days }}", "over {{ weeks }}"))
        with pytest.raises(UsageError, match="cell 1: 'weeks' is undefined"):
            build.run_notebook("small", small / "out.ipynb", ())


@pytest.fixture(scope="module")
def twice(tmp_path_factory) -> tuple[Path, Path]:
    """The small notebook, run twice."""
    folder = tmp_path_factory.mktemp("twice")
    (folder / "small.py").write_text(SMALL)
    runs = folder / "one.ipynb", folder / "two.ipynb"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "NOTEBOOKS", folder)
        for path in runs:
            build.run_notebook("small", path, (("days", "30"),))
    return runs


class TestRun:
    def test_two_runs_give_the_same_bytes_without_times_or_paths(self, twice):
        one, two = (path.read_text() for path in twice)
        assert one == two
        assert str(twice[0].parent) not in one
        assert " at 0x" not in one
        notebook = nbformat.reads(one, as_version=4)
        glued = [
            output["data"]["application/papermill.record/text/plain"]
            for cell in notebook.cells
            for output in cell.get("outputs", [])
            if "scrapbook" in output.get("metadata", {})
        ]
        assert glued == ["60"]
        assert not {"papermill", "execution"} & set(json.dumps(notebook.metadata))

    def test_hides_every_cell_of_parameters(self, twice):
        notebook = nbformat.read(twice[0], as_version=4)
        cells = [c for c in notebook.cells if "days = " in c.source and "glue" not in c.source]
        assert len(cells) == 2
        assert all("remove-cell" in cell.metadata["tags"] for cell in cells)

    def test_a_failing_cell_fails_the_run_and_writes_nothing(self, small):
        (small / "small.py").write_text(SMALL + "1 / 0\n")
        with pytest.raises(UsageError, match=r"small.py failed[\s\S]*ZeroDivisionError"):
            build.run_notebook("small", small / "out.ipynb", ())
        assert [p.name for p in small.iterdir()] == ["small.py"]

    @pytest.mark.parametrize(
        ("last", "told"),
        [
            ("print('read me', file=sys.stderr)", "read me"),
            ("os.write(2, b'thread panicked')", "thread panicked"),
            ("subprocess.run(['ls', '/nowhere'])", "/nowhere"),
        ],
    )
    def test_a_cell_that_writes_to_standard_error_fails_the_run(self, small, capfd, last, told):
        always = SMALL.replace(' when="has_legacy"', "")  # whether outputs are at hand or not
        (small / "small.py").write_text(f"{always}import os, subprocess, sys\n{last}\n")
        with pytest.raises(
            UsageError,
            match=rf"^notebooks/small.py failed\ncell 4 wrote to standard error\n[\s\S]*{told}",
        ):
            build.run_notebook("small", small / "out.ipynb", ())
        assert [p.name for p in small.iterdir()] == ["small.py"]
        assert capfd.readouterr().err == ""

    def test_what_a_cell_prints_displays_and_gives_stands_in_order(self, small):
        shows = "print(1)\nprint(2)\nglue('three', 3)\nprint(4)\n5"
        (small / "small.py").write_text(SMALL.replace("object()", shows))
        build.run_notebook("small", small / "out.ipynb", ())
        outputs = nbformat.read(small / "out.ipynb", as_version=4).cells[-1].outputs[1:]
        assert [(o.output_type, o.get("text") or o.data["text/plain"]) for o in outputs] == [
            *(("stream", "1\n2\n"), ("display_data", "3"), ("stream", "4\n")),
            ("execute_result", "5"),
        ]

    def test_leaves_the_process_as_it_was(self, small):
        before = sys.modules["__main__"], sys.displayhook, Path.cwd(), os.environ.copy()
        build.run_notebook("small", small / "out.ipynb", ())
        assert before == (sys.modules["__main__"], sys.displayhook, Path.cwd(), os.environ)
        assert not InteractiveShell.initialized()


@pytest.mark.parametrize("name", NOTEBOOKS)
class TestEveryNotebook:
    def test_has_parameters_that_do_not_show(self, name):
        notebook = build.read_notebook(name)
        assert build.defaults(notebook, name)
        assert "remove-cell" in notebook.cells[0].metadata["tags"]

    def test_folds_its_code_and_names_each_figure_once(self, name):
        notebook = build.read_notebook(name)
        code = [c for c in notebook.cells if c.cell_type == "code"]
        assert [
            c.source for c in code if not {"remove-cell", "hide-input"} & set(c.metadata.tags)
        ] == []
        figures = [c.metadata["mystnb"]["figure"] for c in code if "mystnb" in c.metadata]
        names = [figure["name"] for figure in figures]
        assert len(set(names)) == len(names)
        drawn = [c for c in code if ".save(" in c.source]
        assert len(drawn) == len(figures)
        assert all("Data: {{ output_dir }}/plots/" in f["caption"] for f in figures)

    def test_leaves_choices_of_words_to_the_templates(self, name):
        text = (PROJECT / "notebooks" / f"{name}.py").read_text(encoding="utf-8")
        assert "{%" not in text
        notebook = build.read_notebook(name)
        longest = max(c.source.count("\n") for c in notebook.cells if c.cell_type == "code")
        assert longest <= 32


class TestTableOfContents:
    COMPLETE = {  # noqa: RUF012
        "format": "jb-book",
        "root": "index",
        "parts": [
            {
                "caption": "Results",
                "chapters": [
                    {"file": "notebooks/cross_site"},
                    {"file": "notebooks/site"},
                    {"file": "before2022"},
                ],
            }
        ],
    }

    def files(self, *pages: str) -> list[str]:
        fitted = table_of_contents(self.COMPLETE, list(pages))
        return [chapter["file"] for part in fitted["parts"] for chapter in part["chapters"]]

    def test_leaves_out_what_was_not_run_and_never_prose(self):
        assert self.files("chi_uc") == ["notebooks/chi_uc", "before2022"]

    def test_puts_the_sites_in_their_place_and_order(self):
        assert self.files("my_site", "chi_uc", "cross_site") == [
            *("notebooks/cross_site", "notebooks/chi_uc", "notebooks/my_site", "before2022"),
        ]
