"""Interval arithmetic, held to a plain-Python reference that counts every second.

Times are small whole numbers of seconds after a common epoch; keys are letters.
"""

# ruff: noqa: DTZ001 - times inside the pipeline are naive UTC
from __future__ import annotations

import itertools
from collections import Counter
from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from chameleon_usage.intervals import arithmetic, cutting
from support.every_second import (
    EPOCH,
    LATE,
    at,
    disjoint,
    frame,
    held,
    plain,
    quick,
    seconds_of,
    some_intervals,
    with_shuffled,
)


class TestSeconds:
    def test_is_the_sum_of_lengths_and_counts_overlaps_twice(self):
        assert arithmetic.seconds(frame(("a", 0, 10), ("a", 5, 10))) == 15

    def test_of_nothing_is_none(self):
        assert arithmetic.seconds(frame()) == 0


class TestClip:
    def test_cuts_to_the_window_and_drops_what_lies_outside(self):
        rows = frame(("a", 0, 10), ("a", 12, 20), ("b", 3, 5), ("c", 0, 3), ("d", 15, 16))
        assert plain(arithmetic.clip(rows, at(3), at(15))) == [
            ("a", 3, 10),
            ("a", 12, 15),
            ("b", 3, 5),
        ]

    @quick
    @given(some_intervals(), st.integers(0, LATE), st.integers(0, LATE))
    def test_holds_exactly_the_seconds_of_the_window(self, rows, start, length):
        clipped = arithmetic.clip(rows, at(start), at(start + length))
        inside = {
            key: n for key, n in held(rows, "row").items() if start <= key[-1] < start + length
        }
        assert held(clipped, "row") == inside

    @quick
    @given(some_intervals())
    def test_is_idempotent(self, rows):
        once = arithmetic.clip(rows, at(5), at(20))
        assert_frame_equal(arithmetic.clip(once, at(5), at(20)), once)


class TestSeparate:
    def test_the_earlier_row_keeps_the_overlap(self):
        kept, superseded = arithmetic.split_overlaps(
            frame(("a", 0, 10), ("a", 4, 14)), ["key"], ["row"]
        )
        assert plain(kept) == [("a", 0, 10), ("a", 10, 14)]
        assert plain(superseded) == [("a", 4, 10)]

    def test_a_row_within_another_is_superseded_whole(self):
        kept, superseded = arithmetic.split_overlaps(
            frame(("a", 0, 10), ("a", 2, 4), ("a", 6, 12)), ["key"], ["row"]
        )
        assert plain(kept) == [("a", 0, 10), ("a", 10, 12)]
        assert plain(superseded) == [("a", 2, 4), ("a", 6, 10)]

    def test_other_keys_do_not_matter(self):
        kept, superseded = arithmetic.split_overlaps(
            frame(("a", 0, 10), ("b", 0, 10)), ["key"], ["row"]
        )
        assert plain(kept) == [("a", 0, 10), ("b", 0, 10)]
        assert superseded.is_empty()

    @quick
    @given(some_intervals())
    def test_loses_no_second_of_any_row(self, rows):
        kept, superseded = arithmetic.split_overlaps(rows, ["key"], ["row"])
        assert held(kept, "row") + held(superseded, "row") == held(rows, "row")
        assert arithmetic.seconds(kept) + arithmetic.seconds(superseded) == arithmetic.seconds(rows)

    @quick
    @given(some_intervals())
    def test_what_is_kept_is_disjoint_and_covers_the_same_seconds(self, rows):
        kept, _ = arithmetic.split_overlaps(rows, ["key"], ["row"])
        assert disjoint(kept, "key")
        assert set(held(kept, "key")) == set(held(rows, "key"))

    @quick
    @given(some_intervals())
    def test_is_idempotent(self, rows):
        kept, _ = arithmetic.split_overlaps(rows, ["key"], ["row"])
        again, superseded = arithmetic.split_overlaps(kept, ["key"], ["row"])
        assert superseded.is_empty()
        assert_frame_equal(again, kept, check_row_order=False)

    @quick
    @given(with_shuffled())
    def test_does_not_depend_on_the_order_of_rows(self, pair):
        for left, right in zip(
            *(arithmetic.split_overlaps(rows, ["key"], ["row"]) for rows in pair), strict=True
        ):
            assert_frame_equal(left, right, check_row_order=False)


