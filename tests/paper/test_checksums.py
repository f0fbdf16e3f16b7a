"""Recorded checksums: what differs is named, and what is recorded holds."""

from __future__ import annotations

import pytest

from chameleon_usage.errors import UsageError
from paper import checksums


@pytest.fixture
def plots(tmp_path, monkeypatch):
    """A folder of figures, not recorded yet."""
    monkeypatch.setattr(checksums, "ROOT", tmp_path)
    monkeypatch.setattr(checksums, "PLOTS", tmp_path)
    monkeypatch.setattr(checksums, "RECORD", tmp_path / "record" / "sums.csv")
    monkeypatch.setattr(checksums, "README_FIGURE", tmp_path / "readme" / "figure.svg")
    monkeypatch.setattr(checksums, "DRAWN", tmp_path / "drawn.svg")
    (tmp_path / "a.csv").write_text("1")
    (tmp_path / "b.csv").write_text("2")
    (tmp_path / "drawn.svg").write_text("drawn")
    return tmp_path


def test_what_was_recorded_holds(plots):
    checksums.record()
    checksums.check()
    assert (plots / "readme" / "figure.svg").read_text() == "drawn"


def test_all_that_differs_is_named_with_the_way_out(plots):
    checksums.record()
    (plots / "a.csv").write_text("other")
    (plots / "b.csv").unlink()
    (plots / "c.csv").write_text("new")
    (plots / "drawn.svg").write_text("other")
    with pytest.raises(UsageError, match=r"a.csv, b.csv, c.csv, figure.svg.*make record"):
        checksums.check()


def test_without_figures_there_is_nothing_to_hold(plots):
    for path in plots.glob("*.csv"):
        path.unlink()
    with pytest.raises(UsageError, match="run 'make notebooks' first"):
        checksums.record()
