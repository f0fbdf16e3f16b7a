"""Sorting and ranking, held to what Python finds one by one."""

from __future__ import annotations

import bisect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chameleon_usage.intervals import sorting

quick = settings(max_examples=60)
NEAR = st.integers(-9, 9)
WIDE = st.sampled_from([-(2**62), -5, 0, 7, 2**30, 2**62])
"""Numbers so far apart that a place does not fit into one number beside them."""


def numbers(*values: int) -> sorting.Numbers:
    return np.array(values, np.int64)


@quick
@given(st.lists(NEAR) | st.lists(NEAR | WIDE) | st.lists(NEAR).map(sorted))
def test_ascending_tells_the_values_and_where_each_was_of_equal_ones_the_first_first(values):
    ordered, place = sorting.ascending(numbers(*values))
    assert ordered.tolist() == sorted(values)
    assert place.tolist() == sorted(range(len(values)), key=values.__getitem__)


@quick
@given(st.lists(NEAR), st.lists(st.integers(-12, 12)))
def test_search_finds_what_a_search_one_by_one_finds(borders, values):
    borders.sort()
    for side, one in (("left", bisect.bisect_left), ("right", bisect.bisect_right)):
        found = sorting.search(numbers(*borders), numbers(*values), side)
        assert found.tolist() == [one(borders, value) for value in values]


@pytest.mark.parametrize("block", [3, 2**16])
@quick
@given(
    ordered=st.lists(NEAR) | st.lists(NEAR | WIDE) | st.lists(NEAR, min_size=40),
    before=st.lists(NEAR | WIDE, max_size=5) | st.lists(NEAR),
    upto=st.lists(NEAR | WIDE, max_size=5) | st.lists(NEAR),
)
def test_ranks_count_what_is_below_and_what_is_not_above(block, ordered, before, upto):
    """Few values or many, near each other or far apart, in one block or many."""
    ordered.sort()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorting, "_BLOCK", block)
        below, not_above = sorting.ranks(numbers(*ordered), numbers(*before), numbers(*upto))
    assert below.tolist() == [bisect.bisect_left(ordered, value) for value in before]
    assert not_above.tolist() == [bisect.bisect_right(ordered, value) for value in upto]


@pytest.mark.parametrize("values", [(2**40, 0, 2**40 - 1), (2**61, 0, 2**61 - 1)])
def test_what_fits_into_one_number_with_its_place_and_what_does_not_are_sorted_alike(values):
    ordered, place = sorting.ascending(numbers(*values))
    assert ordered.tolist() == sorted(values)
    assert place.tolist() == [1, 2, 0]


def test_a_long_array_is_sorted_whole():
    values = np.random.default_rng(1).integers(-(2**40), 2**40, 3 * 2**16 + 5)
    ordered, place = sorting.ascending(values)
    assert (ordered == np.sort(values)).all()
    assert (values[place] == ordered).all()
    below, not_above = sorting.ranks(ordered, values, values - 1)
    assert (ordered[below] == values).all()
    assert (not_above == below).all()