class TestUnion:
    def test_merges_what_overlaps_or_touches(self):
        rows = frame(("a", 0, 5), ("a", 3, 8), ("a", 8, 9), ("a", 10, 12), ("b", 1, 2))
        assert plain(arithmetic.union(rows, ["key"])) == [("a", 0, 9), ("a", 10, 12), ("b", 1, 2)]

    def test_a_gap_shorter_than_the_tolerance_is_closed_and_one_as_long_is_not(self):
        rows = frame(("a", 0, 5), ("a", 9, 12), ("a", 17, 20))
        assert plain(arithmetic.union(rows, ["key"], tolerance="5s")) == [
            ("a", 0, 12),
            ("a", 17, 20),
        ]

    def test_a_short_row_within_a_long_one_does_not_end_it(self):
        rows = frame(("a", 0, 20), ("a", 2, 4), ("a", 10, 25))
        assert plain(arithmetic.union(rows, ["key"])) == [("a", 0, 25)]

    def test_neighbouring_keys_are_not_merged(self):
        rows = frame(("a", 0, 20), ("b", 10, 25))
        assert plain(arithmetic.union(rows, ["key"])) == [("a", 0, 20), ("b", 10, 25)]

    @quick
    @given(some_intervals())
    def test_covers_the_same_seconds_once(self, rows):
        merged = arithmetic.union(rows, ["key"])
        assert held(merged, "key") == Counter(dict.fromkeys(held(rows, "key"), 1))

    @quick
    @given(some_intervals(), st.integers(0, 10))
    def test_with_a_tolerance_fills_the_short_gaps_and_nothing_else(self, rows, tolerance):
        seconds = held(rows, "key")
        expected = set()
        for key in "ab":
            mine = sorted(second for name, second in seconds if name == key)
            expected |= {(key, second) for second in mine}
            for before, after in itertools.pairwise(mine):
                if after - before - 1 < tolerance:
                    expected |= {(key, second) for second in range(before, after)}
        merged = arithmetic.union(rows, ["key"], tolerance=f"{tolerance}s")
        assert set(held(merged, "key")) == expected
        assert disjoint(merged, "key")

    @quick
    @given(some_intervals())
    def test_is_idempotent(self, rows):
        once = arithmetic.union(rows, ["key"], tolerance="3s")
        assert_frame_equal(arithmetic.union(once, ["key"], tolerance="3s"), once)

    @quick
    @given(with_shuffled())
    def test_does_not_depend_on_the_order_of_rows(self, pair):
        left, right = (arithmetic.union(rows, ["key"], tolerance="2s") for rows in pair)
        assert_frame_equal(left, right)


class TestCut:
    def test_a_child_over_two_parents_is_cut_and_takes_their_columns(self):
        parents = frame(("a", 0, 5), ("a", 8, 20)).select("key", "start", "end", owner="row")
        inside, outside = arithmetic.intersect(frame(("a", 3, 10)), parents, ["key"])
        pieces = inside.sort("start").select("start", "end", "owner").rows()
        assert pieces == [(at(3), at(5), 0), (at(8), at(10), 1)]
        assert plain(outside) == [("a", 5, 8)]

    def test_a_child_at_another_time_or_of_another_key_has_no_parent(self):
        """A hostname that is used again is joined by time, too."""
        parents = frame(("a", 0, 5)).select("key", "start", "end")
        children = frame(("a", 5, 8), ("b", 0, 5))
        inside, outside = arithmetic.intersect(children, parents, ["key"])
        assert inside.is_empty()
        assert plain(outside) == [("a", 5, 8), ("b", 0, 5)]

    def test_a_null_key_has_no_parent(self):
        parents = frame((None, 0, 5)).select("key", "start", "end")
        inside, outside = arithmetic.intersect(frame((None, 1, 2)), parents, ["key"])
        assert inside.is_empty()
        assert outside.height == 1

    def test_without_parents_everything_is_outside(self):
        inside, outside = arithmetic.intersect(
            frame(("a", 1, 2)), frame().select("key", "start", "end"), ["key"]
        )
        assert inside.is_empty()
        assert plain(outside) == [("a", 1, 2)]

    def test_pieces_go_in_the_order_of_the_children_then_of_time(self):
        """However many children are cut at once, and whether or not their parents touch."""
        parents = frame(*(("a", start, start + 2) for start in (8, 2, 6)))
        parents = parents.select("key", "start", "end", owner="row")
        children = frame(*(("a", 9 - n % 7, 11 + n % 3) for n in range(40)), ("a", 0, 1))
        expected = []
        for row, start, end in children.select("row", "start", "end").iter_rows():
            for owner, low in ((1, at(2)), (2, at(6)), (0, at(8))):
                high = low + timedelta(seconds=2)
                if low < end and start < high:
                    expected.append((row, owner, max(low, start), min(high, end)))
        for size in (1, 7, 2**14):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(cutting, "_CHILDREN", size)
                inside, outside = arithmetic.intersect(children, parents, ["key"])
            assert inside.select("row", "owner", "start", "end").rows() == expected
            assert outside["row"].is_sorted()
            assert outside.select((pl.col("start") < pl.col("end")).all()).item()
            assert arithmetic.seconds(inside) + arithmetic.seconds(outside) == arithmetic.seconds(
                children
            )

    @quick
    @given(some_intervals(keys="abc"), some_intervals())
    def test_no_second_is_lost_or_multiplied(self, children, parents):
        parents = arithmetic.union(parents, ["key"])
        inside, outside = arithmetic.intersect(children, parents, ["key"])
        assert held(inside, "row") + held(outside, "row") == held(children, "row")
        assert arithmetic.seconds(inside) + arithmetic.seconds(outside) == arithmetic.seconds(
            children
        )

    @quick
    @given(some_intervals(keys="abc"), some_intervals())
    def test_inside_is_where_a_parent_is(self, children, parents):
        parents = arithmetic.union(parents, ["key"])
        there = held(parents, "key")
        inside, outside = arithmetic.intersect(children, parents, ["key"])
        assert all(second in there for second in held(inside, "key"))
        assert not any(second in there for second in held(outside, "key"))

    @quick
    @given(some_intervals(), some_intervals())
    def test_cutting_again_changes_nothing(self, children, parents):
        parents = arithmetic.union(parents, ["key"])
        inside, _ = arithmetic.intersect(children, parents, ["key"])
        again, outside = arithmetic.intersect(inside, parents, ["key"])
        assert outside.is_empty()
        assert_frame_equal(again, inside, check_row_order=False)

    @quick
    @given(with_shuffled(), some_intervals())
    def test_does_not_depend_on_the_order_of_rows(self, pair, parents):
        parents = arithmetic.union(parents, ["key"])
        backwards = parents.reverse()
        left = arithmetic.intersect(pair[0], parents, ["key"])
        right = arithmetic.intersect(pair[1], backwards, ["key"])
        for one, other in zip(left, right, strict=True):
            assert_frame_equal(one, other, check_row_order=False)


