"""Twins that are steered by half of the years."""

from __future__ import annotations

import polars as pl
import pytest

from chameleon_twin import halves
from chameleon_twin.calibration import HALVES, Profile, filled, load

TINY = Profile("tiny", 1.0)


def test_the_other_years_lie_between_their_neighbours():
    levels = {2018: 10, 2019: 99, 2020: 30, 2021: 99}
    assert filled(levels, "even") == {2018: 10, 2019: 20, 2020: 30, 2021: 30}
    assert filled({2019: 5}, "even") == {2019: 5}


@pytest.mark.parametrize("site", halves.SITES)
@pytest.mark.parametrize("years", HALVES)
def test_nothing_that_a_real_curve_says_of_another_year_is_left(site: str, years: str):
    whole, half = load(site, TINY).facts, load(site, TINY, years=years).facts
    assert set(whole) == set(half)
    for quantity, levels in half["targets"].items():
        told = whole["targets"][quantity]
        unseen = {year: -1.0 for year in told if year % 2 != HALVES[years]}
        assert levels == filled(told | unseen, years)  # whatever the other years say
        assert levels.keys() == told.keys()
    for day in half.get("surviving_pool_rows", {}):
        assert day.year % 2 == HALVES[years]


def test_the_default_is_steered_by_all():
    assert load("chi_uc", TINY).facts is load("chi_uc", TINY, {}).facts


def test_a_tiny_one_gives_each_year_of_the_real_curves():
    means = halves.measure("chi_uc", "odd", 1, TINY)
    assert set(means["steered_by"]) == {"odd"}
    assert means.select("collector_type", "count_type", "year").is_unique().all()
    kept = pl.read_csv(halves.RECORD).filter(site="chi_uc", steered_by="odd")
    key = ["collector_type", "count_type", "year", "real"]
    assert means.select(key).rows() == kept.select(key).rows()
