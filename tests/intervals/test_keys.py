"""Keys and times as integers: in order, alike in several frames, and back again."""

# ruff: noqa: DTZ001 - times inside the pipeline are naive UTC
from __future__ import annotations

import bisect
from datetime import datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chameleon_usage.intervals import keys

quick = settings(max_examples=40)
KINDS = {
    "text": (pl.String, st.sampled_from(["a", "b", "c"])),
    "enumeration": (pl.Enum(["a", "b", "c"]), st.sampled_from(["a", "b", "c"])),
    "integer": (pl.Int64, st.integers(-3, 3)),
    "far integers": (pl.Int64, st.sampled_from([-(2**62), 0, 2**62])),
    "flag": (pl.Boolean, st.booleans()),
}


def numbers(*values: int) -> keys.Numbers:
    return np.array(values, np.int64)


@st.composite
def rows(draw, kinds: list[str]) -> pl.DataFrame:
    columns = {
        name: pl.Series(
            name, draw(st.lists(st.none() | KINDS[name][1], min_size=6, max_size=6)), KINDS[name][0]
        )
        for name in kinds
    }
    return pl.DataFrame(columns)[: draw(st.integers(0, 6))]


@st.composite
def pairs(draw) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=3, unique=True))
    return draw(rows(kinds)), draw(rows(kinds)), kinds


def keys_of(frame: pl.DataFrame, on: list[str]) -> list[tuple[object, ...]]:
    return frame.select(on).rows()


def in_order(key: tuple[object, ...]) -> tuple[tuple[bool, object], ...]:
    """Nulls first."""
    return tuple((value is not None, value or 0) for value in key)


class TestNumber:
    @quick
    @given(pairs())
    def test_numbers_go_in_order_of_the_keys_and_nulls_come_first(self, pair):
        frame, _, on = pair
        told = dict(zip(keys_of(frame, on), keys.number(frame, on).tolist(), strict=True))
        assert sorted(told, key=in_order) == sorted(told, key=told.__getitem__)

    def test_more_keys_than_can_be_lifted_are_refused(self, monkeypatch):
        monkeypatch.setattr(keys, "_MOST", 3)
        assert keys.number(pl.DataFrame({"key": [5, 9, 7]}), ["key"]).tolist() == [0, 2, 1]
        with pytest.raises(OverflowError, match="4 keys are more than 3: split"):
            keys.number(pl.DataFrame({"key": [5, 9, 7, 8]}), ["key"])


class TestAlike:
    @quick
    @given(pairs(), st.sampled_from([2**24, 40, 9]))
    def test_a_child_has_its_parents_number_and_another_none_of_theirs(self, pair, most):
        children, parents, on = pair
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(keys, "_MOST", most)  # so few that numbers are drawn together
            of_children, of_parents = keys.number_alike(children, parents, on)
        told = dict(zip(keys_of(parents, on), of_parents.tolist(), strict=True))
        assert len(set(told.values())) == len(told)
        for key, found in zip(keys_of(children, on), of_children.tolist(), strict=True):
            assert found == told[key] if key in told else found not in told.values()

    @quick
    @given(pairs())
    def test_find_gives_the_row_of_the_parent(self, pair):
        children, parents, on = pair
        parents = parents.unique(maintain_order=True)
        listed = keys_of(parents, on)
        wanted = [listed.index(key) if key in listed else -1 for key in keys_of(children, on)]
        assert keys.find(children, parents, on).tolist() == wanted


def spans(*bounds: datetime) -> pl.DataFrame:
    return pl.DataFrame(
        {"start": [min(bounds)], "end": [max(bounds)]},
        schema={"start": pl.Datetime("us"), "end": pl.Datetime("us")},
    )


class TestClock:
    @pytest.mark.parametrize(
        "moment", [datetime(1, 1, 1), datetime(1969, 12, 31, 23, 59, 59), datetime(9999, 1, 1)]
    )
    @pytest.mark.parametrize("other", [datetime(1, 1, 1), datetime(9999, 1, 1)])
    def test_a_time_comes_back(self, moment, other):
        moments, number = pl.Series([moment], dtype=pl.Datetime("us")), numbers(2**24 - 1)
        clock = keys.Clock.over(spans(moment, other))
        packed = clock.pack(number, moments)
        assert clock.times(packed, number).to_list() == [moment]
        assert clock.keys(packed).tolist() == number.tolist()

    def test_keys_come_before_times(self):
        early, late = datetime(2019, 1, 1), datetime(2020, 1, 1)
        moments = pl.Series([late, early], dtype=pl.Datetime("us"))
        first, second = keys.Clock.over(spans(early, late)).pack(numbers(4, 5), moments).tolist()
        assert first < second

    def test_a_time_out_of_range_is_its_end(self):
        clock = keys.Clock.over(spans(datetime(2019, 1, 1), datetime(2020, 1, 1)))
        moments = pl.Series([datetime(1, 1, 1), datetime(9999, 1, 1)], dtype=pl.Datetime("us"))
        found = clock.times(clock.pack(numbers(4, 4), moments), numbers(4, 4))
        assert found.to_list() == [datetime(2019, 1, 1), datetime(2020, 1, 1)]

    def test_the_time_of_a_key_before_is_the_first_of_all(self):
        early, late = datetime(2019, 1, 1), datetime(2020, 1, 1)
        clock = keys.Clock.over(spans(early, late))
        packed = clock.pack(numbers(4), pl.Series([late], dtype=pl.Datetime("us")))
        assert clock.times(packed, numbers(5)).to_list() == [early]


class TestLastBorder:
    @quick
    @given(
        first=st.integers(-50, 50),
        step=st.integers(1, 9),
        count=st.integers(0, 8),
        last=st.integers(1, 20),
        moments=st.lists(st.integers(-80, 200)),
    )
    def test_equal_distances_are_found_as_a_search_finds_them(
        self, first, step, count, last, moments
    ):
        even = [first + step * n for n in range(count)]
        borders = [*even, (even or [first])[-1] + last]
        found = keys.last_border(numbers(*borders), numbers(*moments)).tolist()
        assert found == [bisect.bisect_right(borders, m) - 1 for m in moments]

    @quick
    @given(st.sets(st.integers(-50, 50), min_size=1), st.lists(st.integers(-80, 80)))
    def test_at_any_distances(self, borders, moments):
        ordered = sorted(borders)
        found = keys.last_border(numbers(*ordered), numbers(*moments)).tolist()
        assert found == [bisect.bisect_right(ordered, m) - 1 for m in moments]