class TestStack:
    def test_adds_up_while_intervals_overlap(self):
        levels = arithmetic.sum_overlaps(frame(("a", 0, 10), ("a", 4, 6)), ["key"], ["units"]).sort(
            "start"
        )
        steps = levels.select("start", "end", "units").rows()
        assert steps == [(at(0), at(4), 1), (at(4), at(6), 3), (at(6), at(10), 1)]

    def test_where_nothing_is_held_there_is_no_row(self):
        levels = arithmetic.sum_overlaps(frame(("a", 0, 2), ("a", 5, 6)), ["key"], ["units"])
        assert plain(levels) == [("a", 0, 2), ("a", 5, 6)]

    def test_a_row_lasts_as_long_as_no_sum_changes(self):
        rows = frame(("a", 0, 4), ("a", 4, 6), ("b", 4, 6)).with_columns(units=pl.lit(1))
        assert plain(arithmetic.sum_overlaps(rows, ["key"], ["units"])) == [
            ("a", 0, 6),
            ("b", 4, 6),
        ]

    @quick
    @given(some_intervals())
    def test_agrees_with_a_count_of_every_second(self, rows):
        expected: Counter = Counter()
        for row in rows.iter_rows(named=True):
            for second in range(seconds_of(row["start"]), seconds_of(row["end"])):
                expected[row["key"], second] += row["units"]
        levels = arithmetic.sum_overlaps(rows, ["key"], ["units"])
        found = {
            (row["key"], second): row["units"]
            for row in levels.iter_rows(named=True)
            for second in range(seconds_of(row["start"]), seconds_of(row["end"]))
        }
        assert found == expected
        assert disjoint(levels, "key")

    @quick
    @given(with_shuffled())
    def test_does_not_depend_on_the_order_of_rows(self, pair):
        left, right = (arithmetic.sum_overlaps(rows, ["key"], ["units"]) for rows in pair)
        assert_frame_equal(left, right, check_row_order=False)


class TestBucketEdges:
    def test_days(self):
        edges = arithmetic.bucket_edges(datetime(2020, 1, 1), datetime(2020, 1, 4), "1d")
        assert edges.to_list() == [datetime(2020, 1, n) for n in (1, 2, 3, 4)]

    def test_months_follow_the_calendar(self):
        edges = arithmetic.bucket_edges(datetime(2020, 1, 1), datetime(2020, 4, 1), "1mo")
        assert edges.to_list() == [datetime(2020, n, 1) for n in (1, 2, 3, 4)]

    def test_the_last_bucket_is_cut_at_the_windows_end(self):
        edges = arithmetic.bucket_edges(datetime(2020, 1, 1), datetime(2020, 1, 3, 12), "1d")
        assert edges.to_list()[-2:] == [datetime(2020, 1, 3), datetime(2020, 1, 3, 12)]

    @quick
    @given(st.integers(1, 5000), st.sampled_from(["1h", "7h", "1d", "1w", "1mo"]))
    def test_cover_the_window_without_gap_or_overlap(self, hours, every):
        end = EPOCH + timedelta(hours=hours)
        edges = arithmetic.bucket_edges(EPOCH, end, every).to_list()
        assert edges[0] == EPOCH
        assert edges[-1] == end
        assert edges == sorted(set(edges))


