"""What was measured is measured again where its files or the code changed, and only there."""

from __future__ import annotations

import polars as pl
import pytest

from paper import kept as module
from paper.kept import kept


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Measures the length of a file; `times` counts how often."""
    (tmp_path / "requirements.txt").touch()
    (tmp_path / "paper").mkdir()
    monkeypatch.setattr(module, "ROOT", tmp_path)
    file = tmp_path / "table"
    file.write_text("one")
    times = []

    def measure():
        times.append(1)
        return pl.DataFrame({"length": [len(file.read_text())]})

    def measured():
        module._code.cache_clear()
        return kept("length", measure, file)["length"].item(), len(times)

    yield file, measured
    module._code.cache_clear()


def test_what_is_as_it_was_is_not_measured_again(measured):
    _, measure = measured
    assert [measure(), measure()] == [(3, 1), (3, 1)]


def test_another_file_is_measured(measured):
    file, measure = measured
    measure()
    file.write_text("three")
    assert measure() == (5, 2)


@pytest.mark.parametrize("name", ["paper/code.py", "requirements.txt"])
def test_other_code_measures_again(measured, name):
    file, measure = measured
    measure()
    (file.parent / name).write_text("x = 1")
    assert measure() == (3, 2)


def test_measures_of_different_files_do_not_meet(measured, tmp_path):
    _, measure = measured
    measure()
    other = tmp_path / "other"
    other.write_text("two")
    found = kept("length", lambda: pl.DataFrame({"length": [0]}), other)
    assert found["length"].item() == 0
    assert measure() == (3, 1)
