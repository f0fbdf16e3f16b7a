"""Recorded checksums: what differs is named, and what is recorded holds."""

from __future__ import annotations

import nbformat
import polars as pl
import pytest

from chameleon_usage.errors import UsageError
from paper import checksums


def notebook(path, number, cell):
    """Write a notebook that was run: a number that it glued, and a table with one cell."""
    output = nbformat.v4.new_output
    glued = output(
        "display_data",
        {"application/papermill.record/text/plain": str(number)},
        metadata={"scrapbook": {"name": "a_number"}},
    )
    table = output("execute_result", {"text/html": f'<div id="table-x">{cell}</div>'})
    cells = [nbformat.v4.new_code_cell(outputs=[glued, table])]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A build of the default choice, not recorded yet."""
    monkeypatch.setattr(checksums, "ROOT", tmp_path)
    monkeypatch.setattr(checksums, "OUTPUT", tmp_path)
    monkeypatch.setattr(checksums, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(checksums, "RECORD", tmp_path / "record" / "sums.csv")
    monkeypatch.setattr(checksums, "README_FIGURE", tmp_path / "readme" / "figure.svg")
    monkeypatch.setattr(checksums, "DRAWN", tmp_path / "drawn.svg")
    for folder in ("plots", "chi_uc", "ablation/chi_uc"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "plots" / "a.csv").write_text("1")
    (tmp_path / "plots" / "b.csv").write_text("2")
    (tmp_path / "drawn.svg").write_text("drawn")
    pl.DataFrame({"value": [0.5]}).write_parquet(tmp_path / "chi_uc" / "comparison.parquet")
    pl.DataFrame({"value": [1]}).write_parquet(tmp_path / "ablation/chi_uc/ablation.parquet")
    notebook(tmp_path / "one.ipynb", 3.5, "4")
    return tmp_path


def test_what_was_recorded_holds(built):
    checksums.record()
    checksums.check()
    assert (built / "readme" / "figure.svg").read_text() == "drawn"


@pytest.mark.usefixtures("built")
def test_tables_figures_and_numbers_are_recorded():
    assert list(checksums.sums()) == [
        *("a.csv", "ablation/chi_uc/ablation.parquet", "b.csv", "chi_uc/comparison.parquet"),
        *("one.ipynb#numbers", "one.ipynb#table-x"),
    ]


def test_all_that_differs_is_named_with_the_way_out(built):
    checksums.record()
    (built / "plots" / "a.csv").write_text("other")
    (built / "plots" / "b.csv").unlink()
    (built / "plots" / "c.csv").write_text("new")
    (built / "drawn.svg").write_text("other")
    with pytest.raises(UsageError, match=r": a.csv, b.csv, c.csv, figure.svg\..*make record"):
        checksums.check()


@pytest.mark.parametrize(
    ("number", "cell", "wrong"), [(3.6, "4", "#numbers"), (3.5, "5", "#table-x")]
)
def test_a_number_or_a_table_of_a_notebook_that_differs_is_named(built, number, cell, wrong):
    checksums.record()
    notebook(built / "one.ipynb", number, cell)
    with pytest.raises(UsageError, match=rf": one.ipynb{wrong}\. "):
        checksums.check()


def test_an_output_table_is_held_to_its_values_and_not_to_its_bytes(built):
    checksums.record()
    path = built / "chi_uc" / "comparison.parquet"
    pl.DataFrame({"value": [0.5]}).write_parquet(path, compression="uncompressed")
    checksums.check()
    pl.DataFrame({"value": [0.25]}).write_parquet(path)
    with pytest.raises(UsageError, match=r": chi_uc/comparison.parquet\. "):
        checksums.check()


def test_tables_written_on_request_do_not_count(built):
    checksums.record()
    pl.DataFrame({"value": [1]}).write_parquet(built / "chi_uc" / "usage_by_host.parquet")
    checksums.check()


def test_without_a_build_there_is_nothing_to_hold(built):
    for kind in ("csv", "parquet", "ipynb"):
        for path in built.rglob(f"*.{kind}"):
            path.unlink()
    with pytest.raises(UsageError, match="run 'make notebooks' first"):
        checksums.record()
