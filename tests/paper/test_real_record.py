"""The real record: what the project carries is what the recipe makes of the published files."""

from __future__ import annotations

import importlib.util

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from support import PROJECT

RECIPE = PROJECT / "data" / "real" / "recipe.py"


@pytest.mark.real
def test_the_carried_aggregates_are_those_of_the_published_files(real_data):
    spec = importlib.util.spec_from_file_location("recipe", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    recipe.check_sources(real_data)
    made = recipe.aggregates(real_data)
    assert made
    for name, frame in made.items():
        carried = pl.read_csv(RECIPE.parent / name)
        assert_frame_equal(frame, carried, check_dtypes=False, abs_tol=1e-9)