class TestIntegrate:
    EDGES = (0, 10, 15, 40)

    def edges(self) -> pl.Series:
        return pl.Series("edge", [at(n) for n in self.EDGES], dtype=pl.Datetime("us"))

    def test_unit_seconds_of_every_group_and_bucket(self):
        sums = arithmetic.integrate(
            frame(("a", 5, 12), ("a", 8, 20), ("b", 10, 15)), self.edges(), ["key"], ["units"]
        )
        assert sums.rows() == [
            ("a", 0, 5 * 1 + 2 * 2),
            ("a", 1, 2 * 1 + 5 * 2),
            ("a", 2, 5 * 2),
            ("b", 0, 0),
            ("b", 1, 5 * 3),
            ("b", 2, 0),
        ]

    def test_an_interval_that_ends_with_the_window_is_not_cut_short(self):
        sums = arithmetic.integrate(frame(("a", 39, 40)), self.edges(), ["key"], ["units"])
        assert sums["units"].to_list() == [0, 0, 1]

    def test_of_the_groups_and_buckets_asked_for(self):
        groups = pl.DataFrame({"key": ["b", "c", "a"], "first": [1, 0, 0], "last": [2, 0, 1]})
        rows = frame(("a", 5, 12), ("a", 8, 15), ("b", 10, 40))
        sums = arithmetic.integrate(rows, self.edges(), ["key"], ["units"], groups=groups)
        assert sums.rows() == [
            ("b", 1, 5 * 3),
            ("b", 2, 25 * 3),
            ("c", 0, 0),
            ("a", 0, 5 * 1 + 2 * 2),
            ("a", 1, 2 * 1 + 5 * 2),
        ]

    def test_what_lasts_no_time_counts_nothing_not_even_in_another_group(self):
        groups = pl.DataFrame({"key": ["a", "b"], "first": [0, 1], "last": [0, 2]})
        rows = frame(("a", 0, 0), ("b", 10, 10), ("b", 15, 15), ("b", 40, 40), ("a", 0, 10))
        sums = arithmetic.integrate(rows, self.edges(), ["key"], ["units"], groups=groups)
        assert sums["units"].to_list() == [10 * 5, 0, 0]

    def test_of_nothing_is_nothing(self):
        assert arithmetic.integrate(frame(), self.edges(), ["key"], ["units"]).is_empty()

    def test_sums_are_integers(self):
        sums = arithmetic.integrate(frame(("a", 0, 40)), self.edges(), ["key"], ["units"])
        assert sums.schema["units"] == pl.Int64

    @quick
    @given(some_intervals())
    def test_agrees_with_a_count_of_every_second(self, rows):
        rows = arithmetic.clip(rows, at(0), at(40))
        expected: Counter = Counter()
        for row in rows.iter_rows(named=True):
            for second in range(seconds_of(row["start"]), seconds_of(row["end"])):
                bucket = next(n for n in range(3) if second < self.EDGES[n + 1])
                expected[row["key"], bucket] += row["units"]
        sums = arithmetic.integrate(rows, self.edges(), ["key"], ["units"])
        assert {(k, b): n for k, b, n in sums.rows() if n} == expected
        assert sums.height == 3 * rows["key"].n_unique()

    @quick
    @given(some_intervals())
    def test_conserves_the_whole_whatever_the_buckets(self, rows):
        rows = arithmetic.clip(rows, at(0), at(40))
        whole = sum(rows.select(arithmetic.SECONDS * pl.col("units")).to_series())
        fine = pl.Series("edge", [at(n) for n in range(41)], dtype=pl.Datetime("us"))
        for edges in (self.edges(), fine):
            assert arithmetic.integrate(rows, edges, ["key"], ["units"])["units"].sum() == whole

    @quick
    @given(with_shuffled())
    def test_does_not_depend_on_the_order_of_rows(self, pair):
        left, right = (
            arithmetic.integrate(
                arithmetic.clip(rows, at(0), at(40)), self.edges(), ["key"], ["units"]
            )
            for rows in pair
        )
        assert_frame_equal(left, right)
